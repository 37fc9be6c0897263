"""The platforms that the contract suite asks the same of, one context manager each: memory and local."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from iac.actors.dispatcher import order_of
from iac.domain.archives import File, digest, write_archive
from iac.domain.lifecycle import Cancel, Confirm, Lose, Resolve, Unassign
from iac.domain.records import Action, StateVersion, Task
from iac.domain.work import BundleVariable, RunTask
from iac.executor.accessor import DataAccessor
from iac.executor.accessor_local import Changes, LocalDataAccessor
from iac.store import configurations, creation, logs, plans, statefiles, tasks, variables, workspaces
from iac.store.creation import NewTask
from iac.store.database import Database, open_database
from iac.store.identity import new_id
from iac.store.log_cache import LogCache
from iac.store.sealing import Keyring
from tests.fakes.memory_accessor import MemoryAccessor, Stored

ARCHIVE = write_archive({"main.tf": File(b'resource "terraform_data" "a" {}')})
SECRET = BundleVariable(key="secret", value="s3cr3t-value", category="terraform", hcl=False, sensitive=True)
LOG_LIMIT = 2 * 1024 * 1024


class PlatformUnderTest(Protocol):
    """An accessor, and the other side of it: what users and the dispatcher do, and what is there to be seen."""

    @property
    def accessor(self) -> DataAccessor: ...

    async def order(self, action: Action = "plan_and_apply", *, plan_of: int | None = None) -> RunTask:
        """A new task, already handed out."""

    async def take_away(self, order: RunTask) -> RunTask:
        """The same task handed out anew."""

    async def confirm(self, order: RunTask) -> RunTask:
        """The confirmed apply of a planned task, handed out."""

    async def cancel(self, task_id: int) -> None: ...

    async def lose(self, order: RunTask) -> None: ...

    async def resolve(self, task_id: int) -> None: ...

    async def upload_state(self, data: bytes) -> None:
        """A user's own state becomes the current one."""

    async def task(self, task_id: int) -> Task: ...

    async def log(self, order: RunTask) -> tuple[bytes, str]:
        """The assignment's log, and whether it is open, complete or incomplete."""

    async def states(self) -> list[tuple[str, int, bytes]]:
        """Verdict, serial and bytes of every stored state, oldest first; superseded ones count as current once."""

    async def checkpoints(self) -> list[tuple[str, int, bytes]]:
        """Likewise of those that came while their apply ran."""

    async def progress(self, task_id: int) -> dict[str, str]: ...


class MemoryPlatform:
    def __init__(self) -> None:
        self.accessor = MemoryAccessor({}, variables=(SECRET,), log_max_bytes=LOG_LIMIT)
        self.accessor.archive = ARCHIVE

    async def order(self, action: Action = "plan_and_apply", *, plan_of: int | None = None) -> RunTask:
        return self.accessor.assign(self.accessor.create(action, plan_of=plan_of))

    async def take_away(self, order: RunTask) -> RunTask:
        return self.accessor.take_away(order)

    async def confirm(self, order: RunTask) -> RunTask:
        return self.accessor.confirm(order.task_id)

    async def cancel(self, task_id: int) -> None:
        self.accessor.move(task_id, Cancel(cancel_id="can-1", reason="user", by="test"))

    async def lose(self, order: RunTask) -> None:
        self.accessor.move(order.task_id, Lose(fence=order.fence, reason="agent_lost", detail="", retry=False))

    async def resolve(self, task_id: int) -> None:
        self.accessor.move(task_id, Resolve(by="test", comment="", fence=10_000, unlock=True))

    async def upload_state(self, data: bytes) -> None:
        self.accessor.set_state(data)

    async def task(self, task_id: int) -> Task:
        return self.accessor.tasks[task_id]

    async def log(self, order: RunTask) -> tuple[bytes, str]:
        return self.accessor.log(order), self.accessor.streams[order.task_id, order.fence].state

    async def states(self) -> list[tuple[str, int, bytes]]:
        return [self._shown(kept) for kept in self.accessor.stored if kept.verdict != "checkpoint"]

    async def checkpoints(self) -> list[tuple[str, int, bytes]]:
        return [self._shown(kept) for kept in self.accessor.stored if kept.partial]

    def _shown(self, kept: Stored) -> tuple[str, int, bytes]:
        return kept.verdict, -1 if kept.serial is None else kept.serial, kept.data

    async def progress(self, task_id: int) -> dict[str, str]:
        return {entry.address: entry.status for entry in self.accessor.progress}


