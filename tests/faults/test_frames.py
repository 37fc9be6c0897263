"""Row 61: frames that make no sense, too many, or too large, towards the server and towards an agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.scene import STRAIGHT, Message, Scene, a_scene, noting
from tests.harness.agent_process import AgentProcess
from tests.harness.chaos_way import Way
from tests.harness.frames import BINARY, frame
from tests.system.scenes import becomes

WRONG = {"agent_id": 7, "seq": "one", "tasks": {"a": None}, "task_id": "7", "fence": -1.5, "action": ["plan"]}


def text(message: object, *, masked: bool) -> bytes:
    return frame(json.dumps(message).encode(), masked=masked)


def nonsense(*, masked: bool) -> dict[str, bytes]:
    """What ends a connection, by what it is."""
    return {
        "binary": frame(b"\x00\x01\x02", BINARY, masked=masked),
        "300 KB": text({"type": "x", "payload": {"text": "x" * 300 * 1024}}, masked=masked),
        "5 MB": frame(b"x" * 5_000_000, masked=masked),
        "invalid UTF-8": frame(b'{"type": "\xff\xfe"}', masked=masked),
        "deep JSON": frame(b"[" * 100_000, masked=masked),
        "no object": text([1, 2, 3], masked=masked),
        "wrong types": text({"type": "heartbeat" if masked else "run_task", "payload": WRONG}, masked=masked),
        "no frame of WebSocket": b"\xff" * 64,
    }


async def slip_in(way: Way, carrier: str, raw: bytes) -> None:
    """Puts the bytes on the wire, once, behind the next message of that type."""
    done: list[bool] = []

    def behind(message: Message) -> list[Message | bytes]:
        if done or message["type"] != carrier:
            return [message]
        done.append(True)
        return [message, raw]

    way.rewrite(behind)
    await becomes(lambda: bool(done))


async def a_plan_that_waits(scene: Scene, agent: AgentProcess) -> int:
    scene.acts(plan=scene.waiting)
    await agent.says("connected")
    task = await scene.server.task("w", "plan")
    await scene.runs("plan")
    return task


async def ends_well(scene: Scene, agent: AgentProcess, task: int) -> None:
    scene.go()
    await scene.server.until(task, "succeeded")
    assert await scene.oracle.moves(task) == STRAIGHT
    assert await agent.stop() == 0
    assert "Traceback" not in agent.said


def with_more(change: Callable[[Message], list[Message]]) -> Callable[[Message], list[Message]]:
    """Every message has keys that nobody knows."""

    def more(message: Message) -> list[Message]:
        return [{**each, "new": 1, "payload": {**each["payload"], "new": [1]}} for each in change(message)]

    return more


def towards(scene: Scene, whom: str) -> tuple[Way, str, bool]:
    """The way there, a message that goes it every now and then, and whether its frames are masked."""
    return (scene.proxy.up, "heartbeat", True) if whom == "server" else (scene.proxy.down, "heartbeat_ack", False)


@pytest.mark.parametrize("whom", ["server", pytest.param("agent", marks=pytest.mark.slow_fault)])
async def test_row_61_nonsense_ends_the_connection_and_nothing_else(
    tmp_path: Path, database_url: str, whom: str
) -> None:
    """61: whatever it is, the connection ends, another one is made, and the plan goes on."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        task = await a_plan_that_waits(scene, agent)
        way, carrier, masked = towards(scene, whom)
        for number, raw in enumerate(nonsense(masked=masked).values(), start=2):
            await slip_in(way, carrier, raw)
            await agent.says("connected", number)
        assert agent.said.count("4400" if whom == "server" else "something that is no message") >= 4
        await ends_well(scene, agent, task)


@pytest.mark.parametrize("whom", ["server", "agent"])
async def test_row_61_what_is_only_unknown_is_answered_once_and_ends_nothing(
    tmp_path: Path, database_url: str, whom: str
) -> None:
    """61: an unknown type, and unknown keys in a known one."""
    answers: list[Message] = []

    async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        task = await a_plan_that_waits(scene, agent)
        way, carrier, masked = towards(scene, whom)
        back = scene.proxy.down if way is scene.proxy.up else scene.proxy.up
        back.rewrite(noting(answers, "error"))
        strange = {"type": "from_the_future", "payload": {"deep": [1, {"a": None}]}, "id": "x", "more": 1}
        await slip_in(way, carrier, text(strange, masked=masked) * 2)
        await becomes(lambda: bool(answers))
        assert answers[0]["payload"]["code"] == "unknown_type"
        carried: list[Message] = []
        way.rewrite(with_more(noting(carried, carrier)))
        await becomes(lambda: len(carried) > 3)
        assert len(answers) == 1
        assert agent.said.count("connected") == 1
        await ends_well(scene, agent, task)


async def test_row_61_a_thousand_frames_at_once_cost_an_agent_its_connection_and_nothing_else(
    tmp_path: Path, database_url: str
) -> None:
    """61: the server ends the connection, says when to come back, and the plan goes on."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        task = await a_plan_that_waits(scene, agent)
        useless = {"type": "drain_ack", "payload": {"running": []}}
        await slip_in(scene.proxy.up, "heartbeat", text(useless, masked=True) * 1000)
        await agent.says("ended with code 4429")
        await agent.says("connected", 2)
        await ends_well(scene, agent, task)


@pytest.mark.slow_fault
async def test_row_61_a_thousand_frames_at_once_do_not_keep_an_agent_from_its_work(
    tmp_path: Path, database_url: str
) -> None:
    """61: it goes on, on this connection or the next one."""
    async with a_scene(tmp_path, database_url) as scene, scene.agent() as agent:
        task = await a_plan_that_waits(scene, agent)
        useless = {"type": "flush_logs", "payload": {"task_id": 999, "fence": 999}}
        await slip_in(scene.proxy.down, "heartbeat_ack", text(useless, masked=False) * 1000)
        beats: list[Message] = []
        scene.proxy.down.rewrite(noting(beats, "heartbeat_ack"))
        await becomes(lambda: len(beats) > 3)
        await ends_well(scene, agent, task)
