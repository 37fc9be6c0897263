"""The control channel over real sockets: who gets in, what is said, and how it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected

from iac.domain.agent_session import Times
from iac.domain.messages import (
    LARGEST_FRAME,
    Error,
    Goodbye,
    HeartbeatAck,
    Hello,
    RunTaskOrder,
    ServerShutdown,
    TaskStage,
    Welcome,
)
from tests.fakes.scripted_agent import ScriptedAgent, acceptance, control_channel, held, refusal
from tests.harness.agents import a_pool, a_workspace, an_agent
from tests.harness.server import RunningServer, running_server

QUICK = Times(look=0.1, tick=0.05)
BLIND = Times(look=3600)
"""The lease keeper never looks: what reaches an agent comes from where it was decided."""


@asynccontextmanager
async def served(tmp_path: Path, database_url: str, times: Times = QUICK) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", database_url, times=times) as server:
        yield server


async def refused(agent: ScriptedAgent, **facts: str) -> tuple[int, dict[str, object]]:
    """The status and the error with which the handshake is refused."""
    with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True) as caught:
        async with agent.connected(**facts):
            pass
    rejection = caught.value.exceptions[0]
    assert isinstance(rejection, ConnectionRejected)
    body = rejection.body
    assert body is not None
    error: dict[str, object] = json.loads(body)["error"]
    return rejection.status_code, error


# Who gets in


async def test_open_control_channel_401_for_a_handshake_without_a_good_session(
    tmp_path: Path, database_url: str
) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        for token in ("x", agent.pool_token, "iacs_" + "0" * 49):
            assert (await refused(agent, session=token))[0] == 401


async def test_open_control_channel_403_for_the_session_of_another_agent(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        status, error = await refused(agent, **{"X-IAC-Agent-Id": "agent-0000000000000000"})
        assert (status, error["code"]) == (403, "wrong_scope")


async def test_open_control_channel_426_for_whoever_does_not_speak_the_protocol(
    tmp_path: Path, database_url: str
) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        plain = await agent.call("GET", "/agents/control", agent.session, expect=426)
        assert (plain.json()["error"]["min"], plain.json()["error"]["max"]) == (1, 1)
        with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True) as caught:
            async with control_channel(agent.url, {"Authorization": f"Bearer {agent.session}"}, subprotocols=()):
                pass
        rejection = caught.value.exceptions[0]
        assert isinstance(rejection, ConnectionRejected)
        assert rejection.status_code == 426


async def test_open_control_channel_429_for_too_many_handshakes(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        for _ in range(10):
            async with agent.connected():
                pass
        status, error = await refused(agent)
        assert (status, error["code"], error["retryable"]) == (429, "rate_limited", True)


async def test_open_control_channel_101_and_a_hello_is_answered_with_a_welcome(
    tmp_path: Path, database_url: str
) -> None:
    async with served(tmp_path, database_url, Times()) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            first = await link.hello()
        assert (first.protocol_version, first.heartbeat_interval_s, first.lease_s, first.lost_after_s) == (
            1,
            10,
            60,
            120,
        )
        assert (first.decisions, first.drain, first.apply_alone) == ((), False, True)
        async with agent.connected() as link:
            second = await link.hello()
            ack = await link.beat()
        assert second.conn_epoch > first.conn_epoch
        assert (ack.leases, ack.cancel, ack.drain, ack.degraded) == ((), (), False, False)
        shown = await server.call("GET", f"/api/v1/agents/{agent.id}")
        assert (shown["status"], shown["cpu_usage"]) == ("online", 0.1)


# How it ends


async def test_who_says_no_hello_is_closed_4408(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url, Times(hello_within=0.3)) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            assert await link.closed() == (4408, "no hello")


async def test_who_falls_silent_is_closed_4408(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url, Times(hello_within=2.0, offline=0.5)) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            assert await link.closed() == (4408, "silent for too long")


@pytest.mark.parametrize(
    "frame",
    ["no json", "[]", '{"type": 1}', '{"type": "hello"}', '{"type": "heartbeat", "payload": {}}', b"binary"],
)
async def test_a_frame_that_is_no_message_ends_the_channel(
    tmp_path: Path, database_url: str, frame: str | bytes
) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.socket.send_message(frame)
            assert (await link.closed())[0] == 4400


async def test_the_first_message_has_to_be_a_hello_and_only_the_first(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.say(agent.heartbeat())
            assert await link.closed() == (4400, "the first frame has to be a hello")
        async with agent.connected() as link:
            await link.hello()
            await link.say(agent.hello())
            assert await link.closed() == (4400, "a second hello")
        async with agent.connected() as link:
            await link.say(agent.hello(agent_id="agent-0000000000000000"))
            assert (await link.closed())[0] == 4400
        async with agent.connected() as link:
            await link.say(agent.hello(protocol_versions=(2, 3)))
            assert (await link.closed())[0] == 4406


async def test_a_frame_over_the_limit_ends_the_channel(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            await link.socket.send_message("x" * (LARGEST_FRAME + 1))
            assert (await link.closed())[0] == 4400
        async with agent.connected() as link:
            await link.hello()  # the server goes on as before


async def test_an_unknown_message_is_answered_once_and_changes_nothing(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            for _ in range(3):
                await link.socket.send_message('{"type": "from_the_future", "payload": {"x": 1}}')
            await link.beat()
            assert [message.code for message in link.heard if isinstance(message, Error)] == ["unknown_type"]


async def test_who_sends_too_many_frames_is_closed_4429(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            with suppress(ConnectionClosed):  # maybe before the last one is sent
                for number in range(200):
                    await link.socket.send_message(json.dumps({"type": "x", "payload": {"n": number}}))
            assert (await link.closed())[0] == 4429
            assert any(isinstance(message, Error) and message.code == "rate_limited" for message in link.heard)


async def test_the_newest_connection_of_a_process_wins(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as old, agent.connected() as new:
            await old.hello(conn_seq=5)
            await new.hello(conn_seq=6)
            assert await old.closed() == (4409, "replaced")
            await new.beat()
            async with agent.connected() as late:
                await late.say(agent.hello(conn_seq=5))
                assert await late.closed() == (4409, "replaced")
            await new.beat()


async def test_a_hello_that_was_overtaken_is_not_believed_although_nobody_is_there_any_more(
    tmp_path: Path, database_url: str
) -> None:
    """Held up on its way, it lists nothing; what the agent was given meanwhile must not be given up for it."""
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello(conn_seq=6)
        async with agent.connected() as late:
            await late.say(agent.hello(conn_seq=5))
            assert await late.closed() == (4409, "replaced")


async def test_open_control_channel_409_session_conflict_while_the_first_process_lives(
    tmp_path: Path, database_url: str
) -> None:
    async with served(tmp_path, database_url, Times(heartbeat=1.0)) as server:
        agent = await an_agent(server)
        async with agent.connected() as first:
            await first.hello()
            status, error = await refused(agent, **{"X-IAC-Boot-Id": "another-boot"})
            assert (status, error["code"]) == (409, "session_conflict")
            async with agent.connected() as second:
                await second.say(agent.hello(boot_id="another-boot"))
                assert await second.closed() == (4409, "session_conflict")
            await first.beat()
            await trio.sleep(2.6)  # the first one hangs: nothing of it is heard for 2.5 heartbeats
            async with agent.connected() as second:
                await second.hello(boot_id="another-boot")
                assert await first.closed() == (4409, "replaced")


async def test_send_heartbeat_409_session_conflict_of_a_copy(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as first:
            await first.hello()
            path = f"/agents/{agent.id}/heartbeat"
            for boot, expect in (("another-boot", 409), (agent.boot, 200)):
                beat = msgspec.to_builtins(agent.heartbeat(boot_id=boot))
                answer = await agent.call("POST", path, agent.session, json=beat, expect=expect)
                assert answer.json().get("error", {}).get("code") == (None if expect == 200 else "session_conflict")


async def test_list_pending_409_session_conflict_of_a_copy(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as first:
            await first.hello()
            path = f"/agents/{agent.id}/tasks/pending"
            for boot, expect in (("another-boot", 409), (agent.boot, 200)):
                await agent.call("GET", path, agent.session, headers={"X-IAC-Boot-Id": boot}, expect=expect)


async def test_a_stopping_server_says_so_before_it_closes(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            server.stop.set()
            assert (await link.get(ServerShutdown)).retry_after_s > 0
            assert (await link.closed())[0] == 1012


async def test_goodbye_gives_back_what_was_not_claimed(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await link.accept(order)
            await link.say(Goodbye(reason="drained"))
            assert await link.closed() == (1000, "goodbye")
        assert (await server.until(task, "queued"))["agent_id"] is None
        await agent.task(order, "GET", "/data", expect=409)


async def test_who_said_goodbye_is_offline_at_once_and_its_name_is_free(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)

        async def status() -> str:
            return str((await server.call("GET", f"/api/v1/agents/{agent.id}"))["status"])

        async with agent.connected() as link:
            await link.hello()
            assert await status() == "online"
            await link.say(Goodbye(reason="drained"))
            await link.closed()
        assert await status() == "offline"
        assert (await server.call("GET", "/api/v1/agent-pools/pool"))["agents_online"] == 0
        async with agent.connected() as link:
            await link.hello()
            assert await status() == "online", "it came back"
            await link.say(agent.heartbeat(draining=True))
            await link.get(HeartbeatAck)
            assert await status() == "draining", "by itself"
            await link.say(Goodbye(reason="drained"))
            await link.closed()
        await ScriptedAgent(server.client, agent.pool_token, name=agent.name, instance="another-instance").register()
        assert await status() == "retired"


# What is said


async def test_a_stage_is_noted_for_ones_own_task_only(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        token = await a_pool(server)
        await a_workspace(server)
        ours, other = ScriptedAgent(server.client, token, name="a"), ScriptedAgent(server.client, token, name="b")
        await ours.register()
        await other.register()
        async with ours.connected() as link:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await ours.claim(order)
            async with other.connected() as foreign:
                await foreign.hello()
                await foreign.say(TaskStage(task_id=task, fence=order.fence, stage="stolen"))
                await foreign.beat()
            assert (await server.call("GET", f"/api/v1/tasks/{task}"))["stage"] is None
            await link.say(TaskStage(task_id=task, fence=order.fence, stage="init"))
            await link.beat(held(order))
            assert (await server.call("GET", f"/api/v1/tasks/{task}"))["stage"] == "init"


async def test_what_one_agent_says_of_anothers_order_has_no_effect(tmp_path: Path, database_url: str) -> None:
    async with served(tmp_path, database_url) as server:
        token = await a_pool(server)
        await a_workspace(server)
        ours, other = ScriptedAgent(server.client, token, name="a"), ScriptedAgent(server.client, token, name="b")
        await ours.register()
        await other.register()
        async with ours.connected() as link, other.connected() as foreign:
            await link.hello()
            task = await server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
            await foreign.hello()
            await foreign.say(refusal(order))
            await foreign.say(acceptance(order))
            ack = await foreign.beat(held(order))
            assert ack.leases == ()
            assert (await server.call("GET", f"/api/v1/tasks/{task}"))["status"] == "assigned"
            await ours.claim(order)


async def test_the_first_frame_may_come_before_the_answer_to_the_handshake_is_read(
    tmp_path: Path, database_url: str
) -> None:
    async with served(tmp_path, database_url) as server:
        agent = await an_agent(server)
        async with agent.connected() as link:
            await link.say(Hello(agent_id=agent.id, boot_id=agent.boot, conn_seq=1))
            await link.say(agent.heartbeat())
            await link.get(Welcome)