@dataclass
class StorePlatform:
    """The real store on the real PostgreSQL; `accessor` is what an executor would be given."""

    database: Database
    keyring: Keyring
    accessor: DataAccessor
    log_cache: LogCache
    workspace: str = ""

    async def prepare(self) -> None:
        made = await self.database.tx(
            workspaces.create,
            {
                "name": new_id("ws"), "description": "", "execution_mode": "local", "engine": "terraform", "tags": {},
                "terraform_version": "latest", "working_directory": "", "auto_apply": False, "provider_config": None,
            },
            by="test",
        )  # fmt: skip
        self.workspace = made.id
        await self.database.tx(
            configurations.put, made.id, kind="files", digest=digest(ARCHIVE), archive=ARCHIVE, source=None,
            files=["main.tf"], message="", by="test",
        )  # fmt: skip
        await self.database.tx(
            variables.create, self.keyring, made.id, key=SECRET.key, category=SECRET.category, hcl=SECRET.hcl,
            sensitive=SECRET.sensitive, value=SECRET.value, description="", by="test",
        )  # fmt: skip

    async def order(self, action: Action = "plan_and_apply", *, plan_of: int | None = None) -> RunTask:
        asked = NewTask(action=action, plan_task_id=plan_of)
        task = await self.database.tx(creation.create, self.keyring, self.workspace, asked, by="test")
        return await self.assign(task.id)

    async def assign(self, task_id: int) -> RunTask:
        """Hands the task out."""
        fence = (await self.task(task_id)).fence
        assigned = await self.database.tx(
            tasks.assign, task_id, agent_id="local", assignment_id=f"asg-{task_id}-{fence}"
        )
        return order_of(assigned)

    async def take_away(self, order: RunTask) -> RunTask:
        if (await self.task(order.task_id)).status == "assigned":
            await self.database.tx(tasks.move, order.task_id, Unassign(fence=order.fence))
        else:
            lost = Lose(fence=order.fence, reason="agent_lost", detail="")
            await self.database.tx(tasks.move, order.task_id, lost)
        return await self.assign(order.task_id)

    async def confirm(self, order: RunTask) -> RunTask:
        planned = (await self.task(order.task_id)).plan_digest or ""
        await self.database.tx(tasks.move, order.task_id, Confirm(by="test", comment="", plan_digest=planned))
        return await self.assign(order.task_id)

    async def cancel(self, task_id: int) -> None:
        await self.database.tx(tasks.move, task_id, Cancel(cancel_id="can-1", reason="user", by="test"))

    async def lose(self, order: RunTask) -> None:
        event = Lose(fence=order.fence, reason="agent_lost", detail="", retry=False)
        await self.database.tx(tasks.move, order.task_id, event)

    async def resolve(self, task_id: int) -> None:
        fence = await self.database.tx(tasks.next_fence)
        await self.database.tx(tasks.move, task_id, Resolve(by="test", comment="", fence=fence, unlock=True))

    async def upload_state(self, data: bytes) -> None:
        lock = (await self.database.tx(workspaces.get, self.workspace)).lock
        if lock is not None:  # by force, as an admin would
            unlock = workspaces.unlock_for_user
            await self.database.tx(unlock, self.workspace, user="test", token=None, force=True)
        upload = statefiles.upload
        await self.database.tx(upload, self.keyring, self.workspace, data, force=False, by="test", token=None)

    async def task(self, task_id: int) -> Task:
        return await self.database.tx(tasks.get, task_id)

    async def log(self, order: RunTask) -> tuple[bytes, str]:
        streams = await self.database.tx(logs.streams, order.task_id)
        before = sum(stream.length for stream in streams if stream.fence < order.fence)
        own = next(stream for stream in streams if stream.fence == order.fence)
        part = await self.log_cache.read(order.task_id, before, max(own.length, 1))
        return part.data[: own.length], own.state

    async def states(self) -> list[tuple[str, int, bytes]]:
        # A page is newest first, and has no checkpoints: those are for a rainy day.
        return await self._stored(await self.database.tx(statefiles.page, self.workspace, limit=200, before=None))

    async def checkpoints(self) -> list[tuple[str, int, bytes]]:
        page = statefiles.page
        found = await self.database.tx(page, self.workspace, limit=200, before=None, verdicts=statefiles.APART)
        return await self._stored([version for version in found if version.partial])

    async def _stored(self, found: Sequence[StateVersion]) -> list[tuple[str, int, bytes]]:
        kept: list[tuple[str, int, bytes]] = []
        for version in reversed(found):
            data = await self.database.tx(statefiles.download, self.keyring, self.workspace, version.id, by="test")
            verdict = "current" if version.verdict == "superseded" else version.verdict
            kept.append((verdict, version.serial, data))
        return kept

    async def progress(self, task_id: int) -> dict[str, str]:
        return {entry.address: entry.status for entry in await self.database.tx(plans.progress, task_id)}


@asynccontextmanager
async def memory(_database_url: str) -> AsyncIterator[PlatformUnderTest]:
    yield MemoryPlatform()


@asynccontextmanager
async def local(database_url: str) -> AsyncIterator[PlatformUnderTest]:
    async with open_database(database_url) as database:
        keyring = Keyring("a-key-for-the-contract-tests")
        heard = Changes(task=lambda _: None, log=lambda _: None)
        with TemporaryDirectory(prefix="iac-logs-") as directory:
            log_cache = LogCache(database, Path(directory))
            accessor = LocalDataAccessor(database, keyring, heard, log_cache, log_max_bytes=LOG_LIMIT)
            platform = StorePlatform(database, keyring, accessor, log_cache)
            await platform.prepare()
            yield platform
