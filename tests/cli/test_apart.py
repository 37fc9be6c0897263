"""What the command line shows and does about states that are kept apart, and about applies whose end nobody saw."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from tests.cli.running import CommandLine, on_terminal
from tests.fakes.scripted_agent import ScriptedAgent
from tests.harness.server import running_server
from tests.web.agent_scene import Scene as Agents
from tests.web.agent_scene import a_scene, a_state

LINE = b"\x1b[31mas far as it came\x1b[0m\n"


async def an_apply_that_is_lost(scene: Agents) -> str:
    """With a checkpoint, a line of log, and a resource that was begun."""
    order = await scene.applying()
    agent: ScriptedAgent = scene.agent
    await agent.state(order, a_state(3), body={"partial": True}, expect=201)
    await agent.log(order, LINE)
    progress = [{"address": "a.b", "action": "create", "status": "started", "elapsed_s": 1.0}]
    await agent.task(order, "PUT", "/status", json={"status": "running", "progress": progress})
    await agent.status(order, "failed", state_safe=False, reason="state_not_stored", log=LINE)
    return str(order.task_id)


async def test_what_is_known_is_shown_and_the_checkpoint_put_aside_seen_and_promoted(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        task = await an_apply_that_is_lost(scene)
        iac = iac.but(url=scene.server.url, workspace="w")
        known = (await iac("task", "known", task)).out
        for text in ("lost", "serial 3", "Can be adopted", "as it is now", "a.b (create)", "  | as far as it came"):
            assert text in known
        assert "\x1b" not in known
        assert (await iac("task", "known", task, "--json")).json["checkpoint"]["version"]["serial"] == 3

        resolved = await iac("task", "resolve", task, "--unlock", "--comment", "gone")
        assert "is kept apart as" in resolved.out
        assert "1 quarantined" in (await iac("workspace", "show", "w")).out
        assert "iac state list --apart" in (await iac("state", "list")).err
        apart = (await iac("state", "list", "--apart", "--json")).json["items"]
        assert [item["serial"] for item in apart] == [3]
        assert apart[0]["id"] in (await iac("state", "list", "--apart")).out

        assert "--yes" in (await iac("state", "promote", apart[0]["id"], expect=2)).err
        promoted = (await iac("state", "promote", apart[0]["id"], "--yes", "--json")).json
        assert (promoted["serial"], promoted["verdict"], promoted["promotion_of"]) == (3, "current", apart[0]["id"])
        assert json.loads((await iac("state", "pull")).out) == json.loads(a_state(3))
        refused = await iac("state", "promote", promoted["id"], "--yes", "--json", expect=1)
        assert refused.json["error"]["code"] == "not_apart"


async def test_on_a_terminal_resolve_shows_what_is_known_and_asks(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        task = await an_apply_that_is_lost(scene)
        iac = iac.but(url=scene.server.url, workspace="w")

        def answer(word: str, expected: int) -> None:
            with on_terminal(iac, "task", "resolve", task, "--adopt") as shown:
                shown.until("serial 3")
                shown.until(f"Declare task {task} over, adopt its checkpoint?")
                shown.type(f"{word}\n")
                assert shown.ended() == expected

        await trio.to_thread.run_sync(answer, "n", 1)
        assert (await scene.server.call("GET", f"/api/v1/tasks/{task}"))["status"] == "lost"
        await trio.to_thread.run_sync(answer, "yes", 0)
        workspace = await scene.server.call("GET", "/api/v1/workspaces/w")
        assert (workspace["state_serial"], workspace["state_uncertain"]) == (3, True)
        assert (await iac("state", "list", "--apart")).out == ""


async def test_without_states_apart_nothing_is_said_of_them(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w")
        iac = iac.but(url=server.url, workspace="w")
        assert "Nothing of w is kept apart." in (await iac("state", "list", "--apart")).err
        assert "quarantined" not in (await iac("workspace", "show", "w")).out
