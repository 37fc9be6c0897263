-- What a task went through, and when: each change of its phase, status or stage, noted with the change itself.
-- A trigger, because it holds for every statement that moves a task, whoever writes it.
CREATE TABLE task_step (
    task_id bigint NOT NULL REFERENCES task ON DELETE CASCADE,
    number  bigint GENERATED ALWAYS AS IDENTITY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    phase   text NOT NULL,
    status  text NOT NULL,
    stage   text,
    attempt integer NOT NULL,
    PRIMARY KEY (task_id, number)
);

CREATE FUNCTION note_task_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_step (task_id, phase, status, stage, attempt)
    VALUES (NEW.id, NEW.phase, NEW.status, NEW.stage, NEW.attempt);
    RETURN NULL;
END $$;

CREATE TRIGGER task_was_made AFTER INSERT ON task FOR EACH ROW EXECUTE FUNCTION note_task_step();
CREATE TRIGGER task_moved AFTER UPDATE OF phase, status, stage ON task FOR EACH ROW
    WHEN ((OLD.phase, OLD.status, OLD.stage) IS DISTINCT FROM (NEW.phase, NEW.status, NEW.stage))
    EXECUTE FUNCTION note_task_step();
