"""Rows 28, 29, 30, 31: log chunks that are late, out of order, damaged or hostile."""

from __future__ import annotations

import base64
import gzip
import random
import zlib
from pathlib import Path

import httpx
import pytest
import trio

from iac.domain.messages import RunTaskOrder
from iac.web.agent_tasks import CHUNKS_AT_ONCE
from tests.fakes.scripted_agent import ScriptedAgent, packed, sha256
from tests.harness.agents import an_agent
from tests.harness.killable import killable_server
from tests.web.agent_scene import Scene, a_scene, error

TEXT = b"".join(b"line %d of the log\n" % number for number in range(2000))
MIB = 1 << 20
GROWTH = 32 * MIB
"""What a server may grow by for whatever is thrown at it (row 31)."""


async def claimed(scene: Scene) -> RunTaskOrder:
    order = await scene.ordered()
    await scene.agent.claim(order)
    return order


async def ends_whole(scene: Scene, order: RunTaskOrder, text: bytes) -> None:
    """The log is that, everywhere: by its sha256 on the server, and as it is downloaded."""
    await scene.agent.status(order, "failed", log=text)
    assert (await scene.task(order))["status"] == "failed"
    assert await scene.server.log(order.task_id) == text


async def test_row_28_a_late_duplicate_after_later_chunks_is_taken_and_shrinks_nothing(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await claimed(scene)
        for at in range(0, 5000, 1000):
            await scene.agent.log(order, TEXT[at : at + 1000], offset=at)
        for at, size in [(0, 1000), (2000, 1000), (1500, 700), (4999, 1), (0, 5000)]:
            late = await scene.agent.log(order, TEXT[at : at + size], offset=at)
            assert late.json() == {"status": "ok", "next_offset": 5000}
        await scene.agent.log(order, TEXT[4000:6000], offset=4000)
        await ends_whole(scene, order, TEXT[:6000])


async def test_row_29_chunks_that_come_out_of_order_are_told_where_to_go_on_and_sent_again(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await claimed(scene)
        starts = list(range(0, 8000, 1000))
        random.Random(29).shuffle(starts)  # noqa: S311
        refused, sent = 0, 0
        for at in starts:
            answer = await anyhow(scene.agent, order, at)
            if answer.status_code == 409:
                told = error(answer)
                assert (told["code"], told["next_offset"], told["expected_offset"]) == ("log_gap", sent, sent)
                refused += 1
            else:
                sent = answer.json()["next_offset"]
        assert refused, "the order was a bad one"
        while sent < 8000:
            sent = (await anyhow(scene.agent, order, sent)).json()["next_offset"]
        await ends_whole(scene, order, TEXT[:8000])


async def anyhow(agent: ScriptedAgent, order: RunTaskOrder, at: int) -> httpx.Response:
    """A chunk of 1000 bytes, and whatever the answer is."""
    data = TEXT[at : at + 1000]
    body = {"offset": at, "data": packed(data), "checksum": sha256(data), "length": len(data)}
    return await raw(agent, order, body)


async def raw(agent: ScriptedAgent, order: RunTaskOrder, body: dict[str, object]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {order.task_token}"}
    return await agent.http.post(f"/api/v1/agents/tasks/{order.task_id}/logs/chunk", json=body, headers=headers)


async def test_row_30_a_chunk_with_one_flipped_bit_anywhere_is_refused_and_the_right_one_is_taken(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await claimed(scene)
        await scene.agent.log(order, TEXT[:500])
        data = TEXT[500:1500]
        right = {"offset": 500, "data": packed(data), "checksum": sha256(data), "length": len(data)}
        chance, sound = random.Random(30), base64.b64decode(packed(data))  # noqa: S311
        for _ in range(20):
            damaged = bytearray(sound)
            damaged[chance.randrange(10, len(sound))] ^= 1 << chance.randrange(8)
            answer = await raw(scene.agent, order, {**right, "data": base64.b64encode(damaged).decode()})
            assert answer.status_code == 400
            assert error(answer)["code"] in ("bad_encoding", "checksum_mismatch")
            assert error(answer)["next_offset"] == 500
        flipped = await raw(scene.agent, order, {**right, "checksum": sha256(data + b"x")})
        assert error(flipped)["code"] == "checksum_mismatch"
        assert await scene.server.log(order.task_id) == TEXT[:500]
        assert (await raw(scene.agent, order, right)).json()["next_offset"] == 1500
        await ends_whole(scene, order, TEXT[:1500])


def a_bomb(size: int) -> bytes:
    """gzip of so many zeros, made without holding them."""
    pack, zeros = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(MIB)
    return b"".join(pack.compress(zeros) for _ in range(size // MIB)) + pack.flush()


@pytest.fixture(scope="module")
def hostile() -> dict[str, tuple[bytes, int]]:
    """What is sent instead of gzip, with the status that it gets."""
    text = gzip.compress(TEXT)
    return {
        "a bomb": (a_bomb(1 << 30), 413),
        "a bomb in a bomb": (gzip.compress(a_bomb(512 * MIB)), 400),
        "one byte too many": (a_bomb(8 * MIB)[:-8] + zlib.compress(b"x"), 400),
        "two members": (text + text, 400),
        "a second, empty member": (text + gzip.compress(b""), 400),
        "a tail": (text + b"\0", 400),
        "cut off": (text[: len(text) // 2], 400),
        "without its end": (text[:-1], 400),
        "only a head": (text[:10], 400),
        "no gzip": (TEXT, 400),
        "zlib": (zlib.compress(TEXT), 400),
    }


async def test_row_31_bombs_and_broken_gzip_are_refused_and_cost_the_server_no_memory(
    tmp_path: Path, database_url: str, hostile: dict[str, tuple[bytes, int]]
) -> None:
    async with killable_server(tmp_path, database_url) as program:
        agent = await an_agent(program.server)
        async with agent.connected() as link:
            await link.hello()
            task = await program.server.task("w", "plan")
            order = await link.get(RunTaskOrder, task_id=task)
        await agent.claim(order)
        # What an honest log of the largest chunks needs is measured first: threads, buffers, the allocator's own.
        honest = random.Random(31).randbytes(7 * MIB)  # noqa: S311
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(agent.log, order, honest)
        before = program.memory("VmHWM")

        in_flight = trio.CapacityLimiter(CHUNKS_AT_ONCE)  # as many as an agent may have on their way
        async with trio.open_nursery() as nursery:
            for data, status in [*hostile.values(), *[hostile["a bomb"]] * 8]:
                nursery.start_soon(refused, agent, order, data, status, in_flight)

        assert program.memory("VmHWM") - before < GROWTH
        position = (await agent.task(order, "GET", "/logs/chunk")).json()
        assert position == {"next_offset": len(honest), "closed": False}
        await agent.log(order, b"the end", offset=len(honest))
        await agent.status(order, "failed", log=honest + b"the end")


async def refused(
    agent: ScriptedAgent, order: RunTaskOrder, data: bytes, status: int, in_flight: trio.CapacityLimiter
) -> None:
    body = {"offset": 7 * MIB, "data": base64.b64encode(data).decode(), "checksum": sha256(b"?")}
    async with in_flight:
        answer = await raw(agent, order, body)
    assert answer.status_code == status, answer.text
    assert error(answer)["code"] == ("chunk_too_large" if status == 413 else error(answer)["code"])
