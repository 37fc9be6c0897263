"""A workspace's overview and tasks, and what its buttons do: plan, apply, destroy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from iac.domain.records import Action, StateVersion, Status, Task, Workspace
from iac.domain.scheduling import Wait
from iac.domain.work import PlanFacts
from iac.errors import Invalid
from iac.store import agents, configurations, plans, statefiles, tasks, variables, workspaces
from iac.store.creation import NewTask
from iac.store.database import Connection
from iac.store.tasks import Filter
from iac.web import operations
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui.gate import SignedIn
from iac.web.ui.models.task_rows import Beside
from iac.web.ui.models.workspace import LATEST, Facts, Rights, WorkspaceOverview, path_of, workspace_overview
from iac.web.ui.models.workspace_tasks import PAGE, TasksQuery, WorkspaceTasks, workspace_tasks
from iac.web.ui.pages import Done, PageCall, Ui

WS = "/workspaces/<ws>"
TOPICS = ("tasks", "workspaces")
OPEN: tuple[Status, ...] = ("pending", "queued", "assigned", "running", "planned", "cancelling", "lost")
MOST_OPEN = 20
LONGEST_ADDRESS, MOST_ADDRESSES = 1024, 200


class NewRun(msgspec.Struct, frozen=True):
    """What the dialogs ask. `targets` and `replace` are addresses, one a line; `typed` is the name, to destroy."""

    action: Literal["plan", "plan_and_apply", "destroy", "refresh_only"]
    message: str = ""
    targets: str = ""
    replace: str = ""
    ask: Literal["", "workspace", "yes", "no"] = ""
    typed: str = ""


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages and deeds on the table."""

    @ui.page(WS, "workspace/overview.html", topics=TOPICS)
    async def show_workspace_page(call: PageCall[NoQuery]) -> WorkspaceOverview:
        facts = await platform.read(_facts, platform, call.path["ws"])
        return workspace_overview(facts, _waits(platform, facts.open), rights_of(call.me))

    @ui.page(f"{WS}/tasks", "workspace/tasks.html", query=TasksQuery, topics=TOPICS)
    async def show_workspace_tasks(call: PageCall[TasksQuery]) -> WorkspaceTasks:
        held = await platform.read(workspaces.get, call.path["ws"])
        chosen = Filter(workspace_id=held.id, statuses=call.query.statuses, search=call.query.q.strip() or None)
        found, counts, facts, names = await platform.read(_tasks, chosen, call.query.before or None)
        beside = Beside(plans=facts, names=names, waits=_waits(platform, found))
        return workspace_tasks(held, call.query, found, counts, beside, rights=rights_of(call.me))

    @ui.deed(f"{WS}/tasks", "run", form=NewRun)
    async def start_task(call: PageCall[NewRun]) -> Done:
        asked = call.query
        held = await platform.read(workspaces.get, call.path["ws"])
        if asked.action == "destroy" and asked.typed != held.name:
            raise Invalid(f"Type the workspace's name, {held.name}, to plan its destruction.", path="$.typed")
        action: Action = asked.action
        task = await operations.create(platform, held.id, new_task(action, asked), by=call.me.name)
        return Done(says=f"Task #{task.id} was created.", location=f"/tasks/{task.id}", back=path_of(held.name))


def rights_of(me: SignedIn) -> Rights:
    """What the person may do, for the models, which know no roles."""
    return Rights(
        write=me.may("write"),
        run=me.may("run"),
        state=me.may("state"),
        force_unlock=me.may("force_unlock"),
        admin=me.may("admin"),
    )


def new_task(action: Action, asked: NewRun) -> NewTask:
    """Raises Invalid for what cannot be an address."""
    auto = {"yes": False, "no": True}.get(asked.ask)
    if len(asked.message) > 1000:
        raise Invalid("At most 1,000 characters.", path="$.message")
    return NewTask(
        action=action,
        targets=_addresses("targets", asked.targets),
        replace=_addresses("replace", asked.replace),
        auto_apply=auto,
        message=asked.message,
    )


def _addresses(name: str, text: str) -> tuple[str, ...]:
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(found) > MOST_ADDRESSES:
        raise Invalid(f"At most {MOST_ADDRESSES} addresses.", path=f"$.{name}")
    for address in found:
        if len(address) > LONGEST_ADDRESS or any(ord(sign) < 32 for sign in address):
            raise Invalid(f"This is no address: {address[:60]!r}. Write one a line.", path=f"$.{name}")
    return found


def _waits(platform: Platform, found: Sequence[Task]) -> dict[int, Wait]:
    return {task.id: wait for task in found if (wait := platform.dispatcher.wait_of(task)) is not None}


async def _facts(c: Connection, platform: Platform, key: str) -> Facts:
    held = await workspaces.get(c, key)
    mine = Filter(workspace_id=held.id)
    going = await tasks.page(c, Filter(workspace_id=held.id, statuses=OPEN), limit=MOST_OPEN, before=None)
    latest = await tasks.page(c, mine, limit=LATEST + len(going), before=None)
    shown = [*going, *latest]
    newest = await configurations.page(c, held.id, limit=1, before=None)
    return Facts(
        workspace=held,
        latest=latest,
        open=going,
        plans=await plans.summaries(c, [task.plan_task_id or task.id for task in shown]),
        names=await _names(c, shown),
        state=await current_state(c, held),
        configuration=newest[0] if newest else None,
        variables=len(await variables.listed(c, platform.keyring, held.id)),
        total=sum((await tasks.counts(c, mine)).values()),
    )


async def current_state(c: Connection, held: Workspace) -> StateVersion | None:
    found = await statefiles.page(c, held.id, limit=1, before=None, verdicts=("current",))
    return found[0] if found else None


async def _tasks(
    c: Connection, chosen: Filter, before: int | None
) -> tuple[list[Task], dict[str, int], dict[int, PlanFacts], dict[str, str]]:
    found = await tasks.page(c, chosen, limit=PAGE + 1, before=before)
    facts = await plans.summaries(c, [task.plan_task_id or task.id for task in found])
    return found, await tasks.counts(c, chosen), facts, await _names(c, found)


async def _names(c: Connection, found: list[Task]) -> dict[str, str]:
    ids = {each for task in found for each in (task.agent_id, task.pool_id) if each is not None}
    return await agents.names_of(c, sorted(ids)) if ids else {}
