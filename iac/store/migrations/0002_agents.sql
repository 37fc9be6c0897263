-- Agents: pools, their tokens, who may serve which workspace, and one row for every assignment.

CREATE TABLE agent_pool (
    id                text PRIMARY KEY,
    name              text NOT NULL UNIQUE,
    description       text NOT NULL DEFAULT '',
    kind              text NOT NULL CHECK (kind IN ('static', 'k8s')),
    require_approval  boolean NOT NULL DEFAULT false,
    name_policy       text NOT NULL CHECK (name_policy IN ('unique', 'suffix')),
    apply_exclusivity text NOT NULL DEFAULT 'agent' CHECK (apply_exclusivity IN ('agent', 'slot')),
    created_by        text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE pool_token (
    id           text PRIMARY KEY,
    pool_id      text NOT NULL REFERENCES agent_pool ON DELETE CASCADE,
    name         text NOT NULL,
    hash         bytea NOT NULL UNIQUE,
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    revoke_mode  text CHECK (revoke_mode IN ('soft', 'hard')),
    replaced_by  text REFERENCES pool_token ON DELETE SET NULL,
    last_used_at timestamptz,
    last_ip      text
);
CREATE INDEX pool_token_pool ON pool_token (pool_id);

CREATE TABLE pool_workspace (
    pool_id      text NOT NULL REFERENCES agent_pool ON DELETE CASCADE,
    workspace_id text NOT NULL REFERENCES workspace ON DELETE CASCADE,
    allowed_by   text NOT NULL,
    allowed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pool_id, workspace_id)
);

CREATE INDEX pool_workspace_workspace ON pool_workspace (workspace_id);

ALTER TABLE workspace ADD COLUMN pool_id text REFERENCES agent_pool;
ALTER TABLE task ADD COLUMN pool_id text REFERENCES agent_pool ON DELETE SET NULL;
CREATE INDEX workspace_pool ON workspace (pool_id) WHERE pool_id IS NOT NULL;

CREATE TABLE agent (
    id            text PRIMARY KEY,
    pool_id       text NOT NULL REFERENCES agent_pool ON DELETE CASCADE,
    pool_token_id text REFERENCES pool_token ON DELETE SET NULL,
    name          text NOT NULL,
    instance_id   text NOT NULL,
    secret_hash   bytea NOT NULL,
    approved      boolean NOT NULL,
    boot_id       text NOT NULL,
    conn_epoch    bigint NOT NULL DEFAULT 0,
    version       text NOT NULL DEFAULT '',
    os            text NOT NULL DEFAULT '',
    arch          text NOT NULL DEFAULT '',
    capabilities  text[] NOT NULL DEFAULT '{}',
    plan_limit    integer NOT NULL,
    draining      boolean NOT NULL DEFAULT false,
    cpu_usage     double precision,
    mem_usage     double precision,
    disk_free     bigint,
    ip            text,
    registered_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz,
    retired_at    timestamptz
);
CREATE UNIQUE INDEX agent_instance ON agent (pool_id, instance_id) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX agent_name ON agent (pool_id, name) WHERE retired_at IS NULL;

CREATE TABLE agent_session (
    hash       bytea PRIMARY KEY,
    agent_id   text NOT NULL REFERENCES agent ON DELETE CASCADE,
    boot_id    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX agent_session_agent ON agent_session (agent_id);

CREATE TABLE assignment (
    id            text PRIMARY KEY,
    task_id       bigint NOT NULL REFERENCES task ON DELETE CASCADE,
    fence         bigint NOT NULL UNIQUE,
    agent_id      text NOT NULL,
    phase         text NOT NULL,
    attempt       integer NOT NULL,
    scope         text NOT NULL CHECK (scope IN ('full', 'report', 'quarantine', 'dead')),
    boot_id       text,
    reads         integer NOT NULL DEFAULT 0,
    first_read_at timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    accepted_at   timestamptz,
    ended_at      timestamptz
);
CREATE INDEX assignment_task ON assignment (task_id, fence);
CREATE INDEX assignment_agent ON assignment (agent_id, fence);

-- Every token that was given out for an assignment: an order that is sent again after a restart carries a new one.
CREATE TABLE task_token (
    hash      bytea PRIMARY KEY,
    fence     bigint NOT NULL REFERENCES assignment (fence) ON DELETE CASCADE,
    issued_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX task_token_fence ON task_token (fence);

-- The result that was taken from this assignment: the same one again is answered as it was the first time.
ALTER TABLE assignment ADD COLUMN result_id text;
