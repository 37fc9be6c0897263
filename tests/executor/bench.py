"""What the tests of a Terraform process share: a work directory with a stand-in for Terraform in it."""

from dataclasses import dataclass
from pathlib import Path

import trio

from iac.domain.ladder import Ladder
from iac.executor.leftovers import find_leftovers
from iac.executor.process import Ended, ProcessFacts, run_terraform
from iac.executor.shimming import open_shim
from tests.fakes.fake_terraform import install, ledger_of

PATIENT = Ladder(grace=90.0, second=90.0)
"""Longer than any test: a step beyond the first one would show as a hang, then as a failure."""
IMPATIENT = Ladder(grace=0.2, second=0.2)


@dataclass
class Bench:
    """A work directory with a Terraform of the given manners for `apply`."""

    root: Path

    def __init__(self, root: Path, **manners: object) -> None:
        self.root = self.place = root
        self.tmpdir = root / "tmp"
        self.tmpdir.mkdir()
        self.log, self.ledger, self.ready = root / "raw.log", root / "ledger", root / "ready"
        apply = {"ready_file": str(self.ready), **manners}
        self.argv = [str(install(root / "bin", {"ledger": str(self.ledger), "commands": {"apply": apply}})), "apply"]
        self.env = {"TMPDIR": str(self.tmpdir), "PATH": "/usr/bin:/bin"}

    async def run(self, facts: ProcessFacts, **options: object) -> Ended:
        given: dict[str, object] = {"env": self.env, "output": self.log, "ladder": PATIENT, **options}
        with trio.fail_after(150):
            async with open_shim(self.place) as shim:
                return await run_terraform(shim, self.argv, cwd=self.root, facts=facts, **given)  # type: ignore[arg-type]

    async def run_and_cancel(self, when: Path, **options: object) -> ProcessFacts:
        facts = ProcessFacts()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_when, when, scope)
                await self.run(facts, **options)
                nursery.cancel_scope.cancel()
        assert scope.cancelled_caught, "the cancellation must go on after the process has ended"
        return facts

    def events(self) -> list[str]:
        return [entry["event"] for entry in ledger_of(self.ledger)]

    def nobody_left(self) -> bool:
        return find_leftovers(str(self.tmpdir)) == []


async def cancel_when(path: Path, scope: trio.CancelScope) -> None:
    await appears(path)
    scope.cancel()


async def appears(path: Path) -> None:
    """Wait for a file; another process makes it, so there is no event to wait for."""
    with trio.fail_after(90):
        while not path.exists():  # noqa: ASYNC110
            await trio.sleep(0.01)


def child(bench_root: Path, kind: str, **more: object) -> dict[str, object]:
    """What the stand-in wants to know to leave a child of this kind behind."""
    return {"kind": kind, "pid_file": str(bench_root / f"{kind}.pid"), **more}
