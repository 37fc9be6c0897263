"""Row 33: the disk of the work directory is full in the middle of an apply, a real one, of the real Terraform."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.scene import CANARY, a_scene
from tests.faults.test_lost_applies import REAL
from tests.harness.tmpfs import fill, small_disk
from tests.system.scenes import Gate, state_of, statuses


def growing(gate: Gate) -> dict[str, str]:
    """After the gate comes a resource that makes the state so large that it does not fit where it was before."""
    more = json.dumps("x" * 200_000)
    return {
        **gate.main(),
        "more.tf": 'variable "secret" {\n  sensitive = true\n}\n'
        'resource "terraform_data" "third" {\n  depends_on = [terraform_data.second]\n'
        f"  input = [var.secret, {more}]\n}}\n",
    }


async def test_row_33_a_state_that_terraform_could_only_print_is_stored_and_not_shown(
    tmp_path: Path, database_url: str
) -> None:
    """33: the file is truncated, errored.tfstate is empty; the state comes from the raw log, and is masked."""
    gate, data_dir = Gate(tmp_path / "gate"), tmp_path / "agents" / "first"
    async with a_scene(tmp_path, database_url) as scene:
        secret = {"key": "secret", "value": CANARY, "category": "terraform", "sensitive": True}
        await scene.call("POST", "/workspaces/w/variables", json=secret)
        await scene.call("PUT", "/workspaces/w/configuration", json={"files": growing(gate)})
        data_dir.mkdir(parents=True, mode=0o700)
        with small_disk(data_dir / "tasks", kilobytes=24 * 1024) as disk:
            async with scene.agent(env=REAL):
                task = await scene.confirmed_apply()
                await gate.reached()
                fill(disk)
                gate.open()
                shown = await scene.finished(task)
                assert (shown["status"], shown["reason"], shown["exit_code"]) == ("failed", "storage_full", 1)
                assert statuses(await state_of(scene.server, "w")) == {"first": None, "second": None, "third": None}
                assert CANARY in json.dumps(await state_of(scene.server, "w"))
                log = (await scene.oracle.log(task)).decode()
                assert "Emergency state dump" in log
                assert CANARY not in log
                held = await scene.call("GET", "/workspaces/w")
                assert (held["lock"], held["state_uncertain"], held["states_apart"]) == (None, False, 0)
                (disk / "filler").unlink()
