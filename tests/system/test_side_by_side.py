"""Several tasks at once: who runs beside whom, who waits, and what the waiting are told."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.harness.server import running_server
from tests.system.scenes import ONE, Gate, Stage, all_cleared, becomes, cancel, exists, runs, state_of, wait_of


async def test_two_applies_of_one_workspace_run_one_after_the_other(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path)
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w", gate.main())
        first, second = await server.task("w", "apply"), await server.task("w", "apply")
        await gate.reached()

        wait = await wait_of(server, second, "workspace_busy")
        assert (wait["position"], str(first) in wait["message"]) == (1, True)
        assert (await server.until(second, "pending"))["started_at"] is None
        gate.open()
        done = await server.until(first, "succeeded")
        after = await server.until(second, "succeeded")

        assert (done["outcome"], after["outcome"]) == ("applied", "planned_and_finished")
        assert after["started_at"] >= done["finished_at"]


async def test_an_apply_runs_alone_and_a_plan_elsewhere_waits_for_it(tmp_path: Path, database_url: str) -> None:
    gate = Gate(tmp_path)
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w", gate.main())
        await server.workspace("other", {"main.tf": ONE})
        apply = await server.task("w", "apply")
        await gate.reached()

        plan = await server.task("other", "plan")
        wait = await wait_of(server, plan, "apply_running")
        assert str(apply) in wait["message"]
        gate.open()

        ended = await server.until(plan, "succeeded")
        assert ended["started_at"] >= (await server.until(apply, "succeeded"))["finished_at"]


async def test_plans_run_side_by_side_up_to_the_limit_and_an_apply_waits_for_them(
    tmp_path: Path, database_url: str
) -> None:
    scene = Stage(tmp_path).set(plan={"sleep": "forever"})
    async with running_server(tmp_path / "data", database_url, env=scene.env, local_plan_concurrency=2) as server:
        for name in ("a", "b", "c", "d"):
            await server.workspace(name, {"main.tf": ONE})
        first, second = await server.task("a", "plan"), await server.task("b", "plan")
        await becomes(lambda: scene.events("plan") == ["start", "start"])

        third = await server.task("c", "plan")
        assert (await wait_of(server, third, "no_free_slot"))["position"] == 1
        await cancel(server, first)
        await server.until(first, "cancelled")
        await server.until(third, "running")

        await cancel(server, second)
        await cancel(server, third)


async def test_a_task_that_fails_takes_nothing_down_with_it(tmp_path: Path, database_url: str) -> None:
    scene = Stage(tmp_path)
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})
        for command, code in (("init", 1), ("plan", 11), ("show", 139), ("apply", 2)):
            scene.set(**{command: {"exit": code}})
            failed = await server.until(await server.task("w", "apply"), "failed")
            assert (failed["reason"], failed["exit_code"]) == (f"{command}_failed", code)
        scene.set()

        done = await server.until(await server.task("w", "apply"), "succeeded")

        assert done["outcome"] == "applied"
        await all_cleared(tmp_path / "data")


async def test_a_terraform_that_is_killed_from_outside_fails_and_its_state_is_stored(
    tmp_path: Path, database_url: str
) -> None:
    gate = Gate(tmp_path)
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w", gate.main(then="true"))
        task = await server.task("w", "apply")
        await gate.reached()
        [place] = (tmp_path / "data" / "tasks").iterdir()
        pid = (place / "terraform.pid").read_bytes()
        await trio.run_process(["kill", "-9", pid.split(b":")[1].split(b",")[0].decode()])  # noqa: TID251

        failed = await server.until(task, "failed")

        assert (failed["reason"], failed["signal"]) == ("killed", 9)
        names = {resource["name"] for resource in (await state_of(server, "w"))["resources"]}
        assert names == {"first"}
        await all_cleared(tmp_path / "data")


async def test_a_provisioner_that_stays_behind_is_gone_with_its_task(tmp_path: Path, database_url: str) -> None:
    pid_file = tmp_path / "setsid.pid"
    scene = Stage(tmp_path).set(apply={"children": [{"kind": "setsid", "pid_file": str(pid_file)}]})
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})

        await server.until(await server.task("w", "apply"), "succeeded")

        await exists(pid_file)
        await all_cleared(tmp_path / "data")
        assert not runs(int(pid_file.read_text()))


async def test_a_provisioner_that_stays_behind_under_the_real_terraform_is_gone_too(
    tmp_path: Path, database_url: str
) -> None:
    pid_file = tmp_path / "child.pid"
    command = f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 600' </dev/null >/dev/null 2>&1 & true"
    main = f'resource "terraform_data" "a" {{\n  provisioner "local-exec" {{\n    command = "{command}"\n  }}\n}}\n'
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w", {"main.tf": main})

        await server.until(await server.task("w", "apply"), "succeeded")

        await all_cleared(tmp_path / "data")
        if pid_file.exists():
            assert not runs(int(pid_file.read_text()))
