-- The audit is a chain: rows are sealed after they were committed, in the order in which they were found. No row changes after
-- that, and none is ever deleted.

ALTER TABLE audit ADD COLUMN position bigint UNIQUE, ADD COLUMN hash bytea;
ALTER TABLE audit ADD CHECK ((position IS NULL) = (hash IS NULL));
CREATE INDEX audit_unsealed ON audit (id) WHERE position IS NULL;

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.position IS NULL AND NEW.position IS NOT NULL
       AND (NEW.id, NEW.at, NEW.actor, NEW.verb, NEW.subject, NEW.facts)
           IS NOT DISTINCT FROM (OLD.id, OLD.at, OLD.actor, OLD.verb, OLD.subject, OLD.facts) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit is append-only';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_is_kept BEFORE TRUNCATE ON audit EXECUTE FUNCTION audit_is_append_only();

-- Who may join a pool: from where, and how many.
ALTER TABLE agent_pool
    ADD COLUMN networks   text[] NOT NULL DEFAULT '{}',
    ADD COLUMN max_agents integer CHECK (max_agents > 0);
