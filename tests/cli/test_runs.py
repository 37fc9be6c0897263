"""iac run against a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from iac.domain.agent_session import Times
from iac.domain.ladder import Ladder
from iac.executor.run import ExecutorPolicy
from tests.cli.running import CommandLine, OnTerminal, in_background, on_terminal, read_until
from tests.fakes.fake_terraform import install
from tests.harness.server import PATIENT, RunningServer, running_server

MAIN = """
variable "word" { default = "x" }
resource "terraform_data" "a" { input = var.word }
output "said" { value = terraform_data.a.output }
output "secret" {
  value     = "hush"
  sensitive = true
}
"""


@asynccontextmanager
async def faked(
    tmp_path: Path, database_url: str, scenario: Mapping[str, object], **more: Any
) -> AsyncIterator[RunningServer]:
    """A server whose Terraform behaves like this, with a workspace `w` that has a configuration."""
    install(tmp_path / "bin", scenario)
    env = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    async with running_server(tmp_path / "data", database_url, env=env, **more) as server:
        await server.workspace("w", {"main.tf": ""})
        yield server


def with_server(iac: CommandLine, server: RunningServer) -> CommandLine:
    return iac.but(url=server.url, workspace="w")


async def only_task(server: RunningServer, *statuses: str) -> int:
    """The id of the one task there is, as soon as there is one that has one of these statuses."""
    with trio.fail_after(PATIENT):
        while True:
            for task in (await server.call("GET", "/api/v1/tasks"))["items"]:
                if not statuses or task["status"] in statuses:
                    return int(task["id"])
            await trio.sleep(0.02)


async def test_a_directory_is_planned_applied_and_destroyed(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.tf").write_text(MAIN)
    async with running_server(tmp_path / "data", database_url) as server:
        iac = with_server(iac, server)
        await iac("workspace", "create", "w")
        planned = await iac("run", "plan", "--detailed-exitcode", expect=2, cwd=code)
        assert "Plan: 1 to add" in planned.out
        assert "\x1b" not in planned.out + planned.err
        assert "Uploaded 1 file(s)" in planned.err
        applied = await iac("run", "apply", "--auto-approve", "--dir", str(code), "--message", "first")
        assert "Apply complete!" in applied.out
        assert applied.out.count("Apply complete!") == 1
        assert applied.err.splitlines()[-1].endswith("applied.")
        assert (await iac("output")).out == 'said = "x"\nsecret = <sensitive>\n'
        assert (await iac("output", "said", "--raw")).out == "x"
        assert (await iac("output", "said", "--json")).json == "x"
        assert (await iac("output", "--json")).json == {
            "said": {"sensitive": False, "type": "string", "value": "x"},
            "secret": {"sensitive": True, "type": "string", "value": None},
        }
        assert "state pull" in (await iac("output", "secret", expect=1)).err
        again = await iac("run", "plan", "--detailed-exitcode", "--no-upload", expect=0)
        assert "nothing to change" in again.err
        destroyed = await iac("run", "destroy", "--auto-approve", "--no-upload", "--detailed-exitcode", expect=2)
        assert "1 destroyed" in destroyed.out
        assert (await iac("output", "--json")).json == {}


async def test_a_saved_plan_is_applied_as_it_is(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, {}) as server:
        iac = with_server(iac, server)
        plan = (await iac("run", "plan", "--no-upload", "--json")).json
        assert (plan["status"], plan["outcome"], plan["plan"]["summary"]["add"]) == ("succeeded", "planned", 1)
        applied = (await iac("run", "apply", "--plan", str(plan["id"]), "--json")).json
        assert (applied["outcome"], applied["plan_task_id"]) == ("applied", plan["id"])
        stale = await iac("run", "apply", "--plan", str(plan["id"]), "--json", expect=1)
        assert stale.json["error"]["code"] == "plan_stale"


async def test_a_failure_ends_with_1_and_tells_the_log(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, {"commands": {"plan": {"exit": 1}}}) as server:
        iac = with_server(iac, server)
        failed = await iac("run", "plan", "--no-upload", "--detailed-exitcode", expect=1)
        assert "The scenario says so" in failed.out
        assert "failed (plan_failed)" in failed.err
        in_json = await iac("run", "plan", "--no-upload", "--json", expect=1)
        assert in_json.json["status"] == "failed"
        assert "The scenario says so" in in_json.err


async def test_a_directory_that_cannot_be_packed_starts_nothing(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with faked(tmp_path, database_url, {}) as server:
        (iac.home / "main.tf").symlink_to("../outside.tf")
        (tmp_path / "outside.tf").write_text("")
        refused = await with_server(iac, server)("run", "plan", expect=1)
        assert "main.tf is a link to ../outside.tf, which is outside" in refused.err
        assert (await server.call("GET", "/api/v1/tasks"))["items"] == []


async def test_what_it_waits_for_is_told(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, {}) as server:
        await server.call("POST", "/api/v1/workspaces/w/lock", json={"reason": "holidays"})
        with in_background(with_server(iac, server), "run", "apply", "--auto-approve", "--no-upload") as process:
            waits = b"waits: admin locked the workspace: holidays. (number 1 in the queue)"
            await trio.to_thread.run_sync(read_until, process.stderr, waits)
            await server.call("POST", "/api/v1/workspaces/w/unlock", json={})
            await trio.to_thread.run_sync(read_until, process.stderr, b"applied.")
            assert await trio.to_thread.run_sync(process.wait) == 0


async def test_on_a_terminal_it_asks_before_it_applies(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, {}) as server:
        await server.call("PATCH", "/api/v1/workspaces/w", json={"auto_apply": True})

        def agree(shown: OnTerminal) -> None:
            assert "+ terraform_data.a" in shown.until("Apply to w: 1 to add, 0 to change, 0 to destroy? [y/N]")
            shown.type("y\n")
            assert "Apply complete!" in shown.until("applied.")
            assert shown.ended() == 0

        def refuse(shown: OnTerminal) -> None:
            shown.until("[y/N]")
            shown.type("\n")
            assert "discarded: not confirmed." in shown.until("confirmed.")
            assert shown.ended() == 1

        for answer in (agree, refuse):
            with on_terminal(with_server(iac, server), "run", "apply", "--no-upload") as shown:
                await trio.to_thread.run_sync(answer, shown)
        tasks = (await server.call("GET", "/api/v1/tasks"))["items"]
        assert [task["outcome"] for task in tasks] == ["discarded", "applied"]
        assert tasks[1]["confirmation"]["plan_digest"] == tasks[1]["plan"]["digest"]


async def test_somebody_else_may_decide_while_it_asks(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, {}) as server:
        with on_terminal(with_server(iac, server), "run", "apply", "--no-upload") as shown:
            await trio.to_thread.run_sync(shown.until, "[y/N]")
            task = await only_task(server)
            await server.call("POST", f"/api/v1/tasks/{task}/confirm", json={})
            await server.until(task, "succeeded")
            shown.type("y\n")
            assert "already" in await trio.to_thread.run_sync(shown.until, "applied.")
            assert await trio.to_thread.run_sync(shown.ended) == 0


SLOW = {"commands": {"plan": {"sleep": "forever", "lines": ["working on it"]}}}


async def test_ctrl_c_on_a_terminal_offers_to_cancel(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, SLOW) as server:

        def cancel(shown: OnTerminal) -> None:
            shown.until("working on it")
            shown.interrupt()
            shown.until("[c]ancel it, [d]etach and let it run, [k]eep watching:")
            shown.type("k\n")
            shown.until("terraform plan")
            shown.interrupt()
            shown.until("watching:")
            shown.type("c\n")
            shown.until("was asked to stop")
            assert "Interrupt received." in shown.until("cancelled (user)")
            assert shown.ended() == 130

        with on_terminal(with_server(iac, server), "run", "plan", "--no-upload") as shown:
            await trio.to_thread.run_sync(cancel, shown)
        assert (await server.call("GET", f"/api/v1/tasks/{await only_task(server)}"))["status"] == "cancelled"


async def test_detaching_leaves_the_task_running(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, SLOW) as server:

        def detach(shown: OnTerminal) -> None:
            shown.until("working on it")
            shown.interrupt()
            shown.until("watching:")
            shown.type("d\n")
            shown.until("goes on without you")
            assert shown.ended() == 130

        with on_terminal(with_server(iac, server), "run", "plan", "--no-upload") as shown:
            await trio.to_thread.run_sync(detach, shown)
        assert (await server.call("GET", f"/api/v1/tasks/{await only_task(server)}"))["status"] == "running"


async def test_a_second_ctrl_c_offers_force(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    stubborn = {"commands": {"plan": {"sleep": "forever", "lines": ["working on it"], "ignore_sigterm": -1}}}
    policy = ExecutorPolicy(plan_ladder=Ladder(120, second=0.5), log_interval=0.02)
    async with faked(tmp_path, database_url, stubborn, policy=policy, times=Times(force_after=0)) as server:

        def force(shown: OnTerminal) -> None:
            shown.until("working on it")
            shown.interrupt()
            shown.until("watching:")
            shown.interrupt()
            shown.until("[f]orce, [d]etach, [k]eep waiting:")
            shown.type("f\n")
            shown.until("was asked to stop")  # what nobody has cancelled yet is not forced at once
            shown.until("killed in 2 min")
            shown.interrupt()
            shown.until("[f]orce, [d]etach, [k]eep waiting:")
            shown.type("f\n")
            shown.until("is being stopped by force")
            assert shown.ended() == 130

        with on_terminal(with_server(iac, server), "run", "plan", "--no-upload") as shown:
            await trio.to_thread.run_sync(force, shown)
        cancel = (await server.call("GET", f"/api/v1/tasks/{await only_task(server)}"))["cancel"]
        assert cancel["force"] is True


async def test_an_interrupt_without_a_terminal_cancels(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, SLOW) as server:
        iac = with_server(iac, server)
        with in_background(iac, "run", "plan", "--no-upload") as process:
            await trio.to_thread.run_sync(read_until, process.stdout, b"working on it")
            process.send_signal(signal.SIGINT)
            _, err = await trio.to_thread.run_sync(process.communicate)
        assert process.returncode == 130
        assert b"was asked to stop" in err
        await only_task(server, "cancelled")


async def test_the_logs_of_strangers_do_nothing_to_the_terminal(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\rover"
    async with faked(tmp_path, database_url, {"commands": {"plan": {"lines": [evil]}}}) as server:
        iac = with_server(iac, server)
        with on_terminal(iac, "run", "plan", "--no-upload") as shown:
            assert await trio.to_thread.run_sync(shown.ended) == 0
        assert b"\x1b[31mred\x1b[0m\r\nover" in shown.shown
        assert not any(bad in shown.shown for bad in (b"\x1b]0", b"\x1b[2J", b"\x07"))
        with on_terminal(iac, "task", "logs", "1", "--no-color") as shown:
            assert await trio.to_thread.run_sync(shown.ended) == 0
        assert b"red\r\nover" in shown.shown
        assert b"\x1b" not in shown.shown
        assert "red\nover" in (await iac("task", "logs", "1")).out
        assert evil in (await iac("task", "logs", "1", "--raw")).out
        events = (await iac("task", "logs", "1", "-f", "--json")).out.splitlines()
        assert all(line.startswith('{"type":"') for line in events)
        assert events[-1].startswith('{"type":"end"')
        with on_terminal(iac, "task", "logs", "1", "--raw") as shown:
            assert await trio.to_thread.run_sync(shown.ended) == 2


async def test_a_refresh_only_plan_is_shown_and_discarded(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, {}) as server:
        shown = await with_server(iac, server)(
            "run", "plan", "--refresh-only", "--no-upload", "--detailed-exitcode", expect=2
        )
        assert "discarded: shown only." in shown.err
        assert (await server.call("GET", "/api/v1/workspaces/w"))["lock"] is None


async def test_a_detached_run_prints_the_task(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with faked(tmp_path, database_url, {}) as server:
        iac = with_server(iac, server)
        task = int((await iac("run", "apply", "--detach", "--no-upload")).out)
        await server.until(task, "planned")
        shown = (await iac("task", "show", str(task))).out
        assert "1 to add, 0 to change, 0 to destroy" in shown
        assert "Waits:" in shown
        wrong = await iac("task", "confirm", str(task), "--digest", "0" * 64, "--json", expect=1)
        assert wrong.json["error"]["code"] == "plan_stale"
        followed = await iac("task", "confirm", str(task), "--comment", "yes", "--follow")
        assert "Apply complete!" in followed.out
        assert (await iac("task", "retry", str(task), "--json")).json["retry_of"] == task
