"""Whatever happens to the platform while Terraform runs: the state is stored, and nobody's state is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from iac.store.database import Connection, open_database
from tests.harness.killable import killable_server, processes_of
from tests.harness.postgres import statement
from tests.harness.server import running_server
from tests.system.scenes import (
    ONE,
    Gate,
    Stage,
    all_cleared,
    becomes,
    exists,
    lock_of,
    state_of,
    statuses,
)

REFUSALS = {
    "state": ("BEFORE INSERT ON state_version", "true", "55P03"),
    "state, disk full": ("BEFORE INSERT ON state_version", "true", "53100"),
    "log": ("BEFORE UPDATE ON log_stream", "NEW.length > OLD.length", "55P03"),
    "log, disk full": ("BEFORE UPDATE ON log_stream", "NEW.length > OLD.length", "53100"),
    "result": ("BEFORE UPDATE ON task", "NEW.status = 'succeeded'", "55P03"),
    "result, out of memory": ("BEFORE UPDATE ON task", "NEW.status = 'succeeded'", "53200"),
}


async def refuse(url: str, what: str) -> None:
    """From now on the database does not take it; the sequence `refused` counts how often that was tried."""
    event, when, code = REFUSALS[what]
    await statement(url, "CREATE SEQUENCE refused START 1")
    await statement(
        url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN PERFORM nextval('refused'); RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END$$",
    )
    await statement(url, f"CREATE TRIGGER refusing {event} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()")


async def refused_twice(url: str) -> None:
    """Returns when it was tried again after a refusal."""
    async with open_database(url, pool_size=1) as somebody:
        with trio.fail_after(30):
            while await somebody.tx(_refusals) < 2:  # noqa: ASYNC110
                await trio.sleep(0.05)


async def _refusals(c: Connection) -> int:
    return int(await c.value("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM refused"))


async def take_again(url: str, what: str) -> None:
    await statement(url, f"DROP TRIGGER refusing ON {REFUSALS[what][0].split()[-1]}")


@pytest.mark.parametrize("what", REFUSALS)
async def test_an_apply_outlasts_a_database_that_takes_nothing_for_a_while(
    tmp_path: Path, database_url: str, what: str
) -> None:
    gate = Gate(tmp_path)
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w", gate.main(then="echo the last line"))
        task = await server.task("w", "apply")
        await gate.reached()
        await refuse(database_url, what)
        gate.open()
        await becomes(lambda: not processes_of(tmp_path / "data"))
        await refused_twice(database_url)
        assert (await server.call("GET", f"/api/v1/tasks/{task}"))["status"] == "running"
        await take_again(database_url, what)

        done = await server.until(task, "succeeded")

        assert (done["outcome"], done["exit_code"]) == ("applied", 0)
        assert statuses(await state_of(server, "w")) == {"first": None, "second": None}
        log = (await server.log(task)).decode()
        assert log.count("(local-exec):\x1b[0m the last line") == 1
        assert log.count("stage applying begin") == 1
        versions = await server.call("GET", "/api/v1/workspaces/w/state-versions")
        assert [version["verdict"] for version in versions["items"]] == ["current"]
        await all_cleared(tmp_path / "data")


async def test_an_apply_outlasts_the_loss_of_every_connection(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path)
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w", gate.main())
        task = await server.task("w", "apply")
        await gate.reached()
        for _ in range(5):
            await statement(
                database_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'iac-server' AND datname = current_database()",
            )
        gate.open()
        with trio.fail_after(60):
            while True:
                answer = await server.client.get(f"/api/v1/tasks/{task}")
                if answer.status_code != 503 and answer.json()["status"] != "running":
                    break
                await trio.sleep(0.05)

        assert answer.json()["status"] == "succeeded"
        assert statuses(await state_of(server, "w")) == {"first": None, "second": None}
        await all_cleared(tmp_path / "data")


async def test_a_state_that_nobody_can_read_makes_the_task_lost_until_somebody_repairs_it(
    tmp_path: Path, database_url: str
) -> None:
    scene = Stage(tmp_path).set(apply={"no_state": True, "write_files": {"../state/terraform.tfstate": '{"half'}})
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})
        task = await server.task("w", "apply")

        lost = await server.until(task, "lost")

        assert lost["reason"] == "state_not_stored"
        assert str(task) in (await lock_of(server, "w"))["reason"]
        assert "the state was NOT stored" in (await server.log(task)).decode()
    [place] = (tmp_path / "data" / "tasks").iterdir()
    repaired = place / "state" / "terraform.tfstate"
    assert repaired.read_text() == '{"half'
    repaired.write_text(
        '{"version": 4, "terraform_version": "1.11.4", "serial": 1, "lineage": "l-1", "outputs": {}, "resources": []}'
    )

    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await all_cleared(tmp_path / "data")
        assert (await state_of(server, "w"))["lineage"] == "l-1"
        after = await server.call("GET", f"/api/v1/tasks/{task}")
        assert (after["status"], "state 1 was stored (current)" in after["detail"]) == ("lost", True)
        await server.call("POST", f"/api/v1/tasks/{task}/resolve", json={"unlock": True})
        assert await lock_of(server, "w") is None


async def test_the_state_of_an_apply_that_was_given_up_does_not_replace_a_newer_one(
    tmp_path: Path, database_url: str
) -> None:
    old, new = Gate(tmp_path / "old"), Gate(tmp_path / "new")
    async with killable_server(tmp_path, database_url) as program:
        await program.server.workspace("w", old.main())
        task = await program.server.task("w", "apply")
        await old.reached()
        await program.kill()

    async with killable_server(tmp_path, database_url) as program:
        server = program.server
        await server.until(task, "lost")
        # Somebody is sure that it is dead, and is wrong.
        await server.call("POST", f"/api/v1/tasks/{task}/resolve", json={"unlock": True})
        await server.call("PUT", "/api/v1/workspaces/w/configuration", json={"files": new.main()})
        new.open()
        await server.until(await server.task("w", "apply"), "succeeded")
        current = await state_of(server, "w")
        old.open()
        await all_cleared(tmp_path / "data")

        assert await state_of(server, "w") == current
        versions = (await server.call("GET", "/api/v1/workspaces/w/state-versions"))["items"]
        assert {(version["verdict"], version["task_id"] == task) for version in versions} == {
            ("current", False),
            ("quarantined", True),
        }
        [quarantined] = [version for version in versions if version["verdict"] == "quarantined"]
        assert "abandoned apply" in quarantined["reason"]
        kept = await server.call("GET", f"/api/v1/workspaces/w/state-versions/{quarantined['id']}/download")
        assert statuses(kept) == {"first": None, "second": None}


async def test_a_plan_is_not_applied_once_the_state_has_moved(tmp_path: Path, database_url: str) -> None:
    scene = Stage(tmp_path).set()
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})
        plan = await server.task("w", "plan")
        await server.until(plan, "succeeded")
        await server.until(await server.task("w", "apply"), "succeeded")

        refused = await server.call(
            "POST", "/api/v1/workspaces/w/tasks", json={"action": "apply", "plan_task_id": plan}, expect=409
        )

        assert refused["error"]["code"] == "plan_stale"


async def test_later_edits_do_not_leak_into_a_task_that_was_created_before(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path)
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("blocker", gate.main())
        await server.workspace("w", {"main.tf": 'variable "v" {}\noutput "o" {\n  value = "old ${var.v}"\n}\n'})
        variable = await server.call("POST", "/api/v1/workspaces/w/variables", json={"key": "v", "value": "one"})
        blocker = await server.task("blocker", "apply")
        await exists(gate.ready)
        task = await server.task("w", "apply")
        await server.call("PATCH", f"/api/v1/workspaces/w/variables/{variable['id']}", json={"value": "two"})
        files = {"main.tf": 'variable "v" {}\noutput "o" {\n  value = "new ${var.v}"\n}\n'}
        await server.call("PUT", "/api/v1/workspaces/w/configuration", json={"files": files})
        gate.open()

        await server.until(blocker, "succeeded")
        await server.until(task, "succeeded")

        outputs = await server.call("GET", "/api/v1/workspaces/w/outputs")
        assert [output["value"] for output in outputs["items"]] == ["old one"]
