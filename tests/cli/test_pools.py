"""Pools, their tokens and agents from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from iac.cli.times import Span, ago, spelled
from iac.domain.messages import RunTaskOrder
from tests.cli.running import CommandLine, on_terminal
from tests.fakes.scripted_agent import ScriptedAgent
from tests.harness.agents import MAIN
from tests.harness.server import RunningServer, running_server
from tests.system.agents_at_work import waits


async def pooled(iac: CommandLine, server: RunningServer, name: str = "agent-01") -> ScriptedAgent:
    """A registered agent of the new pool `hosts`, which runs the new workspace `shop`; all made on the command line."""
    await iac("pool", "create", "hosts")
    token = (await iac("pool", "token", "create", "hosts", "first")).out.strip()
    await iac("workspace", "create", "shop", "--pool", "hosts")
    await server.call("PUT", "/api/v1/workspaces/shop/configuration", json={"files": MAIN})
    agent = ScriptedAgent(server.client, token, name=name)
    await agent.register()
    return agent


async def test_a_pool_is_made_shown_changed_and_deleted(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url, local_executor=False) as server:
        iac = iac.but(url=server.url)
        assert "iac pool create NAME" in (await iac("pool", "list")).err
        made = await iac("pool", "create", "hosts", "--require-approval", "--description", "the rack", "--json")
        assert (made.json["require_approval"], made.json["name_policy"]) == (True, "unique")
        assert "iac pool token create hosts" in made.err
        listed = (await iac("pool", "list")).out.splitlines()
        assert listed[0].split()[:2] == ["NAME", "KIND"]
        assert "0 of 0" in listed[1]
        assert "the rack" in listed[1]
        assert "wait for approval" in (await iac("pool", "show", "hosts")).out
        changed = await iac("pool", "set", "hosts", "--no-require-approval", "--apply-exclusivity", "slot", "--json")
        assert (changed.json["require_approval"], changed.json["apply_exclusivity"]) == (False, "slot")
        assert "Nothing to change" in (await iac("pool", "set", "hosts", expect=2)).err
        demand = await iac("pool", "demand", "hosts", "--json")
        assert (demand.json["waiting_plans"], demand.json["plan_slots"]) == (0, 0)
        assert "0 plan(s), 0 apply(s)" in (await iac("pool", "demand", "hosts")).out
        assert (await iac("pool", "create", "hosts", "--json", expect=1)).json["error"]["code"] == "name_in_use"
        assert "--yes" in (await iac("pool", "rm", "hosts", expect=2)).err
        assert (await iac("pool", "rm", "hosts", "--yes", "--json")).json["deleted"] is True
        gone = await iac("pool", "show", "hosts", expect=1)
        assert "There is no pool 'hosts'" in gone.err
        assert "iac pool list" in gone.err


async def test_a_workspace_moves_to_a_pool_and_back(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        await iac("pool", "create", "hosts")
        await iac("workspace", "create", "shop", "--json")
        early = await iac("workspace", "set", "shop", "--pool", "hosts", expect=1)
        assert "Pool hosts does not allow this workspace" in early.err
        assert "iac pool allow POOL WORKSPACE" in early.err
        assert "iac pool allow hosts WORKSPACE" in (await iac("pool", "workspaces", "hosts")).err
        assert "iac workspace set shop --pool hosts" in (await iac("pool", "allow", "hosts", "shop")).err
        assert "Which pool?" in (await iac("workspace", "set", "shop", "--execution-mode", "agent", expect=2)).err
        moved = await iac("workspace", "set", "shop", "--execution-mode", "agent", "--pool", "hosts", "--json")
        assert (moved.json["execution_mode"], moved.json["pool_name"]) == ("agent", "hosts")
        assert "pool hosts" in (await iac("workspace", "list")).out
        assert (await iac("pool", "workspaces", "hosts", "--json")).json["items"][0]["in_use"] is True
        in_use = await iac("pool", "rm", "hosts", "--yes", expect=1)
        assert "1 workspace(s) point at pool hosts" in in_use.err
        back = await iac("workspace", "set", "shop", "--execution-mode", "local", "--json")
        assert (back.json["execution_mode"], back.json["pool_id"]) == ("local", None)
        await iac("pool", "disallow", "hosts", "shop")
        assert (await iac("pool", "disallow", "hosts", "shop", "--json")).json["allowed"] is False
        await iac("pool", "rm", "hosts", "--yes")


async def test_a_workspace_is_created_in_a_pool_at_once_or_not_at_all(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        await iac("pool", "create", "hosts")
        assert "iac pool list" in (await iac("workspace", "create", "shop", "--pool", "host", expect=1)).err
        assert "Which pool?" in (await iac("workspace", "create", "shop", "--execution-mode", "agent", expect=2)).err
        contradiction = ("workspace", "create", "shop", "--execution-mode", "local", "--pool", "hosts")
        assert "contradict" in (await iac(*contradiction, expect=2)).err
        assert (await iac("workspace", "list", "--json")).json["items"] == []
        made = await iac("workspace", "create", "shop", "--pool", "hosts", "--json")
        assert (made.json["execution_mode"], made.json["pool_name"]) == ("agent", "hosts")
        operator = await server.call("POST", "/api/v1/tokens", json={"name": "op", "role": "operator"})
        refused = await iac.but(token=operator["token"])("workspace", "create", "bar", "--pool", "hosts", expect=1)
        assert "Workspace bar is created, but runs on the server" in refused.err
        assert "iac pool allow hosts bar" in refused.err


async def test_a_token_is_shown_once_rotated_and_revoked(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        await iac("pool", "create", "hosts")
        assert "iac pool token create hosts NAME" in (await iac("pool", "token", "list", "hosts")).err
        made = await iac("pool", "token", "create", "hosts", "first", "--expires", "90d")
        assert made.out.startswith("iacp_")
        assert made.out.count("\n") == 1
        assert "It is not shown again" in made.err
        assert made.out.strip() not in made.err + (await iac("pool", "token", "list", "hosts", "--json")).out
        listed = await iac("pool", "token", "list", "hosts")
        assert "good for 89 d" in listed.out
        assert "never" in listed.out
        rotated = await iac("pool", "token", "rotate", "hosts", "first", "--overlap", "2h")
        assert rotated.out.startswith("iacp_")
        assert rotated.out != made.out
        assert "for 2 h more" in rotated.err
        assert "replaced, good for 119 min" in (await iac("pool", "token", "list", "hosts")).out
        old, new = (await iac("pool", "token", "list", "hosts", "--json")).json["items"]
        again = await iac("pool", "token", "rotate", "hosts", old["id"], "--json", expect=1)
        assert again.json["error"]["code"] == "token_replaced"
        soft = await iac("pool", "token", "revoke", "hosts", "first", "--json")
        assert (soft.json["id"], soft.json["revoke_mode"]) == (new["id"], "soft")
        assert "was revoked already, soft" in (await iac("pool", "token", "revoke", "hosts", new["id"])).err
        assert "are shut out" in (await iac("pool", "token", "revoke", "hosts", new["id"], "--hard")).err
        assert "was revoked already, hard" in (await iac("pool", "token", "revoke", "hosts", new["id"])).err
        assert "iac pool token list hosts" in (await iac("pool", "token", "revoke", "hosts", "second", expect=1)).err


async def test_of_several_tokens_with_one_name_the_id_is_asked_for(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        await iac("pool", "create", "hosts")
        for _ in range(2):
            await iac("pool", "token", "create", "hosts", "same")
        several = await iac("pool", "token", "revoke", "hosts", "same", expect=1)
        assert several.err.count("ptok-") == 2


async def test_agents_are_listed_with_what_they_run_drained_and_retired(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        assert "There are no agents yet" in (await iac("agent", "list")).err
        agent = await pooled(iac, server)
        async with agent.connected() as link:
            await link.hello(plan_limit=3)
            task = await server.task("shop", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await agent.claim(order)
            listed = (await iac("agent", "list", "--pool", "hosts")).out.splitlines()
            assert listed[0].startswith("NAME")
            for shown in ("agent-01", "hosts", "online", "1/3", "s ago", str(task)):
                assert shown in listed[1], (shown, listed[1])
            found = (await iac("agent", "list", "--json")).json["items"]
            assert [(each["name"], each["current_tasks"]) for each in found] == [("agent-01", [task])]
            assert "1/3 slots in use" in (await iac("agent", "show", "agent-01")).out
            assert (await iac("agent", "show", found[0]["id"], "--json")).json["name"] == "agent-01"
            drained = await iac("agent", "drain", "agent-01", "--reason", "new kernel")
            assert "draining" in drained.out
            assert f"it still runs {task}" in drained.err
            assert (await iac("agent", "undrain", "agent-01", "--json")).json["status"] == "online"
            assert "Agent:" in (await iac("task", "show", str(task))).out
            assert "agent-01" in (await iac("task", "list")).out
            assert "--yes" in (await iac("agent", "rm", "agent-01", expect=2)).err
            busy = await iac("agent", "rm", "agent-01", "--yes", expect=1)
            assert "iac agent drain" in busy.err
            assert (await iac("agent", "rm", "agent-01", "--yes", "--force", "--json")).json["deleted"] is True
        assert (await iac("agent", "list", "--json")).json["items"] == []
        assert (await iac("agent", "show", found[0]["id"], "--json")).json["status"] == "retired"
        assert "iac agent list" in (await iac("agent", "show", "agent-01", expect=1)).err
        assert "iac pool list" in (await iac("agent", "list", "--pool", "nowhere", expect=1)).err


async def test_of_several_agents_with_one_name_the_pool_is_asked_for(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        await pooled(iac, server, "web")
        await iac("pool", "create", "others", "--require-approval")
        token = (await iac("pool", "token", "create", "others", "t")).out.strip()
        await ScriptedAgent(server.client, token, name="web").register()
        several = await iac("agent", "show", "web", expect=1)
        assert "in hosts" in several.err
        assert "in others" in several.err
        assert "waiting for approval" in (await iac("agent", "list")).out
        approved = await iac("agent", "approve", "web", "--pool", "others", "--json")
        assert (approved.json["approved"], approved.json["pool_name"]) == (True, "others")


async def test_a_task_says_why_no_agent_takes_it_and_what_to_do(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        await pooled(iac, server)
        task = await server.task("shop", "plan", message="friday")
        await waits(server, task, "no_agent_online")
        shown = await iac("task", "show", str(task))
        assert "No agent of pool hosts is online" in shown.out
        assert "iac agent list --pool hosts" in shown.out
        assert "friday: waits: No agent of pool hosts" in (await iac("task", "list")).out
        await iac("pool", "disallow", "hosts", "shop")
        await waits(server, task, "pool_not_allowed")
        assert "iac pool allow hosts shop" in (await iac("task", "show", str(task))).out


async def test_on_a_narrow_terminal_a_table_keeps_names_and_what_is_said(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url, more={"COLUMNS": "80"})
        await iac("pool", "create", "a-pool-with-a-long-name", "--description", "hosts-in-the-rack-downstairs")

        def look() -> str:
            with on_terminal(iac, "pool", "list") as shown:
                assert shown.ended() == 0
                return shown.shown.decode()

        shown = await trio.to_thread.run_sync(look)
        assert "a-pool-with-a-long-name" in shown
        assert "downstair" in shown, "to its end, on several lines"


async def test_deleting_a_pool_asks_on_a_terminal(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        await iac("pool", "create", "hosts")

        def refuse() -> None:
            with on_terminal(iac, "pool", "rm", "hosts") as shown:
                shown.until("Delete pool hosts")
                shown.type("n\n")
                assert shown.ended() == 1

        await trio.to_thread.run_sync(refuse)
        assert (await iac("pool", "show", "hosts", "--json")).json["name"] == "hosts"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43200), ("90d", 7776000), ("1w", 604800)]
)
def test_spans_of_time_are_read(text: str, seconds: int) -> None:
    assert Span(0, 10**9).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "1y", "-1", "1.5h", "ten"])
async def test_what_is_no_span_is_refused_with_an_example(iac: CommandLine, text: str) -> None:
    told = await iac("pool", "token", "create", "hosts", "t", f"--expires={text}", expect=2)
    assert "90d, 12h, 30m" in told.err


async def test_a_span_outside_of_its_limits_is_refused(iac: CommandLine) -> None:
    assert "between 60 s and 3650 d" in (await iac("pool", "token", "create", "p", "t", "--expires=5s", expect=2)).err


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h")]
)
def test_spans_of_time_are_written(seconds: float, words: str) -> None:
    assert spelled(seconds) == words


def test_what_never_happened_was_never() -> None:
    assert ago(None) == "never"
