-- Time limits and graces: of a workspace (NULL: the server's default), and of a task's present phase, set when it is handed out.

ALTER TABLE workspace
    ADD COLUMN plan_timeout_s  integer CHECK (plan_timeout_s > 0),
    ADD COLUMN apply_timeout_s integer CHECK (apply_timeout_s > 0),
    ADD COLUMN plan_grace_s    integer CHECK (plan_grace_s > 0),
    ADD COLUMN apply_grace_s   integer CHECK (apply_grace_s > 0);

-- How far the stop of what runs is: its steps as [{"stage", "at"}], and when the next ones are due.
ALTER TABLE task
    ADD COLUMN timeout_s          double precision,
    ADD COLUMN grace_s            double precision,
    ADD COLUMN cancel_steps       jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN cancel_next_at     timestamptz,
    ADD COLUMN cancel_kill_at     timestamptz,
    ADD COLUMN cancel_deadline_at timestamptz,
    ADD COLUMN cancel_overdue_at  timestamptz;
