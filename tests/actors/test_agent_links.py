"""How the whole agent keeps its place: connections, sessions, identities, and the ends that the server gives it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from quart import Response

from iac.actors.agent_tree import run_agent
from iac.domain.messages import (
    Hello,
    ServerShutdown,
)
from iac.errors import Conflict, IacError, StartFailed, UpgradeRequired
from tests.actors.agent_trees import TIMES, an_agent, exists, settings_of
from tests.fakes.agent_api import serving
from tests.fakes.agent_platform import PATIENT, AgentApi
from tests.fakes.fake_terraform import ledger_of


async def test_heartbeats_without_answer_end_the_connection(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path, times=replace(TIMES, ack_within=0.4)):
        await api.until(lambda: api.connected)
        api.mute = True
        await api.until_heard(Hello, conn_seq=2)


async def test_a_restarting_server_is_come_back_to(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path):
        await api.until(lambda: api.connected)
        api.say(ServerShutdown(retry_after_s=0.1, reason="deploy"))
        api.hang_up(1012)
        await api.until_heard(Hello, conn_seq=2)


async def test_an_expired_session_leads_to_a_new_one(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path) as agent:
        await api.until(lambda: api.connected)
        api.sessions.clear()
        api.hang_up(4401)
        await api.until_heard(Hello, conn_seq=2)
        assert [register.agent_id for register in api.registers] == [None, agent.agent_id]
        assert api.registers[1].instance_secret is not None
        assert api.handshakes[-1]["X-Iac-Boot-Id"] == api.registers[0].boot_id


async def test_a_session_is_renewed_before_it_ends(tmp_path: Path) -> None:
    api = AgentApi()
    api.session_lasts = 1.0
    async with serving(api), an_agent(api, tmp_path) as agent:
        await api.until(lambda: ("POST", f"/api/v1/agents/{agent.agent_id}/session") in api.requests)
        assert len(api.registers) == 1


async def test_a_revoked_agent_stops_its_tasks_and_ends_with_3(tmp_path: Path) -> None:
    ready, ledger = tmp_path / "ready", tmp_path / "ledger"
    scenario = {"ledger": str(ledger), "commands": {"plan": {"sleep": "forever", "ready_file": str(ready)}}}
    async with serving() as api, an_agent(api, tmp_path, scenario=scenario, expect=3) as agent:
        await api.until(lambda: api.connected)
        api.offer()
        await exists(ready)
        api.hang_up(4403, "revoked")
        with trio.fail_after(PATIENT):
            await agent.ended.wait()
        assert [entry["event"] for entry in ledger_of(ledger)][-2:] == ["sigterm", "stop"]


async def test_an_agent_that_waits_for_approval_does_not_give_up(tmp_path: Path) -> None:
    api = AgentApi()
    api.approved = False
    api.refuse_channel = lambda: Response(status=403)
    async with serving(api), an_agent(api, tmp_path):
        await api.until(lambda: len(api.registers) >= 2)
        api.approved, api.refuse_channel = True, None
        await api.until_heard(Hello)


async def test_an_agent_that_is_too_old_ends_with_4(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path, expect=4) as agent:
        await api.until(lambda: api.connected)
        api.hang_up(4406)
        with trio.fail_after(PATIENT):
            await agent.ended.wait()


async def test_an_identity_that_somebody_else_uses_ends_with_5(tmp_path: Path) -> None:
    api = AgentApi()
    api.refuse_channel = lambda: Response(status=409, headers={"X-Code": "session_conflict"})
    async with serving(api), an_agent(api, tmp_path, expect=5) as agent:
        with trio.fail_after(PATIENT):
            await agent.ended.wait()
        assert len(api.handshakes) > 1


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(Conflict("taken", code="name_in_use"), 5), (UpgradeRequired("too old", min=2, max=3), 4)],
)
async def test_a_refused_register_ends_the_program(tmp_path: Path, refusal: IacError, code: int) -> None:
    api = AgentApi()
    api.refuse_register = refusal
    async with serving(api):
        with trio.fail_after(PATIENT), pytest.raises(StartFailed) as caught:
            await run_agent(settings_of(api, tmp_path), {}, times=TIMES)
        assert caught.value.exit_code == code


async def test_a_second_agent_in_the_same_directory_ends_with_6(tmp_path: Path) -> None:
    async with serving() as api, an_agent(api, tmp_path):
        with pytest.raises(StartFailed, match="IAC_DATA_DIR") as caught:
            await run_agent(settings_of(api, tmp_path), {}, times=TIMES)
        assert caught.value.exit_code == 6


async def test_a_restarted_agent_is_the_same_agent(tmp_path: Path) -> None:
    async with serving() as api:
        async with an_agent(api, tmp_path) as first:
            await api.until(lambda: api.connected)
        async with an_agent(api, tmp_path) as second:
            assert second.agent_id == first.agent_id
        assert api.registers[0].boot_id != api.registers[1].boot_id
