"""What must be true after every fault (protocol, section 4): invariants, watched while a test runs, checked at its end.

I1 an apply is started at most once          I5 what is served of a log is what its sha256 says, or it is marked
I2 copies of one plan never overlap          I6 no process of a task is left
I3 a final status never changes              I7 no secret in any log, row or file that stays
I4 states never go back, none is dropped     I8 a workspace is locked exactly while its outcome is not known
I10 a task that is not over has an owner     I9 an agent that ended has nothing left in its journal

I3 and I4 are watched by triggers in the database, so that nothing that happens between two looks is missed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

from iac.store.database import Connection, Database
from tests.harness.killable import processes_of
from tests.harness.pauses import pauses

TOKEN = re.compile(rb"iac[a-z]_[A-Za-z0-9]{20,}")
"""What a token looks like (iac.domain.agent_tokens)."""
WATCH = (
    "CREATE TABLE oracle_moved (task_id bigint, from_status text, to_status text, fence bigint, at timestamptz)",
    "CREATE TABLE oracle_broken (what text)",
    """CREATE FUNCTION oracle_task() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF OLD.status IS DISTINCT FROM NEW.status THEN
           INSERT INTO oracle_moved VALUES (NEW.id, OLD.status, NEW.status, NEW.fence, clock_timestamp());
           IF OLD.status IN ('cancelled', 'succeeded', 'failed') THEN
             INSERT INTO oracle_broken VALUES ('I3 task ' || NEW.id || ': ' || OLD.status || ' became ' || NEW.status);
           END IF;
         END IF;
         RETURN NULL; END $$""",
    "CREATE TRIGGER oracle AFTER UPDATE ON task FOR EACH ROW EXECUTE FUNCTION oracle_task()",
    """CREATE FUNCTION oracle_workspace() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF NEW.current_serial < OLD.current_serial OR NEW.current_serial IS NULL AND OLD.current_serial IS NOT NULL THEN
           INSERT INTO oracle_broken
           VALUES ('I4 serial of ' || NEW.name || ' went from ' || OLD.current_serial || ' to ' || NEW.current_serial);
         END IF;
         RETURN NULL; END $$""",
    "CREATE TRIGGER oracle AFTER UPDATE ON workspace FOR EACH ROW EXECUTE FUNCTION oracle_workspace()",
    # A checkpoint may go when a newer state of the same assignment is there: at the commit, because it comes second.
    """CREATE FUNCTION oracle_state() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF NOT OLD.partial OR OLD.settled_at IS NOT NULL OR NOT EXISTS (
           SELECT 1 FROM state_version v WHERE v.task_id = OLD.task_id AND v.fence = OLD.fence AND v.serial >= OLD.serial)
         THEN INSERT INTO oracle_broken VALUES ('I4 state version ' || OLD.id || ' was deleted'); END IF;
         RETURN NULL; END $$""",
    """CREATE CONSTRAINT TRIGGER oracle AFTER DELETE ON state_version DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW EXECUTE FUNCTION oracle_state()""",
)
_TEXTS = (
    "SELECT row_to_json(t)::text AS text FROM (SELECT id, reason, detail, message, stage FROM task) t",
    "SELECT actor || verb || subject || facts::text AS text FROM audit",
)


@dataclass
class Oracle:
    """`ledgers` are those of the fake Terraforms, `work` the data directories of those who run it, `logs` the programs' own
    logs. A test adds its own before the end.
    """

    database: Database
    client: httpx.AsyncClient
    secrets: Sequence[str]
    ledgers: list[Path] = field(default_factory=list)
    work: list[Path] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    incomplete: set[int] = field(default_factory=set)
    """Tasks whose log may lack something, and says so."""
    unheard: set[Path] = field(default_factory=set)
    """Data directories of agents whom nobody listens to any more, or who hold what nobody takes: they keep it."""
    read_so_far: dict[Path, tuple[int, list[dict[str, Any]]]] = field(default_factory=dict)
    patience: float = 30.0
    """Seconds in which the processes of ended tasks have to be gone."""

    async def watch(self) -> None:
        """From now on every move is noted."""
        await watch(self.database)

    async def moves(self, task_id: int) -> list[tuple[str, str]]:
        """All changes of the task's status, in their order."""
        rows = await self.database.read(
            _all, "SELECT from_status, to_status FROM oracle_moved WHERE task_id = :id ORDER BY at", id=task_id
        )
        return [(row["from_status"], row["to_status"]) for row in rows]

    async def select(self, query: str) -> list[dict[str, Any]]:
        """What a query finds."""
        return await self.database.read(_all, query)

    async def count(self, query: str) -> int:
        """What a query `SELECT count(*) …` finds."""
        [row] = await self.database.read(_all, query)
        return int(row["count"])

    async def until_count(self, query: str, wanted: int = 1) -> None:
        """Until the query finds so many."""
        waits = pauses()
        with trio.fail_after(self.patience):
            while await self.count(query) < wanted:  # noqa: ASYNC110 - the database tells nobody
                await trio.sleep(next(waits))

    async def check(self) -> None:
        """Fails the test with everything that is not as it must be."""
        broken = await self.broken()
        assert not broken, "\n".join(broken)

    async def broken(self) -> list[str]:
        """What is not as it must be; processes have some time to end."""
        broken = await self._who_is_left()
        broken += [row["what"] for row in await self.database.read(_all, "SELECT what FROM oracle_broken")]
        broken += self._starts()
        broken += await self._states()
        broken += await self._logs()
        broken += await self._secrets()
        broken += await self._locks()
        broken += await self._unowned()
        return broken + [
            f"I9 {entry} is left" for place in self.work if place not in self.unheard for entry in journal_of(place)
        ]

    def events(self, command: str, event: str = "start") -> list[dict[str, Any]]:
        """What the ledgers say of one command."""
        entries = (entry for ledger in self.ledgers for entry in self._entries(ledger))
        return [entry for entry in entries if (entry["command"], entry["event"]) == (command, event)]

    def _entries(self, ledger: Path) -> list[dict[str, Any]]:
        """What a ledger says so far. It is asked for again and again: only what is new is read."""
        at, known = self.read_so_far.setdefault(ledger, (0, []))
        if ledger.exists() and ledger.stat().st_size > at:
            with ledger.open("rb") as file:
                file.seek(at)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]  # a line that is just being written is not one yet
            known = [*known, *(json.loads(line) for line in whole.splitlines())]
            self.read_so_far[ledger] = (at + len(whole), known)
        return known

    async def _who_is_left(self) -> list[str]:
        waits = pauses()
        with trio.move_on_after(self.patience):
            while any(processes_of(place) for place in self.work):  # noqa: ASYNC110 - nobody tells of their end
                await trio.sleep(next(waits))
        return [f"I6 processes of tasks in {place} are left" for place in self.work if processes_of(place)]

    def _starts(self) -> Iterator[str]:
        tasks = [entry["run"].partition("-")[0] for entry in self.events("apply")]
        for task in sorted(set(tasks)):
            if tasks.count(task) > 1:
                yield f"I1 the apply of task {task} was started {tasks.count(task)} times"
        for entry in self.events("plan", "overlap"):
            yield f"I2 the plan {entry['run']} began while {entry['with_run']} still ran"

    async def _states(self) -> list[str]:
        rows = await self.database.read(_all, "SELECT task_id, sha256 FROM state_version")
        stored = {(row["task_id"], row["sha256"]) for row in rows}
        ends = (entry for entry in self.events("apply", "stop") if entry["state"] is not None)
        written = {(int(entry["run"].partition("-")[0]), entry["state"]) for entry in ends}
        return [f"I4 the state {sha} of task {task} is not stored" for task, sha in written - stored]

    async def _logs(self) -> list[str]:
        broken = []
        rows = await self.database.read(
            _all,
            """SELECT s.task_id, s.fence, s.length, s.state, s.sha256, t.status, t.fence = s.fence AS last
               FROM log_stream s JOIN task t ON t.id = s.task_id ORDER BY s.task_id, s.fence""",
        )
        for task in sorted({row["task_id"] for row in rows}):
            served, at = await self.log(task), 0
            for row in (row for row in rows if row["task_id"] == task):
                part = served[at : at + row["length"]]
                at += row["length"]
                if row["state"] == "complete" and hashlib.sha256(part).hexdigest() != row["sha256"]:
                    broken.append(f"I5 the log {task}-{row['fence']} is not what its sha256 says")
                ended = row["status"] in ("succeeded", "failed", "cancelled", "planned") and row["last"]
                never_begun = row["status"] == "cancelled" and row["length"] == 0
                if ended and not never_begun and row["state"] != "complete" and task not in self.incomplete:
                    broken.append(f"I5 the log {task}-{row['fence']} of a {row['status']} task is {row['state']}")
            if at != len(served):
                broken.append(f"I5 {len(served)} bytes of the log of task {task} are served, {at} are stored")
        return broken

    async def log(self, task_id: int) -> bytes:
        """The task's log as it is downloaded."""
        data = bytearray()
        while True:
            response = await self.client.get(f"/api/v1/tasks/{task_id}/logs", params={"offset": len(data)})
            assert response.status_code == 200, response.text
            if not response.content:
                return bytes(data)
            data += response.content

    async def _secrets(self) -> list[str]:
        places = {str(path): path.read_bytes() for path in self.logs if path.exists()}
        for place in self.work:
            found = (path for path in place.rglob("*") if path.is_file() and path.stat().st_size < 64 << 20)
            # A work directory that is kept is as secret as what Terraform needs there.
            places |= {str(path): path.read_bytes() for path in found if place / "tasks" not in path.parents}
        for query in _TEXTS:
            rows = await self.database.read(_all, query)
            places[query] = "\n".join(row["text"] for row in rows).encode()
        for row in await self.database.read(_all, "SELECT id FROM task"):
            places[f"the log of task {row['id']}"] = await self.log(row["id"])
        broken = [
            f"I7 a secret is in {name}" for name, text in places.items() for s in self.secrets if s.encode() in text
        ]
        return broken + [f"I7 a token is in {path}" for path in self.logs if TOKEN.search(places.get(str(path), b""))]

    async def _locks(self) -> list[str]:
        rows = await self.database.read(
            _all,
            """SELECT t.id, t.status, t.phase, w.name, w.lock_kind = 'task' AND w.lock_owner = CAST(t.id AS text) AS locks
               FROM task t JOIN workspace w ON w.id = t.workspace_id""",
        )
        broken = []
        for row in rows:
            known = row["status"] in ("cancelled", "succeeded", "failed")
            if known and row["locks"]:
                broken.append(f"I8 {row['name']} is locked by task {row['id']}, which is {row['status']}")
            applies = row["phase"] == "apply" and row["status"] in ("running", "cancelling")
            if (row["status"] == "lost" or applies) and not row["locks"]:
                broken.append(f"I8 {row['name']} is not locked although task {row['id']} is {row['status']}")
        return broken

    async def _unowned(self) -> list[str]:
        """Who answers for what is not over is looked at for a while: what nobody does is to be found and put right."""
        deadline = trio.current_time() + self.patience
        while (broken := await self._without_owner()) and trio.current_time() < deadline:  # noqa: ASYNC110
            await trio.sleep(0.1)
        return broken

    async def _without_owner(self) -> list[str]:
        rows = await self.database.read(
            _all,
            """SELECT t.id, t.status, t.agent_id = 'local' OR a.retired_at IS NULL AND a.id IS NOT NULL AS has_runner
               FROM task t LEFT JOIN agent a ON a.id = t.agent_id
               WHERE t.status NOT IN ('cancelled', 'succeeded', 'failed')""",
        )
        broken = []
        for row in rows:
            response = await self.client.get(f"/api/v1/tasks/{row['id']}")
            assert response.status_code == 200, response.text
            shown = response.json()
            if shown["status"] == row["status"] and not _owned(shown, has_runner=bool(row["has_runner"])):
                broken.append(f"I10 nobody answers for task {row['id']}, which is {row['status']}")
        return broken


def _owned(shown: dict[str, Any], *, has_runner: bool) -> bool:
    """Whether the platform says why it waits; and for whom, if that is a human."""
    match shown["status"]:
        case "planned" | "lost":
            return bool(shown["wait"]["actions"])
        case "pending" | "queued":
            return shown["wait"] is not None and shown["wait"]["code"] not in ("next", "just_arrived")
        case _:
            return has_runner


async def watch(database: Database) -> None:
    """From now on every move is noted in this database."""
    for statement in WATCH:
        await database.tx(_run, statement)


def journal_of(data_dir: Path) -> list[Path]:
    """The assignments that an agent has accepted and not brought to an end."""
    return sorted((data_dir / "tasks").glob("*.json"))


async def _run(c: Connection, statement: str) -> None:
    await c.run(statement)


async def _all(c: Connection, query: str, /, **values: object) -> list[dict[str, Any]]:
    return [dict(row) for row in await c.all(query, **values)]
