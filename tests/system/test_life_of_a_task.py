"""The main story on real parts: a configuration becomes applied state."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.harness.server import PATIENT, running_server

MAIN = """
variable "word" { default = "x" }
resource "terraform_data" "a" { input = var.word }
output "said" { value = terraform_data.a.output }
"""


async def test_plan_confirm_apply_destroy(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w", {"main.tf": MAIN})
        task = await server.task("w", "plan_and_apply")
        planned = await server.until(task, "planned")
        assert planned["plan"]["summary"]["add"] == 1
        assert planned["wait"]["code"] == "needs_confirmation"
        await server.call("POST", f"/api/v1/tasks/{task}/confirm", json={"comment": "looks right"})
        done = await server.until(task, "succeeded")
        assert done["outcome"] == "applied"
        outputs = await server.call("GET", "/api/v1/workspaces/w/outputs")
        assert [(o["name"], o["value"]) for o in outputs["items"]] == [("said", "x")]
        again = await server.until(await server.task("w", "plan_and_apply"), "succeeded")
        assert again["outcome"] == "planned_and_finished"
        destroy = await server.task("w", "destroy", auto_apply=True)
        await server.until(destroy, "succeeded")
        shown = await server.call("GET", "/api/v1/workspaces/w")
        assert shown["lock"] is None
        assert (await server.call("GET", "/api/v1/workspaces/w/state-versions/current"))["resource_count"] == 0
        assert b"Apply complete!" in await server.log(task)
        with trio.fail_after(PATIENT):
            while any((tmp_path / "data" / "tasks").iterdir()):  # noqa: ASYNC110
                await trio.sleep(0.02)
