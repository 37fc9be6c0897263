-- A task that is asked for twice under one key is made once: the answer to the first request may have been lost.
ALTER TABLE task ADD COLUMN request_key text, ADD COLUMN request_digest text;
ALTER TABLE task ADD CHECK ((request_key IS NULL) = (request_digest IS NULL));
CREATE UNIQUE INDEX task_request_key ON task (workspace_id, created_by, request_key) WHERE request_key IS NOT NULL;

-- How far an agent's clock was ahead of ours when it said hello, in seconds: for people, nothing is decided by it.
ALTER TABLE agent ADD COLUMN clock_ahead_s double precision;
