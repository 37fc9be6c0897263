"""The promises of DataAccessor, asked of every implementation: claim, plan, result."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

import msgspec
import pytest

from iac.domain.work import LogDigest, PlanFacts, ResourceProgress, Result, RunTask, SavedPlan, TaskData
from iac.errors import AlreadyFinal, Fenced, Forbidden, LogRefused, NotFound, PlanStale
from tests.contract.platforms import ARCHIVE, LOG_LIMIT, SECRET, PlatformUnderTest

LINEAGE = "11111111-2222-3333-4444-555555555555"


def state(serial: int, lineage: str = LINEAGE) -> bytes:
    return json.dumps({
        "version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": lineage, "outputs": {}, "resources": [],
    }).encode()  # fmt: skip


def plan_of(data: TaskData, *, file: bytes = b"the plan", has_changes: bool = True) -> SavedPlan:
    facts = PlanFacts(
        digest=hashlib.sha256(file).hexdigest(),
        bundle_digest=data.bundle_digest,
        serial=data.state.serial if data.state else None,
        lineage=data.state.lineage if data.state else None,
        terraform_version="1.11.4",
        has_changes=has_changes,
        summary={"add": 1},
    )
    return SavedPlan(facts=facts, file=file, json=b"{}", lock_hcl=b"# lock")


def result(order: RunTask, status: str, *, log: bytes = b"", **facts: object) -> Result:
    digest = LogDigest(length=len(log), sha256=hashlib.sha256(log).hexdigest())
    fields = {"result_id": f"{order.assignment_id}:{status}", "status": status, "log": digest, **facts}
    return msgspec.convert(fields, Result)


async def planned(platform: PlatformUnderTest) -> RunTask:
    """A task whose plan is stored and reported."""
    order = await platform.order()
    data = await platform.accessor.get_task_data(order)
    await platform.accessor.save_plan(order, plan_of(data), [])
    await platform.accessor.update_task(order, result(order, "planned"))
    return order


# The claim


async def test_a_claim_gives_the_frozen_inputs_and_makes_the_task_running(platform: PlatformUnderTest) -> None:
    await platform.upload_state(state(3))
    order = await platform.order()

    data = await platform.accessor.get_task_data(order)

    assert data.order == order
    assert data.archive == ARCHIVE
    assert (data.bundle.action, data.bundle.variables) == ("plan_and_apply", (SECRET,))
    assert data.sensitive_values == (SECRET.value,)
    assert data.state is not None
    assert (data.state.data, data.state.serial, data.state.lineage) == (state(3), 3, LINEAGE)
    assert (data.plan, data.log_offset, data.log_max_bytes) == (None, 0, LOG_LIMIT)
    assert (await platform.task(order.task_id)).status == "running"


async def test_the_same_assignment_may_claim_again_and_nothing_changes(platform: PlatformUnderTest) -> None:
    order = await platform.order()
    first = await platform.accessor.get_task_data(order)
    before = await platform.task(order.task_id)

    assert await platform.accessor.get_task_data(order) == first
    assert await platform.task(order.task_id) == before


async def test_a_claim_says_how_much_of_the_log_is_stored_already(platform: PlatformUnderTest) -> None:
    order = await platform.order()
    await platform.accessor.get_task_data(order)
    await platform.accessor.save_task_log(order, 0, b"so far")

    assert (await platform.accessor.get_task_data(order)).log_offset == 6


async def test_an_assignment_that_was_taken_away_cannot_claim(platform: PlatformUnderTest) -> None:
    order = await platform.order()
    again = await platform.take_away(order)

    with pytest.raises(Fenced):
        await platform.accessor.get_task_data(order)
    assert (await platform.accessor.get_task_data(again)).order == again


async def test_a_cancelled_task_cannot_be_claimed(platform: PlatformUnderTest) -> None:
    order = await platform.order()
    await platform.cancel(order.task_id)

    with pytest.raises(AlreadyFinal):
        await platform.accessor.get_task_data(order)


async def test_a_claim_after_the_cancel_of_a_running_task_still_works(platform: PlatformUnderTest) -> None:
    order = await platform.order()
    await platform.accessor.get_task_data(order)
    await platform.cancel(order.task_id)

    assert (await platform.accessor.get_task_data(order)).order == order
    assert (await platform.task(order.task_id)).status == "cancelling"


async def test_there_is_nothing_to_claim_of_a_task_that_does_not_exist(platform: PlatformUnderTest) -> None:
    order = msgspec.structs.replace(await platform.order(), task_id=4711)

    with pytest.raises((NotFound, Forbidden)):  # an agent's token says no more than that it is for another task
        await platform.accessor.get_task_data(order)


# The plan


async def test_an_apply_gets_exactly_the_plan_that_was_stored(platform: PlatformUnderTest) -> None:
    plan_order = await planned(platform)
    order = await platform.confirm(plan_order)

    data = await platform.accessor.get_task_data(order)

    assert order.action == "apply"
    assert data.plan is not None
    assert (data.plan.file, data.plan.lock_hcl) == (b"the plan", b"# lock")
    assert data.plan.facts.bundle_digest == data.bundle_digest


async def test_the_same_plan_again_is_no_error(platform: PlatformUnderTest) -> None:
    order = await platform.order()
    data = await platform.accessor.get_task_data(order)
    pending = [ResourceProgress(address="terraform_data.a", action="create", status="pending")]

    for _ in range(2):
        await platform.accessor.save_plan(order, plan_of(data), pending)

    task = await platform.task(order.task_id)
    assert (task.plan_digest, task.has_changes) == (plan_of(data).facts.digest, True)


async def test_a_plan_of_an_assignment_that_was_taken_away_is_refused(platform: PlatformUnderTest) -> None:
    order = await platform.order()
    data = await platform.accessor.get_task_data(order)
    again = await platform.take_away(order)

    with pytest.raises(Fenced):
        await platform.accessor.save_plan(order, plan_of(data), [])
    await platform.accessor.get_task_data(again)
    with pytest.raises(Fenced):
        await platform.accessor.save_plan(order, plan_of(data), [])
    assert (await platform.task(order.task_id)).plan_digest is None


async def test_a_plan_is_refused_once_its_task_was_reported(platform: PlatformUnderTest) -> None:
    order = await planned(platform)
    data = await platform.accessor.get_task_data(await platform.confirm(order))

    with pytest.raises(Fenced):
        await platform.accessor.save_plan(order, plan_of(data, file=b"another plan"), [])


async def test_a_stale_plan_is_told_at_the_claim_and_can_be_reported(platform: PlatformUnderTest) -> None:
    order = await platform.confirm(await planned(platform))
    await platform.upload_state(state(1))

    with pytest.raises(PlanStale):
        await platform.accessor.get_task_data(order)

    # The claim holds nevertheless: otherwise nobody could say that the task has failed.
    assert (await platform.task(order.task_id)).status == "running"
    await platform.accessor.update_task(order, result(order, "failed", reason="plan_stale"))
    task = await platform.task(order.task_id)
    assert (task.status, task.reason) == ("failed", "plan_stale")


# The result


async def test_the_same_result_again_is_no_error_and_changes_nothing(platform: PlatformUnderTest) -> None:
    order = await platform.order("plan")
    await platform.accessor.get_task_data(order)
    await platform.accessor.update_task(order, result(order, "failed", exit_code=1, reason="plan_failed"))
    before = await platform.task(order.task_id)

    await platform.accessor.update_task(order, result(order, "failed", exit_code=1, reason="plan_failed"))

    assert await platform.task(order.task_id) == before
    assert (before.status, before.exit_code, before.reason) == ("failed", 1, "plan_failed")


async def test_another_result_of_a_task_that_is_over_is_refused(platform: PlatformUnderTest) -> None:
    order = await platform.order("plan")
    await platform.accessor.get_task_data(order)
    await platform.accessor.update_task(order, result(order, "failed"))
    before = await platform.task(order.task_id)

    with pytest.raises(AlreadyFinal):
        await platform.accessor.update_task(order, result(order, "succeeded"))
    assert await platform.task(order.task_id) == before


async def test_a_result_of_an_assignment_that_was_taken_away_is_refused(platform: PlatformUnderTest) -> None:
    order = await platform.order()
    await platform.accessor.get_task_data(order)
    await platform.take_away(order)

    with pytest.raises(Fenced):
        await platform.accessor.update_task(order, result(order, "failed"))
    assert (await platform.task(order.task_id)).status == "assigned"


async def test_a_result_of_a_task_that_a_human_resolved_is_refused(platform: PlatformUnderTest) -> None:
    order = await platform.confirm(await planned(platform))
    await platform.accessor.get_task_data(order)
    await platform.lose(order)
    await platform.resolve(order.task_id)
    before = await platform.task(order.task_id)

    with pytest.raises(Fenced):
        await platform.accessor.update_task(order, result(order, "succeeded"))
    assert await platform.task(order.task_id) == before


async def test_even_the_same_result_changes_nothing_once_a_human_has_resolved_the_task(
    platform: PlatformUnderTest,
) -> None:
    order = await platform.confirm(await planned(platform))
    await platform.accessor.get_task_data(order)
    unsafe = result(order, "failed", state_safe=False)
    await platform.accessor.update_task(order, unsafe)
    await platform.resolve(order.task_id)
    before = await platform.task(order.task_id)

    with suppress(Fenced):  # over HTTP it is a repeated request, and answered as the first one was
        await platform.accessor.update_task(order, unsafe)
    assert await platform.task(order.task_id) == before


async def test_a_lost_apply_that_reports_after_all_has_its_true_end(platform: PlatformUnderTest) -> None:
    order = await platform.confirm(await planned(platform))
    await platform.accessor.get_task_data(order)
    await platform.lose(order)

    await platform.accessor.update_task(order, result(order, "succeeded", outcome="applied"))

    task = await platform.task(order.task_id)
    assert (task.status, task.outcome) == ("succeeded", "applied")


async def test_an_apply_whose_state_is_not_safe_is_lost_not_over(platform: PlatformUnderTest) -> None:
    order = await platform.confirm(await planned(platform))
    await platform.accessor.get_task_data(order)

    await platform.accessor.update_task(order, result(order, "succeeded", state_safe=False))

    assert (await platform.task(order.task_id)).status == "lost"


async def test_a_cancel_that_nobody_asked_for_is_a_failure(platform: PlatformUnderTest) -> None:
    order = await platform.order("plan")
    await platform.accessor.get_task_data(order)

    await platform.accessor.update_task(order, result(order, "cancelled"))

    task = await platform.task(order.task_id)
    assert (task.status, task.reason) == ("failed", "interrupted")


# What is only for people


async def test_notes_of_an_assignment_that_was_taken_away_have_no_effect(platform: PlatformUnderTest) -> None:
    order = await platform.order()
    await platform.accessor.get_task_data(order)
    again = await platform.take_away(order)
    await platform.accessor.get_task_data(again)
    entry = ResourceProgress(address="terraform_data.a", action="create", status="started")

    await platform.accessor.note_stage(order, "planning")
    await platform.accessor.note_progress(order, [entry])

    assert (await platform.task(order.task_id)).stage is None
    assert await platform.progress(order.task_id) == {}


async def test_progress_is_noted(platform: PlatformUnderTest) -> None:
    order = await platform.confirm(await planned(platform))
    await platform.accessor.get_task_data(order)

    for status in ("started", "complete"):
        entry = msgspec.convert({"address": "terraform_data.a", "action": "create", "status": status}, ResourceProgress)
        await platform.accessor.note_progress(order, [entry])

    assert await platform.progress(order.task_id) == {"terraform_data.a": "complete"}


# The log's end belongs to the result


async def test_the_result_closes_the_log(platform: PlatformUnderTest) -> None:
    order = await platform.order("plan")
    await platform.accessor.get_task_data(order)
    await platform.accessor.save_task_log(order, 0, b"whole")

    await platform.accessor.update_task(order, result(order, "failed", log=b"whole"))

    assert await platform.log(order) == (b"whole", "complete")
    assert await platform.accessor.save_task_log(order, 0, b"whole") == 5
    with pytest.raises(LogRefused) as refused:
        await platform.accessor.save_task_log(order, 5, b"x")
    assert refused.value.code == "log_closed"


async def test_a_log_that_is_not_all_there_is_never_called_complete_and_holds_up_no_result(
    platform: PlatformUnderTest,
) -> None:
    order = await platform.order("plan")
    await platform.accessor.get_task_data(order)
    await platform.accessor.save_task_log(order, 0, b"whole")

    await platform.accessor.update_task(order, result(order, "failed", log=b"whole and more"))

    assert (await platform.task(order.task_id)).status == "failed"
    data, state_of_log = await platform.log(order)
    assert data == b"whole"
    assert state_of_log in ("incomplete", "open")


async def test_a_log_that_is_another_one_than_the_result_says_is_marked_and_holds_up_no_result(
    platform: PlatformUnderTest,
) -> None:
    order = await platform.order("plan")
    await platform.accessor.get_task_data(order)
    await platform.accessor.save_task_log(order, 0, b"whole")

    await platform.accessor.update_task(order, result(order, "failed", log=b"other"))

    assert (await platform.task(order.task_id)).status == "failed"
    assert await platform.log(order) == (b"whole", "diverged")


async def test_a_log_that_is_still_arriving_stays_open_for_the_rest(platform: PlatformUnderTest) -> None:
    order = await platform.order("plan")
    await platform.accessor.get_task_data(order)
    await platform.accessor.save_task_log(order, 0, b"half")
    whole = result(order, "failed", log=b"half and half").log
    assert whole is not None
    pending = msgspec.structs.replace(whole, state="pending")

    await platform.accessor.update_task(order, msgspec.structs.replace(result(order, "failed"), log=pending))

    assert await platform.accessor.save_task_log(order, 4, b" and half") == 13
    assert await platform.log(order) == (b"half and half", "open")


async def test_a_result_without_a_log_leaves_it_open_for_the_rest(platform: PlatformUnderTest) -> None:
    order = await platform.order("plan")
    await platform.accessor.get_task_data(order)

    await platform.accessor.update_task(order, msgspec.structs.replace(result(order, "failed"), log=None))

    assert await platform.accessor.save_task_log(order, 0, b"late") == 4
    assert await platform.log(order) == (b"late", "open")
