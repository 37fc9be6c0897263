"""Rows 4, 5, 26, 27: orders and claims that are lost, doubled or overtaken on their way."""

from __future__ import annotations

from pathlib import Path

from tests.faults.oracle import journal_of
from tests.faults.scene import STRAIGHT, Message, a_scene, noting
from tests.system.scenes import becomes


async def test_row_04_an_agent_that_dies_before_its_acceptance_is_heard_gets_the_order_again(
    tmp_path: Path, database_url: str
) -> None:
    """4: killed between the acceptance and its arrival; the order is given again, and the task is started once."""
    async with a_scene(tmp_path, database_url) as scene:
        accepted: list[Message] = []
        async with scene.agent() as agent:
            await agent.says("connected")
            scene.proxy.up.rewrite(noting(accepted, "task_accepted"))
            scene.proxy.up.hold()  # neither the acceptance nor the claim arrives
            task = await scene.server.task("w", "plan")
            await becomes(lambda: bool(accepted))
            assert len(journal_of(agent.data_dir)) == 1
            await agent.kill()
            scene.proxy.reset()
        scene.proxy.passes()
        assert (await scene.shown(task))["status"] == "assigned"
        async with scene.agent() as agent:
            assert (await scene.server.until(task, "succeeded"))["attempt"] == 1
            assert len(scene.oracle.events("plan")) == 1
            assert await scene.oracle.moves(task) == STRAIGHT


async def test_row_05_a_claim_whose_answer_is_lost_is_repeated_and_gives_the_same(
    tmp_path: Path, database_url: str
) -> None:
    """5: the claim is committed, its answer is lost; the second GET returns the same data, and there is one start."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.proxy.cut_answer("/data", times=2)
        async with scene.agent():
            task = await scene.confirmed_apply()
            await scene.server.until(task, "succeeded")
            assert (
                sum(path.endswith("/data") for _, path in scene.proxy.seen) == 4
            )  # two for the plan, one too many each
            assert len(scene.oracle.events("plan")) == len(scene.oracle.events("apply")) == 1


async def test_row_26_an_order_that_comes_three_times_is_carried_out_once(tmp_path: Path, database_url: str) -> None:
    """26: twice at once and again when it was accepted; the answers are the same, and there is one execution."""
    answers: list[Message] = []
    orders: list[Message] = []

    def again(message: Message) -> list[Message]:
        if message["type"] == "run_task":
            orders.append(message)
            return [message, message]
        return [message, orders.pop()] if orders and answers else [message]

    async with a_scene(tmp_path, database_url) as scene:
        scene.proxy.down.rewrite(again)
        scene.proxy.up.rewrite(noting(answers, "task_accepted", "task_rejected"))
        scene.acts(plan=scene.waiting)
        async with scene.agent() as agent:
            await agent.says("connected")
            task = await scene.server.task("w", "plan")
            await scene.runs("plan")
            await becomes(lambda: not orders and len(answers) >= 2)
            scene.go()
            await scene.server.until(task, "succeeded")
            assert {message["type"] for message in answers} == {"task_accepted"}
            assert len({str(message["payload"]) for message in answers}) == 1
            assert len(scene.oracle.events("plan")) == 1
            assert await scene.oracle.moves(task) == STRAIGHT


async def test_row_27_a_cancellation_that_overtakes_its_order_leaves_a_tombstone(
    tmp_path: Path, database_url: str
) -> None:
    """27: the agent hears of the cancellation first; it refuses the order that comes later, and the task is cancelled."""
    late: list[Message] = []
    refusals: list[Message] = []

    def overtaken(message: Message) -> list[Message]:
        if message["type"] == "run_task":
            late.append(message)
            return []
        if message["type"] == "cancel_task":
            return [message, *late]
        return [message]

    async with a_scene(tmp_path, database_url) as scene:
        scene.proxy.down.rewrite(overtaken)
        scene.proxy.up.rewrite(noting(refusals, "task_rejected"))
        async with scene.agent() as agent:
            await agent.says("connected")
            task = await scene.server.task("w", "plan")
            await becomes(lambda: bool(late))
            await scene.cancel(task)
            await becomes(lambda: bool(refusals))
            assert refusals[0]["payload"]["reason"] == "stale_fence"
            assert (await scene.finished(task))["status"] == "cancelled"
            assert scene.oracle.events("plan") == []
