-- Log bytes go to the server's disk first and come here in batches: a stream is durable up to `length`, and here up to `persisted`.

ALTER TABLE log_stream
    ADD COLUMN persisted  bigint NOT NULL DEFAULT 0,
    ADD COLUMN verified   boolean,      -- after its end: whether what is here was read back and is what the file has
    ADD COLUMN closed_at  timestamptz,
    ADD COLUMN expired_at timestamptz;  -- its bytes are deleted, the row tells that they were there

UPDATE log_stream SET persisted = length;
-- Whatever was closed before there was a cache has its only copy here.
UPDATE log_stream SET verified = true, closed_at = now() WHERE state <> 'open';

ALTER TABLE log_stream DROP CONSTRAINT log_stream_state_check;
ALTER TABLE log_stream ADD CHECK (state IN ('open', 'complete', 'incomplete', 'diverged'));
ALTER TABLE log_stream ADD CHECK (persisted BETWEEN 0 AND length);

-- Neither names a column that an append changes: that update stays a cheap one.
CREATE INDEX log_stream_unverified ON log_stream (task_id, fence) WHERE verified IS NULL AND expired_at IS NULL;
CREATE INDEX log_stream_kept ON log_stream (created_at) WHERE expired_at IS NULL;
