-- Checkpoints of running applies, and what humans decided about states that were kept apart.

ALTER TABLE state_version
    ADD COLUMN settled_at   timestamptz, -- a checkpoint whose fate a human decided when the task was resolved
    ADD COLUMN promoted_at  timestamptz, -- a state apart that was made the current one, as another version
    ADD COLUMN promotion_of text;        -- the version that this one was made from
CREATE INDEX state_version_apart ON state_version (workspace_id) WHERE verdict = 'quarantined' AND promoted_at IS NULL;
