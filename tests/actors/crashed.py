"""What a server that was killed leaves on the disk and in the database, made by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import trio

from iac.actors.local_runner import LADDERS
from iac.actors.local_stops import LocalStops
from iac.actors.recovery import Salvage, left_behind
from iac.actors.running import Running
from iac.domain.ladder import Ladder
from iac.domain.log_transform import Transform
from iac.domain.work import RunTask
from iac.executor import workdir
from iac.executor.accessor_local import Changes, LocalDataAccessor
from iac.executor.leftovers import start_time_of
from iac.executor.process import write_pid_file
from iac.executor.run import ExecutorPolicy
from iac.executor.workdir import Workdir
from iac.store.database import Database
from iac.store.log_cache import LogCache
from iac.store.sealing import Keyring
from tests.contract.platforms import LOG_LIMIT, SECRET, StorePlatform
from tests.contract.test_accessor_contract import planned

POLICY = ExecutorPolicy(apply_ladder=Ladder(grace=20, second=1), log_interval=0.01, store_within=20)
OBEDIENT = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"


@dataclass
class Crashed:
    """The database and the disk of a dead server, and the next one's recovery."""

    platform: StorePlatform
    tasks: Path
    running: Running
    salvage: Salvage

    @classmethod
    async def prepare(cls, database: Database, tasks: Path) -> Crashed:
        keyring, running = Keyring("a-key-for-the-tests"), Running()
        heard = Changes(task=lambda _: None, log=lambda _: None)
        log_cache = LogCache(database, tasks.parent / "logs")
        accessor = LocalDataAccessor(database, keyring, heard, log_cache, log_max_bytes=LOG_LIMIT)
        platform = StorePlatform(database, keyring, accessor, log_cache)
        await platform.prepare()
        stops = LocalStops(lambda _task, fence, force: running.cancel(fence, force=force), LADDERS)
        return cls(platform, tasks, running, Salvage(database, accessor, running, POLICY, stops, tasks))

    async def running_plan(self) -> tuple[RunTask, Workdir]:
        order = await self.platform.order("plan")
        await self.platform.accessor.get_task_data(order)
        return order, self.directory(order)

    async def running_apply(self) -> tuple[RunTask, Workdir]:
        order = await self.platform.confirm(await planned(self.platform))
        await self.platform.accessor.get_task_data(order)
        place = self.directory(order)
        workdir.write_file(place.plan, b"the plan")
        return order, place

    def directory(self, order: RunTask) -> Workdir:
        return workdir.create(self.tasks, order, [SECRET.value])

    async def log_so_far(self, order: RunTask, place: Workdir, raw: bytes) -> None:
        """`raw` is on the disk, and what a carrier has sent of it is stored; it was killed before it finished."""
        workdir.write_file(place.raw_log, raw)
        text, _ = Transform([SECRET.value], LOG_LIMIT).feed(raw)
        await self.platform.accessor.save_task_log(order, 0, text)

    def process(self, place: Workdir, code: str = OBEDIENT) -> subprocess.Popen[bytes]:
        """A "Terraform" that outlived its server."""
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            env={"TMPDIR": str(place.tmp)},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        write_pid_file(place.pid_file, process.pid, start_time_of(process.pid) or 0)
        return process

    async def collect(self) -> None:
        """The salvage of the next start, to its end."""
        with trio.fail_after(30):
            await self.salvage.collect(left_behind(self.tasks))

    async def log(self, order: RunTask) -> str:
        return (await self.platform.log(order))[0].decode()
