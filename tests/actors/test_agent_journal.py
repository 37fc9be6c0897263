"""An order is on the agent's disk before it is called accepted; one that cannot be written down is refused."""

from __future__ import annotations

from pathlib import Path

from iac.domain.messages import TaskAccepted, TaskFinished, TaskRejected
from iac.executor.journal import Journal
from tests.actors.agent_trees import an_agent
from tests.fakes.agent_api import serving


async def test_an_order_that_cannot_be_written_down_is_refused_and_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "tasks").write_text("no directory")
    async with serving() as api, an_agent(api, tmp_path):
        await api.until(lambda: api.connected)
        made = api.offer()
        refused = await api.until_heard(TaskRejected, fence=made.order.fence)
        assert (refused.reason, made.claims, api.of(TaskAccepted)) == ("disk_low", 0, [])


async def test_an_order_is_written_down_before_it_is_accepted_and_forgotten_when_nothing_is_left(
    tmp_path: Path,
) -> None:
    journal, go = Journal(tmp_path / "agent" / "tasks"), tmp_path / "go"
    scenario = {"commands": {"plan": {"until": str(go)}}}
    async with serving() as api, an_agent(api, tmp_path, scenario=scenario):
        await api.until(lambda: api.connected)
        made = api.offer()
        await api.until_heard(TaskAccepted, fence=made.order.fence)
        [entry] = journal.entries()
        assert (entry.order.fence, entry.token) == (made.order.fence, made.order.task_token)
        go.touch()
        await api.until_heard(TaskFinished, fence=made.order.fence)
        assert journal.entries() == []
