-- The first schema. All instants are timestamptz; sealed columns hold AES-256-GCM envelopes (iac/store/sealing.py).

CREATE SEQUENCE fence;

CREATE TABLE sealing_key (
    key_id        text PRIMARY KEY,
    first_used_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_token (
    id           text PRIMARY KEY,
    name         text NOT NULL,
    role         text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    hash         bytea NOT NULL UNIQUE,
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);

CREATE TABLE audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text NOT NULL,
    verb    text NOT NULL,
    subject text NOT NULL,
    facts   jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_subject ON audit (subject, id DESC);

CREATE TABLE workspace (
    id                text PRIMARY KEY,
    name              text NOT NULL UNIQUE,
    description       text NOT NULL DEFAULT '',
    execution_mode    text NOT NULL DEFAULT 'local' CHECK (execution_mode IN ('local', 'agent')),
    engine            text NOT NULL DEFAULT 'terraform' CHECK (engine IN ('terraform', 'tofu')),
    terraform_version text NOT NULL DEFAULT 'latest',
    working_directory text NOT NULL DEFAULT '',
    auto_apply        boolean NOT NULL DEFAULT false,
    provider_config   jsonb,
    tags              jsonb NOT NULL DEFAULT '{}',
    lock_kind         text CHECK (lock_kind IN ('user', 'task')),
    lock_owner        text,
    lock_token        text,
    lock_reason       text,
    locked_at         timestamptz,
    state_fence       bigint NOT NULL DEFAULT 0,
    current_serial    bigint,
    lineage           text,
    state_uncertain   boolean NOT NULL DEFAULT false,
    configuration_id  text,
    lock_hcl          bytea,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CHECK ((lock_kind IS NULL) = (lock_token IS NULL))
);

CREATE TABLE configuration (
    id           text PRIMARY KEY,
    workspace_id text NOT NULL REFERENCES workspace ON DELETE CASCADE,
    kind         text NOT NULL CHECK (kind IN ('archive', 'files', 'tf_code')),
    digest       text NOT NULL,
    size         bigint NOT NULL,
    files        text[] NOT NULL,
    archive      bytea,
    source       text, -- JSON text: jsonb would change numbers and the order of keys
    message      text NOT NULL DEFAULT '',
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE configuration ALTER COLUMN archive SET STORAGE EXTERNAL;
CREATE INDEX configuration_workspace ON configuration (workspace_id, created_at DESC);
CREATE INDEX configuration_digest ON configuration (workspace_id, digest);

CREATE TABLE variable (
    id           text PRIMARY KEY,
    workspace_id text NOT NULL REFERENCES workspace ON DELETE CASCADE,
    key          text NOT NULL,
    category     text NOT NULL CHECK (category IN ('terraform', 'environment')),
    hcl          boolean NOT NULL,
    sensitive    boolean NOT NULL,
    value        bytea NOT NULL,
    description  text NOT NULL DEFAULT '',
    version      integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (workspace_id, category, key)
);

CREATE TABLE resource (
    id           text PRIMARY KEY,
    workspace_id text NOT NULL REFERENCES workspace ON DELETE CASCADE,
    mode         text NOT NULL CHECK (mode IN ('managed', 'data')),
    type         text NOT NULL,
    name         text NOT NULL,
    body         text NOT NULL, -- JSON text: jsonb would change numbers
    version      integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (workspace_id, mode, type, name)
);

CREATE TABLE task (
    id                   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id         text NOT NULL REFERENCES workspace ON DELETE CASCADE,
    action               text NOT NULL,
    phase                text NOT NULL CHECK (phase IN ('plan', 'apply')),
    status               text NOT NULL,
    outcome              text,
    execution_mode       text NOT NULL,
    priority             integer NOT NULL DEFAULT 0,
    auto_apply           boolean NOT NULL,
    targets              text[] NOT NULL DEFAULT '{}',
    replace              text[] NOT NULL DEFAULT '{}',
    message              text NOT NULL DEFAULT '',
    created_by           text NOT NULL,
    bundle_digest        text NOT NULL,
    bundle               bytea NOT NULL,
    terraform_version    text NOT NULL,
    plan_task_id         bigint REFERENCES task ON DELETE CASCADE,
    retry_of             bigint,
    fence                bigint NOT NULL DEFAULT 0,
    attempt              integer NOT NULL DEFAULT 0,
    assignment_id        text,
    agent_id             text,
    stage                text,
    cancel_id            text,
    cancel_reason        text,
    cancel_force         boolean NOT NULL DEFAULT false,
    cancel_by            text,
    cancel_requested_at  timestamptz,
    confirmed_by         text,
    confirmed_at         timestamptz,
    confirm_comment      text,
    confirmed_digest     text,
    plan_digest          text,
    has_changes          boolean,
    exit_code            integer,
    signal               integer,
    reason               text,
    detail               text,
    result_id            text,
    state_safe           boolean NOT NULL DEFAULT true,
    created_at           timestamptz NOT NULL DEFAULT now(),
    queued_at            timestamptz,
    assigned_at          timestamptz,
    claimed_at           timestamptz,
    started_at           timestamptz,
    planned_at           timestamptz,
    finished_at          timestamptz
);
ALTER TABLE task ALTER COLUMN bundle SET STORAGE EXTERNAL;
CREATE INDEX task_workspace ON task (workspace_id, id DESC);
CREATE INDEX task_open ON task (id) WHERE status NOT IN ('cancelled', 'succeeded', 'failed');
CREATE INDEX task_status ON task (status, id DESC);

CREATE TABLE plan (
    task_id           bigint PRIMARY KEY REFERENCES task ON DELETE CASCADE,
    digest            text NOT NULL,
    bundle_digest     text NOT NULL,
    serial            bigint,
    lineage           text,
    terraform_version text NOT NULL,
    has_changes       boolean NOT NULL,
    summary           jsonb NOT NULL,
    file              bytea NOT NULL,
    json              bytea NOT NULL,
    lock_hcl          bytea,
    created_at        timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE plan ALTER COLUMN file SET STORAGE EXTERNAL;
ALTER TABLE plan ALTER COLUMN json SET STORAGE EXTERNAL;

CREATE TABLE resource_progress (
    task_id   bigint NOT NULL REFERENCES task ON DELETE CASCADE,
    address   text NOT NULL,
    action    text NOT NULL,
    status    text NOT NULL,
    elapsed_s double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (task_id, address)
);

CREATE TABLE state_version (
    id                text PRIMARY KEY,
    workspace_id      text NOT NULL REFERENCES workspace ON DELETE CASCADE,
    serial            bigint NOT NULL,
    lineage           text NOT NULL,
    sha256            text NOT NULL,
    size              bigint NOT NULL,
    verdict           text NOT NULL CHECK (verdict IN ('current', 'superseded', 'quarantined', 'checkpoint')),
    reason            text,
    task_id           bigint REFERENCES task ON DELETE SET NULL,
    fence             bigint,
    partial           boolean NOT NULL DEFAULT false,
    rollback_of       bigint,
    terraform_version text NOT NULL,
    resource_count    integer NOT NULL,
    data              bytea NOT NULL,
    created_by        text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE state_version ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX state_version_current ON state_version (workspace_id) WHERE verdict = 'current';
CREATE UNIQUE INDEX state_version_push ON state_version (task_id, sha256) WHERE task_id IS NOT NULL;
CREATE INDEX state_version_workspace ON state_version (workspace_id, created_at DESC);

CREATE TABLE log_stream (
    task_id         bigint NOT NULL REFERENCES task ON DELETE CASCADE,
    fence           bigint NOT NULL,
    phase           text NOT NULL,
    length          bigint NOT NULL DEFAULT 0,
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'incomplete')),
    sha256          text,
    truncated_bytes bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, fence)
);

CREATE TABLE log_chunk (
    task_id  bigint NOT NULL,
    fence    bigint NOT NULL,
    start    bigint NOT NULL,
    length   integer NOT NULL,
    data     bytea NOT NULL, -- gzip of the masked bytes
    PRIMARY KEY (task_id, fence, start),
    FOREIGN KEY (task_id, fence) REFERENCES log_stream ON DELETE CASCADE
);
ALTER TABLE log_chunk ALTER COLUMN data SET STORAGE EXTERNAL;
