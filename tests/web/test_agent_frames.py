"""Hostile frames over real sockets: each ends its own connection at most; the server and the other agents go on."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import trio
from trio_websocket import ConnectionClosed

from iac.domain.agent_session import Times
from iac.domain.messages import LARGEST_FRAME, Error, Heartbeat, HeartbeatAck, encode
from tests.fakes.scripted_agent import Link, ScriptedAgent
from tests.harness.agents import a_pool
from tests.harness.server import running_server

CLOSED_BY_US = {1007, 1009, 4400, 4429}
"""What a hostile frame may bring about: no text, too large, no message, too many."""
GONE = 1006
"""The connection is simply over: hypercorn says nothing to a peer that breaks WebSocket itself, and the kernel takes the
last words back when there is unread data.
"""
CROWD = 10
"""Agents that take turns, because each may open ten connections at once only."""


@dataclass
class Crowd:
    """Agents that misbehave in turns, and one that goes on working."""

    hostile: Any
    bystander: Link

    async def talk(self, *frames: str | bytes, greet: bool = True) -> int | None:
        """The code with which the server closed the connection, None when it still answers heartbeats."""
        agent: ScriptedAgent = next(self.hostile)
        async with agent.connected() as link:
            if greet:
                await link.hello()
            with suppress(ConnectionClosed):
                for frame in frames:
                    await link.socket.send_message(frame)
                await link.beat()
                return None
            code, _ = await link.closed()
            return code

    async def undisturbed(self) -> None:
        """The bystander's connection is the one it had from the beginning, and is answered."""
        await self.bystander.beat()


@asynccontextmanager
async def a_crowd(tmp_path: Path, database_url: str) -> AsyncIterator[Crowd]:
    async with running_server(tmp_path / "data", database_url, times=Times()) as server:
        token = await a_pool(server, kind="k8s")
        agents = [ScriptedAgent(server.client, token, instance=f"instance-{number}") for number in range(CROWD)]
        for agent in agents:
            await agent.register()
        async with agents[0].connected() as bystander:
            await bystander.hello()
            yield Crowd(cycle(agents[1:]), bystander)


def typed(kind: str, payload: Any) -> str:
    return json.dumps({"type": kind, "payload": payload})


def beat_with(**odd: Any) -> str:
    good = Heartbeat(
        agent_id="a", status="idle", plan_running=0, plan_limit=1, apply_running=False, current_tasks=(), cpu_usage=0.0,
        mem_usage=0.0, seq=10**6, boot_id="boot-of-the-agent",
    )  # fmt: skip
    return typed("heartbeat", {**msgspec.to_builtins(good), **odd})


DEEP = "[" * 20_000 + "]" * 20_000
HELD = {"task_id": 1, "fence": 1}
MALFORMED = (
    b"binary", "", "no json", "[]", "null", "1e999", '{"type": 1}', '{"payload": {}}', '{"type": "hello"}',
    typed("heartbeat", {}), typed("heartbeat", []), typed("heartbeat", None), typed("task_accepted", {"task_id": "1"}),
    typed("cancel_ack", {"task_id": 1, "fence": 1, "cancel_id": "c", "stage": "no such stage"}),
    typed("live_log", {"task_id": 1, "fence": 1, "offset": 0, "data": "not base64!"}),
    DEEP, f'{{"type": "x", "payload": {DEEP}}}', "x" * (300 * 1024), "x" * (LARGEST_FRAME + 1),
    beat_with(boot_id="x" * 201), beat_with(tasks=[{"task_id": 1}]), beat_with(tasks={"1": HELD}),
    beat_with(tasks=[{"task_id": 10**30, "fence": 10**30}]),
    typed("task_stage", {"task_id": 1, "fence": 2**64, "stage": "init"}),
    typed("task_finished", {"task_id": 1, "fence": -(10**40)}),
)  # fmt: skip
HARMLESS = (
    beat_with(cpu_usage=1e308, mem_usage=-5.0, disk_free=-1, plan_limit=10**30, seq=10**12),
    typed("task_accepted", {"task_id": 1, "assignment_id": "x", "fence": 2**63 - 1}),
    typed("task_rejected", {"task_id": 1, "assignment_id": "x", "fence": 1, "reason": "at_capacity"}),
    typed("task_stage", {"task_id": 1, "fence": 1, "stage": "s" * 100_000}),
    typed("task_finished", {"task_id": 1, "fence": 1, "unknown": [1, {"x": None}]}),
    typed("cancel_ack", {"task_id": 1, "fence": 1, "cancel_id": "never asked", "stage": "exited"}),
    typed("live_log", {"task_id": 1, "fence": 1, "offset": 2**62, "data": "AAAA"}),
    typed("error", {"code": "x", "message": "y" * 10_000}),
    typed("drain_ack", {"running": list(range(5_000))}),
    json.dumps({"type": "drain_ack", "payload": {}, "id": "1", "re": "2", "more": {"a": [1]}}),
)


