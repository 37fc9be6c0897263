"""What real Terraform does when it is stopped our way: nothing is lost, nobody is left."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import trio

from iac.domain.ladder import Ladder
from iac.executor.leftovers import alive, find_leftovers, start_time_of
from iac.executor.process import Ended, ProcessFacts, run_terraform
from iac.executor.shimming import open_shim
from tests.executor.bench import appears


class Workdir:
    """A configuration of two resources: `first` is done at once, `second` runs the given command."""

    def __init__(self, root: Path, command: str) -> None:
        terraform = shutil.which("terraform")
        assert terraform is not None, "these tests need a terraform on the PATH"
        self.terraform, self.root, self.tmpdir, self.log = terraform, root, root / "tmp", root / "raw.log"
        self.state, self.lock = root / "terraform.tfstate", root / ".terraform.tfstate.lock.info"
        self.tmpdir.mkdir()
        (root / "empty.tfrc").touch()
        provisioner = f'provisioner "local-exec" {{\n command = {json.dumps(command)}\n }}'
        (root / "main.tf").write_text(
            'resource "terraform_data" "first" {}\n'
            f'resource "terraform_data" "second" {{\n depends_on = [terraform_data.first]\n {provisioner}\n}}\n'
        )
        self.env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(root),
            "TMPDIR": str(self.tmpdir),
            "TF_DATA_DIR": str(root / "data"),
            "TF_CLI_CONFIG_FILE": str(root / "empty.tfrc"),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }

    async def run(self, *args: str, facts: ProcessFacts | None = None, ladder: Ladder | None = None) -> Ended:
        async with open_shim(self.root) as shim:
            return await run_terraform(
                shim,
                [self.terraform, *args],
                cwd=self.root,
                env=self.env,
                output=self.log,
                ladder=ladder or Ladder(grace=30),
                facts=facts,
            )

    async def apply(self, facts: ProcessFacts, ladder: Ladder | None = None) -> Ended:
        assert (await self.run("init", "-input=false", "-no-color")).exit_code == 0
        return await self.run("apply", "-auto-approve", "-input=false", "-json", facts=facts, ladder=ladder)

    async def apply_and_cancel(self, when: Path, ladder: Ladder | None = None) -> Ended:
        facts = ProcessFacts()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.apply, facts, ladder)
                await appears(when)
                nursery.cancel_scope.cancel()
        assert facts.ended is not None
        return facts.ended

    def resources(self) -> dict[str, Any]:
        """Status of each resource's only instance in the state file: None or "tainted"."""
        state = json.loads(self.state.read_text())
        return {resource["name"]: resource["instances"][0].get("status") for resource in state["resources"]}

    def nobody_left(self) -> bool:
        return find_leftovers(str(self.tmpdir)) == []


async def test_a_cancelled_apply_saves_what_it_was_creating_and_frees_the_lock(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path, "touch ready; sleep 300")

    ended = await workdir.apply_and_cancel(tmp_path / "ready")

    assert (ended.exit_code, ended.signalled, ended.killed) == (1, True, False)
    assert workdir.resources() == {"first": None, "second": "tainted"}
    assert not workdir.lock.exists()
    assert workdir.nobody_left()


async def test_the_log_of_a_cancelled_apply_is_complete(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path, "touch ready; sleep 300")

    await workdir.apply_and_cancel(tmp_path / "ready")

    text = workdir.log.read_text()
    assert "Interrupt received" in text
    assert text.endswith("\n")
    assert '"type":"diagnostic"' in text.splitlines()[-1]


async def test_an_apply_that_hangs_is_killed_and_keeps_what_was_finished_before(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path, "kill -STOP $PPID; touch ready; sleep 300")

    ended = await workdir.apply_and_cancel(tmp_path / "ready", Ladder(grace=0.5, second=0.5))

    assert (ended.exit_code, ended.signalled, ended.killed) == (-signal.SIGKILL, True, True)
    assert workdir.resources() == {"first": None}
    assert workdir.nobody_left()


async def test_a_clean_apply_leaves_no_background_process_behind(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path, "setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $! > background.pid")
    facts = ProcessFacts()

    with trio.fail_after(60):
        ended = await workdir.apply(facts)

    pid = int((tmp_path / "background.pid").read_text())
    assert (ended.exit_code, ended.signalled) == (0, False)
    assert workdir.resources() == {"first": None, "second": None}
    assert not alive(pid, start_time_of(pid) or 0)
    assert workdir.nobody_left()
    assert facts.swept == 1


async def test_an_apply_that_waits_for_a_background_process_can_be_cancelled(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path, "setsid sleep 300 & touch ready")

    ended = await workdir.apply_and_cancel(tmp_path / "ready")

    assert (ended.exit_code, ended.killed) == (1, False)
    assert "second" in workdir.resources()
    assert workdir.nobody_left()
