"""Tasks: create, watch, confirm, cancel."""

from __future__ import annotations

import msgspec
import trio
from quart import Response

from iac.domain import bodies, state_bodies
from iac.domain.records import Action, Status
from iac.errors import Invalid, NotFound
from iac.store import plans, workspaces
from iac.store.creation import NewTask
from iac.store.tasks import Filter
from iac.web import operations
from iac.web.paging import several
from iac.web.platform import Platform
from iac.web.routing import JSON, Api, Call, NoQuery
from iac.web.workspaces import WS

TASKS = "/api/v1/tasks"
ONE = f"{TASKS}/<int(max=9223372036854775807):task_id>"
TAG = "Tasks"
OVER = ("already_final", "illegal_transition")


class TaskQuery(msgspec.Struct, frozen=True):
    """`status` and `action` may be several, separated by commas."""

    limit: bodies.Limit = 50
    cursor: int | None = None
    status: str | None = None
    action: str | None = None
    search: str | None = None


class AllTasksQuery(TaskQuery, frozen=True):
    """`status` and `action` may be several, separated by commas; `workspace` is an id or a name."""

    workspace: str | None = None


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""
    _lists(api, platform)
    _views(api, platform)
    _decisions(api, platform)


def _lists(api: Api, platform: Platform) -> None:
    async def page(q: TaskQuery, workspace: str | None) -> bodies.TaskPage:
        held = None if workspace is None else await platform.read(workspaces.get, workspace)
        chosen = Filter(
            workspace_id=None if held is None else held.id,
            statuses=several(q.status, tuple[Status, ...], "status"),
            actions=several(q.action, tuple[Action, ...], "action"),
            search=q.search,
        )
        return await operations.listed(platform, chosen, limit=q.limit, cursor=q.cursor)

    @api.operation(
        "GET", TASKS, "List tasks, newest first", tag=TAG, right="read", query=AllTasksQuery, answer=bodies.TaskPage
    )
    async def list_tasks(call: Call[None, AllTasksQuery]) -> bodies.TaskPage:
        try:
            return await page(call.query, call.query.workspace)
        except NotFound as unknown:
            raise Invalid(unknown.message, path="$.workspace") from None

    @api.operation(
        "GET", f"{WS}/<ws>/tasks", "List a workspace's tasks, newest first", tag=TAG, right="read",
        query=TaskQuery, answer=bodies.TaskPage,
    )  # fmt: skip
    async def list_workspace_tasks(call: Call[None, TaskQuery]) -> bodies.TaskPage:
        return await page(call.query, call.path["ws"])

    @api.operation(
        "POST", f"{WS}/<ws>/tasks", "Create a task; its inputs are frozen now", tag=TAG, right="run", status=201,
        body=bodies.TaskCreate, answer=bodies.TaskView, keyed=True,
        conflicts=("no_configuration", "not_a_plan", "no_plan", "no_changes", "plan_stale"),
    )  # fmt: skip
    async def create_task(call: Call[bodies.TaskCreate, NoQuery]) -> bodies.TaskView:
        body = call.body
        if body.plan_task_id is not None and (body.action != "apply" or body.targets or body.replace):
            raise Invalid(
                "plan_task_id goes with the action `apply` alone: that plan is applied as it is.", path="$.plan_task_id"
            )
        for name, addresses in (("targets", body.targets), ("replace", body.replace)):
            for at, address in enumerate(addresses):
                if any(ord(character) < 32 for character in address):
                    raise Invalid("An address has no control characters.", path=f"$.{name}[{at}]")
        asked = NewTask(**msgspec.structs.asdict(body))
        return await operations.create(platform, call.path["ws"], asked, by=call.by, key=call.key)


