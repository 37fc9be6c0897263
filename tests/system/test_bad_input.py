"""Terraform and configurations that misbehave: the task fails with a reason, the server stays as it was."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.harness.killable import Killable, killable_server
from tests.harness.server import RunningServer, running_server
from tests.harness.tmpfs import small_disk
from tests.system.scenes import ONE, Stage, all_cleared, exists, state_of

MIB = 1024 * 1024


async def counted(server: RunningServer, task: int) -> tuple[int, int, int]:
    """Of a long log, a piece at a time: its length, its lines of a flood, and its longest line."""
    length, lines, longest, rest = 0, 0, 0, b""
    while True:
        answer = await server.client.get(f"/api/v1/tasks/{task}/logs", params={"offset": length, "limit": 8 * MIB})
        assert answer.status_code == 200
        if not answer.content:
            return length, lines, longest
        length += len(answer.content)
        *whole, rest = (rest + answer.content).split(b"\n")
        lines += whole.count(b"x" * 79)
        longest = max(longest, *(len(line) for line in whole), 0)


async def flooded(program: Killable, **manners: object) -> tuple[int, int, int, int]:
    """A plan with this output: its log's length, flood and longest line, and by how much the server's memory grew."""
    server = program.server
    await server.workspace("w", {"main.tf": ONE})
    await server.until(await server.task("w", "plan"), "succeeded")  # what is loaded once is loaded now
    Stage(program.log_file.parent).set(plan=manners)
    before = program.memory("VmRSS")
    task = await server.task("w", "plan")
    await server.until(task, "succeeded")
    grown = program.memory() - before
    return *await counted(server, task), grown


async def test_two_hundred_megabytes_of_output_are_kept_whole_and_do_not_fill_the_memory(
    tmp_path: Path, database_url: str
) -> None:
    scene = Stage(tmp_path).set()
    async with killable_server(tmp_path, database_url, env=scene.env) as program:
        length, lines, _, grown = await flooded(program, flood_bytes=200 * MIB)

    assert lines == 200 * MIB // 80
    assert length > 200 * MIB
    assert grown < 300 * MIB


async def test_one_line_of_fifty_megabytes_is_kept_whole(tmp_path: Path, database_url: str) -> None:
    scene = Stage(tmp_path).set()
    async with killable_server(tmp_path, database_url, env=scene.env) as program:
        _, _, longest, grown = await flooded(program, giant_line_bytes=50 * MIB)

    assert longest == 50 * MIB
    assert grown < 300 * MIB


async def test_a_log_over_its_limit_keeps_head_and_tail_and_says_what_is_missing(
    tmp_path: Path, database_url: str
) -> None:
    scene = Stage(tmp_path).set(plan={"flood_bytes": 300 * MIB, "exit": 1})
    async with killable_server(tmp_path, database_url, env=scene.env) as program:
        server = program.server
        await server.workspace("w", {"main.tf": ONE})
        task = await server.task("w", "plan")
        await server.until(task, "failed")

        answer = await server.client.get(f"/api/v1/tasks/{task}/logs", params={"offset": 0, "limit": 1000})
        total = int(answer.headers["X-IAC-Log-Length"])
        tail = await server.client.get(
            f"/api/v1/tasks/{task}/logs", params={"offset": total - 2 * MIB, "limit": 2 * MIB}
        )

    assert total <= 256 * MIB
    assert b"stage fetching begin" in answer.content
    assert b"bytes left out" in tail.content
    assert b"The scenario says so" in tail.content, "what went wrong is at the end"


async def test_broken_configuration_fails_with_its_diagnostics_in_the_log(tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path, database_url) as server:
        await server.workspace("w", {"main.tf": 'resource "terraform_data" "a" {\n  input = \n'})
        task = await server.task("w", "plan_and_apply")

        failed = await server.until(task, "failed")

        assert (failed["reason"], failed["exit_code"]) == ("init_failed", 1)
        log = (await server.log(task)).decode()
        assert "on main.tf line 2" in log
        assert "Error:" in log
        await all_cleared(tmp_path)


async def test_a_configuration_that_terraform_accepts_and_cannot_plan_fails_with_its_diagnostics(
    tmp_path: Path, database_url: str
) -> None:
    main = ONE + 'output "o" {\n  value = terraform_data.nowhere.id\n}\n'
    async with running_server(tmp_path, database_url) as server:
        await server.workspace("w", {"main.tf": main})
        task = await server.task("w", "apply")

        failed = await server.until(task, "failed")

        assert failed["reason"] == "plan_failed"
        assert "Reference to undeclared resource" in (await server.log(task)).decode()


async def test_an_apply_that_fails_half_way_keeps_what_was_made(tmp_path: Path, database_url: str) -> None:
    main = ONE + (
        'resource "terraform_data" "b" {\n  depends_on = [terraform_data.a]\n'
        '  provisioner "local-exec" {\n    command = "echo out of luck; exit 7"\n  }\n}\n'
    )
    async with running_server(tmp_path, database_url) as server:
        await server.workspace("w", {"main.tf": main})
        task = await server.task("w", "apply")

        failed = await server.until(task, "failed")

        assert (failed["reason"], failed["phase"]) == ("apply_failed", "apply")
        assert {resource["name"] for resource in (await state_of(server, "w"))["resources"]} == {"a", "b"}
        assert "out of luck" in (await server.log(task)).decode()


async def test_output_of_any_bytes_arrives_as_it_is(tmp_path: Path, database_url: str) -> None:
    blob = bytes(range(256)) * 16
    (tmp_path / "blob").write_bytes(blob)
    scene = Stage(tmp_path).set()
    odd = tmp_path / "bin" / "terraform"
    usual = odd.read_text()
    odd.write_text(usual.replace("exec ", f'[ "$1" = plan ] && cat {tmp_path / "blob"}\nexec '))
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})
        task = await server.task("w", "plan")
        await server.until(task, "succeeded")

        assert blob in await server.log(task)


async def test_secrets_are_never_in_a_log(tmp_path: Path, database_url: str) -> None:
    secret = "correct-horse-battery"
    script = tmp_path / "split.py"
    script.write_text(
        f"import os, sys, time\nos.write(1, b'{secret[:9]}'); time.sleep(0.3); os.write(1, b'{secret[9:]}\\n')\n"
    )
    scene = Stage(tmp_path).set()
    odd = tmp_path / "bin" / "terraform"
    encoded = base64.b64encode(f"user:{secret}".encode()).decode()
    odd.write_text(
        odd.read_text().replace(
            "exec ", f'[ "$1" = plan ] && {{ python3 {script}; echo "Basic {encoded}"; echo "pw=$PASSWORD"; }}\nexec '
        )
    )
    async with running_server(tmp_path / "data", database_url, env={**scene.env, "PATH": scene.env["PATH"]}) as server:
        await server.workspace("w", {"main.tf": ONE})
        variable = {"key": "PASSWORD", "value": secret, "category": "environment", "sensitive": True}
        await server.call("POST", "/api/v1/workspaces/w/variables", json=variable)
        task = await server.task("w", "plan")
        await server.until(task, "succeeded")
        log = (await server.log(task)).decode()

    assert "pw=***" in log
    assert secret[:9] not in log
    assert secret[9:] not in log
    assert encoded[8:-4] not in log


async def test_a_full_disk_before_anything_ran_fails_the_task_and_says_so(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "data").mkdir()
    with small_disk(tmp_path / "data" / "tasks", kilobytes=256):
        async with running_server(tmp_path / "data", database_url) as server:
            await server.workspace("w", {"main.tf": ONE, "big.txt": "x" * 400_000})
            task = await server.task("w", "plan")

            failed = await server.until(task, "failed")

            assert failed["reason"] == "storage_full"
            assert "disk is full" in failed["detail"]
            await all_cleared(tmp_path / "data")
            # The room is there again, and so is the server.
            await server.workspace("small", {"main.tf": ONE})
            await server.until(await server.task("small", "plan"), "succeeded", "failed")


async def test_a_full_disk_in_the_middle_of_an_apply_does_not_lose_the_state(tmp_path: Path, database_url: str) -> None:
    filler = "head -c 100000000 /dev/zero > ../filler; true"
    main = (
        f'resource "terraform_data" "a" {{\n  provisioner "local-exec" {{\n    command = "{filler}"\n  }}\n}}\n'
        'resource "terraform_data" "b" {\n  depends_on = [terraform_data.a]\n}\n'
    )
    (tmp_path / "data").mkdir()
    with small_disk(tmp_path / "data" / "tasks", kilobytes=32 * 1024):
        async with running_server(tmp_path / "data", database_url) as server:
            await server.workspace("w", {"main.tf": main})
            task = await server.task("w", "apply")

            failed = await server.until(task, "failed")

            assert failed["reason"] == "apply_failed"
            state = await state_of(server, "w")
            # Terraform could write it nowhere and went no further; the only copy was what it printed.
            assert {resource["name"] for resource in state["resources"]} == {"a"}
            log = (await server.log(task)).decode()
            assert "no space left on device" in log
            assert "Emergency state dump" in log
            assert state["lineage"] not in log, "the state itself is not shown"
            await all_cleared(tmp_path / "data")


@pytest.mark.parametrize("kind", ["background", "setsid", "double_fork"])
async def test_a_child_that_stays_behind_is_gone_with_its_task(tmp_path: Path, database_url: str, kind: str) -> None:
    pid_file = tmp_path / "child.pid"
    scene = Stage(tmp_path).set(plan={"children": [{"kind": kind, "pid_file": str(pid_file)}]})
    async with running_server(tmp_path / "data", database_url, env=scene.env) as server:
        await server.workspace("w", {"main.tf": ONE})

        await server.until(await server.task("w", "plan"), "succeeded")

        await exists(pid_file)
        await all_cleared(tmp_path / "data")