async def test_a_frame_that_is_no_message_ends_its_own_connection_only(tmp_path: Path, database_url: str) -> None:
    async with a_crowd(tmp_path, database_url) as crowd:
        for frame in MALFORMED:
            assert await crowd.talk(frame) in CLOSED_BY_US, str(frame)[:100]
            await crowd.undisturbed()


async def test_a_message_about_nothing_changes_nothing(tmp_path: Path, database_url: str) -> None:
    async with a_crowd(tmp_path, database_url) as crowd:
        for frame in HARMLESS:
            assert await crowd.talk(frame) is None, frame[:100]
        await crowd.undisturbed()


async def test_random_frames_leave_the_server_alive(tmp_path: Path, database_url: str) -> None:
    chance = random.Random(61)  # noqa: S311 - the same frames every time
    async with a_crowd(tmp_path, database_url) as crowd:
        for _ in range(40):
            frames = [mutated(chance) for _ in range(6)]
            assert await crowd.talk(*frames, greet=chance.random() < 0.8) in {None, *CLOSED_BY_US}, frames
        await crowd.undisturbed()


def mutated(chance: random.Random) -> str:
    """A good frame in which something was changed, cut or doubled."""
    frame = chance.choice([*HARMLESS[:3], *HARMLESS[4:8], encode_hello(), typed("goodbye_", {"a": 1})])
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(frame) or 1)
        end = at + chance.randrange(12)
        odd = [
            "",
            "\x00",
            "\\u0000",
            '"',
            "{",
            "]",
            "9" * 40,
            "-",
            "null",
            "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        ]
        frame = frame[:at] + chance.choice(odd) + frame[end:]
    return frame


def encode_hello() -> str:
    return typed("hello", {"agent_id": "agent-0000000000000000", "boot_id": "b", "conn_seq": 1})


async def test_bytes_that_are_no_text_end_the_connection(tmp_path: Path, database_url: str) -> None:
    async with a_crowd(tmp_path, database_url) as crowd:
        async with next(crowd.hostile).connected() as link:
            await link.hello()
            await link.socket._stream.send_all(text_frame(b'{"type": "\xff\xfe"}'))
            assert (await link.closed())[0] in {GONE, *CLOSED_BY_US}
        await crowd.undisturbed()


def text_frame(payload: bytes) -> bytes:
    """A final text frame of a client, its mask all zeros."""
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload


async def test_an_unknown_type_is_answered_once_for_each_type(tmp_path: Path, database_url: str) -> None:
    async with a_crowd(tmp_path, database_url) as crowd:
        async with next(crowd.hostile).connected() as link:
            await link.hello()
            for _ in range(3):
                for kind in ("from_the_future", "run_task", "z" * 200):  # the server's own are unknown here as well
                    await link.socket.send_message(typed(kind, {"x": 1}))
            await link.beat()
            told = [message for message in link.heard if isinstance(message, Error)]
            assert [message.code for message in told] == ["unknown_type"] * 3


async def test_a_flood_of_frames_is_ended_4429_and_nobody_else_notices(tmp_path: Path, database_url: str) -> None:
    async with a_crowd(tmp_path, database_url) as crowd:
        agent: ScriptedAgent = next(crowd.hostile)
        async with agent.connected() as link, trio.open_nursery() as nursery:
            await link.hello()
            nursery.start_soon(beats, crowd.bystander, 5)
            with suppress(ConnectionClosed):
                for _ in range(1_000):
                    await link.socket.send_message(encode(agent.heartbeat()))
            assert (await link.closed())[0] == 4429
            told = [message for message in link.heard if isinstance(message, Error)]
            assert told[-1].retry_after_s is not None


async def beats(link: Link, number: int) -> None:
    for _ in range(number):
        ack = await link.beat()
        assert isinstance(ack, HeartbeatAck)
        assert not ack.degraded


async def test_who_sends_more_bytes_than_may_be_is_ended_4429(tmp_path: Path, database_url: str) -> None:
    async with a_crowd(tmp_path, database_url) as crowd:
        large = typed("error", {"code": "x", "message": "y" * 200_000})
        assert await crowd.talk(*[large] * 60) in (4429, GONE)
        await crowd.undisturbed()