def _views(api: Api, platform: Platform) -> None:
    @api.operation("GET", ONE, "Show a task", tag=TAG, right="read", answer=bodies.TaskView)
    async def show_task(call: Call[None, NoQuery]) -> bodies.TaskView:
        return await operations.show(platform, call.path["task_id"])

    @api.operation(
        "GET",
        f"{ONE}/plan",
        "The plan as Terraform's JSON, sensitive values masked",
        tag=TAG,
        right="read",
        raw_answer=JSON,
    )
    async def show_plan(call: Call[None, NoQuery]) -> Response:
        text = await platform.read(operations.plan_text, platform.keyring, call.path["task_id"])
        return Response(await trio.to_thread.run_sync(operations.masked_plan, text), content_type=JSON)

    @api.operation(
        "GET", f"{ONE}/changes", "What the plan does to each resource, and how far its apply is", tag=TAG, right="read",
        answer=bodies.ChangeList,
    )  # fmt: skip
    async def list_changes(call: Call[None, NoQuery]) -> bodies.ChangeList:
        task_id = call.path["task_id"]
        text = await platform.read(operations.plan_text, platform.keyring, task_id)
        changes = await trio.to_thread.run_sync(operations.planned_changes, text)
        progress = {entry.address: entry for entry in await platform.read(plans.progress, task_id)}
        return bodies.ChangeList(
            items=[
                bodies.ChangeView(
                    address=change.address, action=change.action, change=change, progress=progress.get(change.address)
                )
                for change in changes
            ]
        )


def _decisions(api: Api, platform: Platform) -> None:
    @api.operation(
        "POST", f"{ONE}/cancel", "Cancel a task; `force`, later, does not wait for what Terraform is doing", tag=TAG,
        right="run", body=bodies.CancelRequest, answer=bodies.TaskView,
        conflicts=("already_final", "not_cancelling", "force_too_early", "force_unconfirmed"),
    )  # fmt: skip
    async def cancel_task(call: Call[bodies.CancelRequest, NoQuery]) -> bodies.TaskView:
        body = call.body
        return await operations.cancel(
            platform, call.path["task_id"], by=call.by, force=body.force, confirmed=body.confirm
        )

    @api.operation(
        "POST", f"{ONE}/confirm", "Confirm a plan: exactly it will be applied", tag=TAG, right="run",
        body=bodies.ConfirmRequest, answer=bodies.TaskView, conflicts=(*OVER, "plan_stale", "workspace_locked"),
    )  # fmt: skip
    async def confirm_task(call: Call[bodies.ConfirmRequest, NoQuery]) -> bodies.TaskView:
        body = call.body
        return await operations.confirm(
            platform, call.path["task_id"], by=call.by, comment=body.comment, plan_digest=body.plan_digest
        )

    @api.operation(
        "POST", f"{ONE}/discard", "Discard a plan: it will not be applied", tag=TAG, right="run",
        body=bodies.CommentRequest, answer=bodies.TaskView, conflicts=OVER,
    )  # fmt: skip
    async def discard_task(call: Call[bodies.CommentRequest, NoQuery]) -> bodies.TaskView:
        return await operations.discard(platform, call.path["task_id"], by=call.by, comment=call.body.comment)

    @api.operation(
        "POST", f"{ONE}/retry", "Run a task again, as a new one with today's inputs", tag=TAG, right="run", status=201,
        answer=bodies.TaskView, keyed=True, conflicts=("illegal_transition", "no_plan", "no_configuration"),
    )  # fmt: skip
    async def retry_task(call: Call[None, NoQuery]) -> bodies.TaskView:
        return await operations.retry(platform, call.path["task_id"], by=call.by, key=call.key)

    @api.operation(
        "POST", f"{ONE}/resolve", "Declare a lost apply over, after looking at what it did", tag=TAG, right="force_unlock",
        body=state_bodies.ResolveRequest, answer=bodies.TaskView,
        conflicts=(*OVER, "no_checkpoint", "checkpoint_not_adoptable"),
    )  # fmt: skip
    async def resolve_task(call: Call[state_bodies.ResolveRequest, NoQuery]) -> bodies.TaskView:
        body = call.body
        return await operations.resolve(platform, call.path["task_id"], body, by=call.by)
