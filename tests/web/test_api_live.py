"""A log that is watched while it grows on an agent: told before it is stored, and never other than what is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from iac.actors import live_logs
from iac.domain.messages import FlushLogs, LiveLog, LiveSubscribe, LiveUnsubscribe, RunTaskOrder
from tests.harness.server import PATIENT
from tests.web.agent_scene import Scene, a_scene, error
from tests.web.browsers import watching


async def running(scene: Scene) -> RunTaskOrder:
    order = await scene.ordered()
    await scene.link.accept(order)
    await scene.agent.claim(order)
    return order


def live(order: RunTaskOrder, offset: int, data: bytes, *, fence: int | None = None) -> LiveLog:
    return LiveLog(task_id=order.task_id, fence=order.fence if fence is None else fence, offset=offset, data=data)


async def test_live_bytes_are_shown_at_once_and_stored_ones_are_not_shown_again(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        await scene.agent.log(order, b"stored\n")
        async with watching(scene.server.url, order.task_id) as browser:
            await browser.until(b"stored\n")
            asked = await scene.link.get(LiveSubscribe)
            assert (asked.task_id, asked.fence, asked.from_offset, asked.ttl_s) == (order.task_id, order.fence, 7, 30.0)
            await scene.link.say(live(order, 7, b"live "))
            await browser.until(b"stored\nlive ")
            assert (await scene.server.log(order.task_id)) == b"stored\n", "it is shown before it is stored"
            await scene.link.say(live(order, 9, b"ve \xff\x00bytes\n"))  # what overlaps is cut
            await browser.until(b"stored\nlive \xff\x00bytes\n")
            await scene.agent.log(order, b"live \xff\x00bytes\nand more\n", 7)
            await browser.until(b"stored\nlive \xff\x00bytes\nand more\n")
        left = await scene.link.get(LiveUnsubscribe)
        assert (left.task_id, left.fence) == (order.task_id, order.fence)


async def test_a_gap_is_filled_by_what_is_stored(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        async with watching(scene.server.url, order.task_id) as browser:
            await scene.link.get(LiveSubscribe)
            await scene.link.say(live(order, 10, b"later\n"))
            asked = await scene.link.get(FlushLogs)
            assert (asked.task_id, asked.fence) == (order.task_id, order.fence)
            await scene.agent.log(order, b"0123456789")
            await browser.until(b"0123456789later\n")


async def test_stored_bytes_win_over_live_ones(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        async with watching(scene.server.url, order.task_id) as browser:
            await scene.link.get(LiveSubscribe)
            await scene.link.say(live(order, 0, b"same, then wrong\n"))
            await browser.until(b"same, then wrong\n")
            await scene.agent.log(order, b"same, then right\n")
            assert await browser.until_event("reset") == {"offset": 11}
            await browser.until(b"same, then right\n")


async def test_what_an_assignment_told_live_goes_with_it(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        await scene.agent.log(order, b"stored\n")
        async with watching(scene.server.url, order.task_id) as browser:
            await scene.link.get(LiveSubscribe)
            await scene.link.say(live(order, 7, b"never stored\n"))
            await browser.until(b"stored\nnever stored\n")
            position = browser.last_id
            await scene.agent.status(order, "failed", reason="lease_expired")
            assert await browser.until_event("reset") == {"offset": 7}
            again = await scene.link.get(RunTaskOrder, task_id=order.task_id)
            assert again.fence > order.fence
            await scene.link.accept(again)
            await scene.agent.claim(again)
            await scene.link.say(live(order, 0, b"from the grave\n"))
            asked = await scene.link.get(LiveSubscribe, fence=again.fence)
            assert asked.from_offset == 0
            await scene.link.say(live(again, 0, b"second try\n"))
            await browser.until(b"stored\nsecond try\n")
        # One who was away meanwhile, and had seen what is stored nowhere.
        async with watching(scene.server.url, order.task_id, last_id=position) as browser:
            assert await browser.until_event("reset") == {"offset": 7}
            await scene.link.get(LiveSubscribe, fence=again.fence)
            await scene.link.say(live(again, 0, b"second try\n"))
            assert (await browser.until_event("log"))["offset"] == 7


async def test_only_the_agent_that_has_the_task_is_believed(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        async with watching(scene.server.url, order.task_id) as browser:
            await scene.link.get(LiveSubscribe)
            await scene.link.say(live(order, 0, b"another fence", fence=order.fence + 1))
            await scene.link.say(LiveLog(task_id=order.task_id + 1, fence=order.fence, offset=0, data=b"another task"))
            await scene.link.say(live(order, 0, b"this one\n"))
            await browser.until(b"this one\n")


async def test_who_comes_back_goes_on_with_live_bytes(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        async with watching(scene.server.url, order.task_id) as browser:
            await scene.link.get(LiveSubscribe)
            await scene.link.say(live(order, 0, b"some"))
            await browser.until(b"some")
        async with watching(scene.server.url, order.task_id, last_id=browser.last_id) as again:
            await scene.link.get(LiveSubscribe)
            await scene.link.say(live(order, 0, b"some and more"))
            await again.until(b" and more")


async def test_stream_log_429_rate_limited_when_a_task_has_too_many_viewers(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_logs, "MOST_VIEWERS", 2)
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        url, client, path = scene.server.url, scene.server.client, f"/api/v1/tasks/{order.task_id}/logs/stream"
        async with watching(url, order.task_id) as one, watching(url, order.task_id) as two:
            assert (await one.next(), await two.next()) == ("status", "status")
            refused = await client.get(path)
            assert (refused.status_code, error(refused)["code"]) == (429, "rate_limited")
        with trio.fail_after(PATIENT):
            while True:  # when a reader is noticed to have left is told by no event
                async with client.stream("GET", path) as response:
                    if response.status_code == 200:
                        break
                await trio.sleep(0.02)


async def test_flush_log_202_asks_the_agent(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        await scene.server.call("POST", f"/api/v1/tasks/{order.task_id}/logs/flush", expect=202)
        assert (await scene.link.get(FlushLogs)).fence == order.fence


async def test_flush_log_429_rate_limited_when_it_was_asked_a_moment_ago(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        path = f"/api/v1/tasks/{order.task_id}/logs/flush"
        await scene.server.call("POST", path, expect=202)
        refused = await scene.server.client.post(path)
        assert (refused.status_code, error(refused)["code"]) == (429, "rate_limited")
        assert 0 < error(refused)["retry_after_s"] <= 2


async def test_flush_log_409_illegal_transition_when_nothing_is_written(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await running(scene)
        await scene.agent.status(order, "failed", reason="test")
        refused = await scene.server.client.post(f"/api/v1/tasks/{order.task_id}/logs/flush")
        assert (refused.status_code, error(refused)["code"]) == (409, "illegal_transition")
