"""What an agent does at its start about what an earlier life left on its disk; the platform is the one in memory."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from quart import Response

from iac.domain.messages import Hello, TaskAccepted, TaskRejected
from iac.domain.work import Result, RunTask
from iac.executor import workdir
from iac.executor.journal import Journal
from tests.actors.agent_trees import an_agent
from tests.fakes.agent_api import serving
from tests.fakes.agent_platform import AgentApi, Assignment
from tests.system.scenes import becomes


def a_state(serial: int) -> bytes:
    body = {"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": "lin-1"}
    return json.dumps({**body, "outputs": {}, "resources": []}).encode()


def accepted(api: AgentApi, tasks: Path, *, token: str | None = None) -> tuple[Assignment, RunTask]:
    """An apply that an earlier life had accepted and claimed; nothing else of it is on the disk."""
    made = api.offer("apply", announce=False)
    made.status = "running"
    order = msgspec.convert(msgspec.to_builtins(made.order), RunTask)
    Journal(tasks).accept(order, token or made.order.task_token)
    return made, order


def left(tasks: Path, order: RunTask, state: bytes) -> workdir.Workdir:
    """Its work directory, in which Terraform applied, and of which nobody saw the end."""
    place = workdir.create(tasks, order, [], workdir.Remembered(log_max_bytes=1 << 20))
    workdir.write_file(place.plan, b"the plan")
    workdir.write_file(place.raw_log, b"[iac] as far as it came\n")
    workdir.write_file(place.state, state)
    return place


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return tmp_path / "agent" / "tasks"


async def test_the_states_of_several_tasks_are_brought_before_anything_new_is_taken(
    tmp_path: Path, tasks: Path
) -> None:
    async with serving() as api:
        earlier = [accepted(api, tasks) for _ in range(3)]
        for number, (_, order) in enumerate(earlier):
            left(tasks, order, a_state(number))
        api.fail("POST", "/state", lambda: Response("{}", status=503), times=4)
        async with an_agent(api, tmp_path):
            await api.until(lambda: api.connected)
            hello = await api.until_heard(Hello)
            assert [held.stage for held in hello.tasks] == ["collecting"] * 3
            new = api.offer()
            refused = await api.until_heard(TaskRejected, fence=new.order.fence)
            assert refused.reason == "at_capacity"
            for number, (made, _) in enumerate(earlier):
                result = await api.until(lambda made=made: made.result)  # type: ignore[misc]
                assert (made.states, result.reason, result.state_safe) == ([a_state(number)], "agent_crashed", False)
            await becomes(lambda: not list(tasks.iterdir()))
            again = api.offer()
            await api.until_heard(TaskAccepted, fence=again.order.fence)


async def test_an_apply_whose_directory_was_made_and_in_which_nothing_was_started_was_never_begun(
    tmp_path: Path, tasks: Path
) -> None:
    async with serving() as api:
        made, order = accepted(api, tasks)
        workdir.create(tasks, order).assignment.unlink()  # as far as it came
        async with an_agent(api, tmp_path):
            result = await api.until(lambda: made.result)
            assert (result.status, result.reason, result.state_safe) == ("failed", "never_started", True)
            await becomes(lambda: not list(tasks.iterdir()))


async def test_a_result_that_was_written_down_is_told_and_no_other(tmp_path: Path, tasks: Path) -> None:
    async with serving() as api:
        made, order = accepted(api, tasks)
        place = left(tasks, order, a_state(5))
        known = Result(
            result_id="the-very-same", status="failed", exit_code=1, reason="apply_failed", detail="so it is"
        )
        workdir.note_result(place, known, durable=True)
        async with an_agent(api, tmp_path):
            told = await api.until(lambda: made.result)
            assert (told.result_id, told.reason, told.detail) == ("the-very-same", "apply_failed", "so it is")
            assert told.state_safe
            assert made.states == [a_state(5)]
            assert b"The agent ended" not in made.log


async def test_a_state_that_is_refused_for_good_is_kept_for_a_human_and_holds_nobody_up(
    tmp_path: Path, tasks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as api:
        _, order = accepted(api, tasks, token="iact_of-an-assignment-that-nobody-knows-any-more")
        left(tasks, order, a_state(9))
        async with an_agent(api, tmp_path):
            await becomes(lambda: tasks.is_dir() and not list(tasks.iterdir()))
            kept = tmp_path / "agent" / "undelivered" / f"{order.task_id}-{order.fence}"
            assert (kept / "terraform.tfstate").read_bytes() == a_state(9)
            await api.until(lambda: api.connected)
            new = api.offer()
            await api.until_heard(TaskAccepted, fence=new.order.fence)
        async with an_agent(api, tmp_path):
            await becomes(lambda: "states that could never be delivered wait for somebody" in caplog.text)


async def test_the_state_comes_home_although_the_log_cannot_be_masked(tmp_path: Path, tasks: Path) -> None:
    async with serving() as api:
        made, order = accepted(api, tasks)
        place = left(tasks, order, a_state(5))
        place.masked.write_bytes(b'["sec')
        async with an_agent(api, tmp_path):
            told = await api.until(lambda: made.result)
            assert (told.reason, told.log, made.states, bytes(made.log)) == ("agent_crashed", None, [a_state(5)], b"")
        assert place.raw_log.exists()


async def test_an_entry_that_cannot_be_read_and_a_directory_without_one_are_told_and_kept(
    tmp_path: Path, tasks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as api:
        _, order = accepted(api, tasks)
        place = left(tasks, order, a_state(9))
        [entry] = tasks.glob("*.json")
        entry.write_bytes(entry.read_bytes()[:30])
        async with an_agent(api, tmp_path):
            await api.until(lambda: api.connected)
            new = api.offer()
            await api.until_heard(TaskAccepted, fence=new.order.fence)
        assert "an accepted order cannot be read" in caplog.text
        assert "a work directory that no accepted order has is kept" in caplog.text
        assert place.state.read_bytes() == a_state(9)
