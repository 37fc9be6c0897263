"""The list of tasks."""

from __future__ import annotations

from iac.store import task_pages
from iac.store.database import Connection
from iac.store.task_pages import TaskList
from iac.store.tasks import Filter
from iac.web.platform import Platform
from iac.web.ui.models.task_list import PAGE, PATH, Tasks, TasksQuery
from iac.web.ui.models.task_list import tasks as tasks_view
from iac.web.ui.pages import PageCall, Ui

_NOWHERE = "no such workspace"


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the page on the table."""

    @ui.page(PATH, "tasks.html", nav="Tasks", query=TasksQuery, topics=("tasks",))
    async def list_tasks_page(call: PageCall[TasksQuery]) -> Tasks:
        found = await platform.read(_found, call.query)
        waits = {task.id: wait for task in found.tasks if (wait := platform.dispatcher.wait_of(task)) is not None}
        return tasks_view(call.query, found.tasks, found.counts, names=found.names, plans=found.plans, waits=waits)


async def _found(c: Connection, query: TasksQuery) -> TaskList:
    workspace = query.workspace.strip()
    chosen = Filter(
        workspace_id=(await task_pages.workspace_named(c, workspace) or _NOWHERE) if workspace else None,
        statuses=query.statuses,
        actions=(query.action,) if query.action else (),
        search=query.q.strip() or None,
    )
    return await task_pages.listed(c, chosen, limit=PAGE, offset=(query.page - 1) * PAGE)
