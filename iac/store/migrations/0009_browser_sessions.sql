-- People who signed in with an API token, in a browser. Cookies are never stored, only their hashes.

CREATE TABLE browser_session (
    id           text PRIMARY KEY,
    token_id     text NOT NULL REFERENCES api_token ON DELETE CASCADE,
    hash         bytea NOT NULL UNIQUE,
    earlier_hash bytea UNIQUE, -- the cookie before the last one; good for a moment, for requests that were under way
    csrf         text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    seen_at      timestamptz NOT NULL DEFAULT now(),
    rotated_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX browser_session_token ON browser_session (token_id);

-- What ended lately, for the overview.
CREATE INDEX task_finished ON task (finished_at) WHERE finished_at IS NOT NULL;
