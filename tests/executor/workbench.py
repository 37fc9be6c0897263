"""A TerraformExecutor over a MemoryAccessor, with a stand-in for Terraform or the real one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from iac.domain.ladder import Ladder
from iac.domain.records import Action, Task
from iac.domain.rendering import StageMark, parse_marker
from iac.domain.work import Result, RunTask
from iac.executor.binaries import Binaries, BinarySettings
from iac.executor.executor import TerraformExecutor
from iac.executor.leftovers import find_leftovers
from iac.executor.run import ExecutorPolicy
from iac.executor.terraform import CLI_CONFIG, machine_environment
from tests.executor.bench import appears
from tests.fakes.fake_terraform import install, ledger_of
from tests.fakes.memory_accessor import MemoryAccessor

POLICY = ExecutorPolicy(
    plan_ladder=Ladder(grace=20.0),
    apply_ladder=Ladder(grace=20.0),
    log_interval=0.02,
    store_within=20,
    report_within=20,
)
IMPATIENT = ExecutorPolicy(
    plan_ladder=Ladder(0.3, 0.3), apply_ladder=Ladder(0.3, 0.3), log_interval=0.02, store_within=20, report_within=20
)


@dataclass
class Workbench:
    """`commands` are the manners of the stand-in for each subcommand; without them the Terraform of the PATH runs."""

    root: Path
    accessor: MemoryAccessor
    commands: Mapping[str, Mapping[str, object]] | None = None
    policy: ExecutorPolicy = POLICY
    environment: Mapping[str, str] = field(default_factory=dict)
    engine: str = "terraform"
    version: str = "1.11.4"

    def __post_init__(self) -> None:
        self.ledger, self.tasks = self.root / "ledger", self.root / "tasks"
        search_path = os.environ["PATH"]
        if self.commands is not None:
            scenario = {"version": self.version, "ledger": str(self.ledger), "commands": self.commands}
            binary = install(self.root / "bin", scenario)
            if self.engine != "terraform":
                binary.rename(binary.with_name(self.engine))
            search_path = f"{self.root / 'bin'}:/usr/bin:/bin"
        found = BinarySettings(
            terraform_dir=None, download_dir=self.root / "downloads", mirror_url=None, key_file=None,
            allow_download=False, search_path=search_path, use_wheel=False,
        )  # fmt: skip
        self.executor = TerraformExecutor(
            self.accessor,
            Binaries(found),
            tasks=self.tasks,
            machine=machine_environment({"PATH": search_path, **self.environment}, ("ALLOWED",)),
            cli_config=CLI_CONFIG,
            policy=self.policy,
        )

    async def run(self, order: RunTask) -> Result | None:
        """To the end; the result as the platform got it."""
        before = len(self.accessor.results)
        with trio.fail_after(60):
            await self.executor.execute(order)
        reported = self.accessor.results[before:]
        return reported[-1] if reported else None

    async def run_and_cancel(
        self, order: RunTask, when: Path, *, force: bool = False, before: Callable[[], None] = lambda: None
    ) -> Result:
        """Cancelled as the canceller does it, as soon as the file `when` is there and `before` was called."""
        hurry, known = trio.Event(), len(self.accessor.results)

        async def cancel() -> None:
            await appears(when)
            before()
            scope.cancel()
            if force:
                hurry.set()

        with trio.fail_after(60), trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel)
                await self.executor.execute(order, hurry)
                nursery.cancel_scope.cancel()
        assert scope.cancelled_caught, "the cancellation goes on after the work is done"
        return self.accessor.results[known:][-1]

    async def plan(self, action: Action = "plan_and_apply") -> RunTask:
        """A plan that went well."""
        order = self.accessor.order(action)
        result = await self.run(order)
        assert result is not None
        assert result.status == "planned", (result, self.log(order))
        return order

    async def confirmed(self, action: Action = "plan_and_apply") -> RunTask:
        """The order to apply a plan that went well."""
        return self.accessor.confirm((await self.plan(action)).task_id)

    def task(self, order: RunTask) -> Task:
        return self.accessor.tasks[order.task_id]

    def log(self, order: RunTask) -> str:
        return self.accessor.log(order).decode(errors="replace")

    def marks(self, order: RunTask) -> list[StageMark]:
        """The stage marks in the log, each of which must be there in full."""
        lines = self.accessor.log(order).splitlines(keepends=True)
        return [mark for line in lines if (mark := parse_marker(line)) is not None]

    def stages(self, order: RunTask) -> list[str]:
        """The stages in their order; each must have been ended before the next began."""
        marks = self.marks(order)
        assert [mark.edge for mark in marks] == ["begin", "end"] * (len(marks) // 2), marks
        assert [mark.stage for mark in marks[::2]] == [mark.stage for mark in marks[1::2]]
        return [mark.stage for mark in marks[::2]]

    def place(self, order: RunTask) -> Path:
        return self.tasks / f"{order.task_id}-{order.fence}"

    def starts(self, command: str) -> list[list[str]]:
        """The arguments of each call of this subcommand."""
        return [
            [str(argument) for argument in entry["argv"]]
            for entry in ledger_of(self.ledger)
            if entry["event"] == "start" and entry["command"] == command
        ]

    def events(self, command: str) -> list[str]:
        return [entry["event"] for entry in ledger_of(self.ledger) if entry["command"] == command]

    def nobody_left(self, order: RunTask) -> bool:
        return find_leftovers(str(self.place(order) / "tmp")) == []


async def becomes(true: Callable[[], bool]) -> None:
    """Wait for something that no event tells."""
    with trio.fail_after(20):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.01)


def fake(
    root: Path,
    accessor: MemoryAccessor | None = None,
    commands: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Mapping[str, Any],
) -> Workbench:
    """With the stand-in and its manners for each subcommand."""
    return Workbench(root, accessor or MemoryAccessor(), {**(commands or {}), **more})


def real(root: Path, files: Mapping[str, str], **facts: Any) -> Workbench:
    """With the real Terraform."""
    return Workbench(root, MemoryAccessor(files, **facts))
