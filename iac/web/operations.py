"""The users' use cases on tasks that are more than one store call: read together, change, tell the actors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from iac.domain import bodies, plan_masking, plans, state_bodies, states
from iac.domain.decision import Effect
from iac.domain.lifecycle import Cancel, Confirm, Discard, Event, Resolve
from iac.domain.messages import Wanted
from iac.domain.records import LOCAL, Task
from iac.domain.redaction import MIN_SECRET, Masker
from iac.domain.work import BundleVariable, PlanFacts
from iac.errors import Conflict, IllegalTransition
from iac.executor.terraform import sensitive_values
from iac.store import agents, creation, state_pushes, tasks
from iac.store import plans as stored_plans
from iac.store.creation import NewTask, stale
from iac.store.database import Connection
from iac.store.identity import new_id
from iac.store.sealing import Keyring
from iac.store.tasks import Filter, Moved
from iac.web import views
from iac.web.paging import cut
from iac.web.platform import Platform

SETTLES_WITHIN = 0.5
"""Seconds for which the answer to a new task waits until somebody was found to run it, or not."""
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*')


class _Beside(msgspec.Struct, frozen=True):
    """What is shown of tasks besides their rows: plans by task, names of pools and agents by id."""

    plans: Mapping[int, PlanFacts]
    names: Mapping[str, str]


async def shown(platform: Platform, records: Sequence[Task]) -> list[bodies.TaskView]:
    """Tasks with their plans and with why they wait."""
    beside = await platform.read(_beside, records)
    return [_view(platform, record, beside) for record in records]


async def show(platform: Platform, task_id: int) -> bodies.TaskView:
    """Raises NotFound."""
    task, beside = await platform.read(_task_and_beside, task_id)
    return _view(platform, task, beside)


def _view(platform: Platform, task: Task, beside: _Beside) -> bodies.TaskView:
    plan = beside.plans.get(task.plan_task_id or task.id)
    after = platform.fleet.times.force_after
    return views.task(task, plan, platform.dispatcher.wait_of(task), beside.names, force_after_s=after)


async def _task_and_beside(c: Connection, task_id: int) -> tuple[Task, _Beside]:
    task = await tasks.get(c, task_id)
    return task, await _beside(c, [task])


async def _beside(c: Connection, records: Sequence[Task]) -> _Beside:
    facts = await stored_plans.summaries(c, [record.plan_task_id or record.id for record in records])
    ids = {each for record in records for each in (record.pool_id, record.agent_id) if each not in (None, LOCAL)}
    return _Beside(facts, await agents.names_of(c, sorted(ids)) if ids else {})


async def create(
    platform: Platform, workspace: str, asked: NewTask, *, by: str, key: str | None = None
) -> bodies.TaskView:
    """Under one `key` a person makes one task, however often it is asked for."""
    task = await platform.write(creation.create, platform.keyring, workspace, asked, by=by, key=key)
    # Handing it out comes before answering: its runner need not wait for us, and the answer says why it waits, if it does.
    await platform.dispatcher.settled(within=SETTLES_WITHIN)
    return (await shown(platform, [task]))[0]


async def cancel(platform: Platform, task_id: int, *, by: str, force: bool, confirmed: bool = False) -> bodies.TaskView:
    """Ends a waiting task at once; tells the runner of a running one to stop. Raises NotFound, AlreadyFinal, and Conflict
    where it may not be forced.
    """
    event = Cancel(
        cancel_id=new_id("can"),
        reason="user",
        by=by,
        force=force,
        confirmed=confirmed,
        force_after_s=platform.fleet.times.force_after,
    )
    moved = await _moved(platform, task_id, event, by=by, verb="task.cancel", force=force, cancel_id=event.cancel_id)
    if Effect.STOP in moved.effects:
        _stop(platform, moved)
    return await show(platform, task_id)


def _stop(platform: Platform, moved: Moved) -> None:
    """Tells whoever runs it."""
    task, agent_id = moved.task, moved.before.agent_id
    if task.cancel_id is None or agent_id is None:
        return
    wanted = Wanted(
        task_id=task.id,
        fence=moved.before.fence,
        cancel_id=task.cancel_id,
        force=task.cancel_force,
        grace_s=task.grace_s,
    )
    if agent_id == LOCAL:
        platform.local.cancel(wanted)
    else:
        platform.fleet.cancel(agent_id, wanted, reason=task.cancel_reason or "user")


async def confirm(
    platform: Platform, task_id: int, *, by: str, comment: str, plan_digest: str | None
) -> bodies.TaskView:
    """Queues the apply of exactly the plan that was looked at.

    Raises PlanStale, IllegalTransition, AlreadyFinal, and WorkspaceLocked where its lock was broken and taken by another.
    """
    await platform.write(_confirm, task_id, by=by, comment=comment, plan_digest=plan_digest)
    platform.task_changed.ring(task_id)
    return await show(platform, task_id)


async def _confirm(c: Connection, task_id: int, *, by: str, comment: str, plan_digest: str | None) -> Moved:
    task = await tasks.get(c, task_id)
    digest = plan_digest or task.plan_digest or ""
    moved = await tasks.noted_move(
        c, task_id, Confirm(by=by, comment=comment, plan_digest=digest), by=by, verb="task.confirm", plan=digest
    )
    # The move holds the workspace's row, so what is read now is what the apply will find.
    await tasks.keep_lock(c, moved.task)
    facts = await stored_plans.facts(c, task_id)
    await _refuse_stale(c, moved.task, facts)
    return moved


async def _refuse_stale(c: Connection, task: Task, facts: PlanFacts) -> None:
    row = await c.first("SELECT current_serial, lineage FROM workspace WHERE id = :id", id=task.workspace_id)
    if row is not None and (facts.serial, facts.lineage) != (row["current_serial"], row["lineage"]):
        raise stale(task.id, facts.serial, row["current_serial"])


async def discard(platform: Platform, task_id: int, *, by: str, comment: str) -> bodies.TaskView:
    await _moved(platform, task_id, Discard(by=by, comment=comment), by=by, verb="task.discard")
    return await show(platform, task_id)


async def resolve(platform: Platform, task_id: int, asked: state_bodies.ResolveRequest, *, by: str) -> bodies.TaskView:
    """A human says that a lost apply is over; whatever its runner still sends is fenced from here on.

    Raises NotFound, AlreadyFinal, IllegalTransition, and Conflict where its checkpoint cannot be adopted as asked.
    """
    await platform.write(_resolve, task_id, asked, by=by)
    platform.task_changed.ring(task_id)
    return await show(platform, task_id)


async def _resolve(c: Connection, task_id: int, asked: state_bodies.ResolveRequest, *, by: str) -> None:
    fence = await tasks.next_fence(c)
    event = Resolve(by=by, comment=asked.comment, fence=fence, unlock=asked.unlock)
    facts = {"unlock": asked.unlock, "comment": asked.comment, "checkpoint": asked.checkpoint}
    moved = await tasks.noted_move(c, task_id, event, by=by, verb="task.resolve", **facts)
    if told := await state_pushes.settle(c, moved.task, asked.checkpoint, by=by):
        await tasks.annotate(c, task_id, fence, f"{moved.task.detail} {told}")


async def retry(platform: Platform, task_id: int, *, by: str, key: str | None = None) -> bodies.TaskView:
    """The same action again, as a new task with today's inputs. Raises IllegalTransition while it is not over."""
    old = await platform.read(tasks.get, task_id)
    if not old.final:
        raise IllegalTransition(
            f"Task {task_id} is {old.status}; only a task that is over can be run again.", status=old.status
        )
    if old.plan_task_id is not None:
        raise Conflict(
            f"Task {task_id} applied the plan of task {old.plan_task_id}, which is used up; plan again.", code="no_plan"
        )
    asked = NewTask(
        action=old.action,
        targets=old.targets,
        replace=old.replace,
        priority=old.priority,
        auto_apply=old.auto_apply,
        message=old.message,
        retry_of=old.id,
    )
    return await create(platform, old.workspace_id, asked, by=by, key=key)


async def _moved(platform: Platform, task_id: int, event: Event, *, by: str, verb: str, **facts: object) -> Moved:
    moved = await platform.write(tasks.noted_move, task_id, event, by=by, verb=verb, **facts)
    platform.task_changed.ring(task_id)
    platform.log_grew.ring(task_id)
    return moved


async def listed(platform: Platform, chosen: Filter, *, limit: int, cursor: int | None) -> bodies.TaskPage:
    found, counts = await platform.read(_page, chosen, limit=limit + 1, before=cursor)
    page, next_cursor = cut(found, limit, lambda task: task.id)
    return bodies.TaskPage(items=await shown(platform, page), next_cursor=next_cursor, counts=counts)


async def _page(c: Connection, chosen: Filter, *, limit: int, before: int | None) -> tuple[list[Task], dict[str, int]]:
    return await tasks.page(c, chosen, limit=limit, before=before), await tasks.counts(c, chosen)


class PlanText(msgspec.Struct, frozen=True):
    """A plan's JSON before it is masked, and what must be masked in it."""

    json: bytes
    variables: tuple[str, ...]
    secrets: tuple[str, ...]


async def plan_text(c: Connection, keyring: Keyring, task_id: int) -> PlanText:
    """Raises NotFound when there is no such task or it has no plan."""
    task = await tasks.get(c, task_id)
    bundle = await creation.bundle_of(c, keyring, task_id)
    return PlanText(
        json=await stored_plans.plan_json(c, keyring, task.plan_task_id or task_id),
        variables=tuple(variable.key for variable in bundle.variables if variable.sensitive),
        secrets=sensitive_values(bundle.variables),
    )


def masked_plan(text: PlanText) -> bytes:
    """Takes a third of a second for a large plan: call it in a thread."""
    structural = plan_masking.masked(text.json, sensitive_variables=text.variables)
    # A secret may also stand inside a longer text. One that is itself JSON (a number) would tear the document apart.
    masked = Masker(secret for secret in text.secrets if not _is_json(secret)).mask(structural)
    return _without_numbers(masked, frozenset(text.secrets))


def planned_changes(text: PlanText) -> list[plans.ResourceChange]:
    """As slow as `masked_plan`."""
    return plans.changes(masked_plan(text))


def _without_numbers(document: bytes, secrets: frozenset[str]) -> bytes:
    """The JSON with each number that is a secret replaced by a text, and masked inside the texts."""
    numbers = {secret.encode() for secret in secrets if len(secret) >= MIN_SECRET and _NUMBER.fullmatch(secret)}
    if not any(number in document for number in numbers):
        return document
    masker = Masker(numbers)

    def replaced(token: re.Match[bytes]) -> bytes:
        found = token[0]
        if found.startswith(b'"'):
            return masker.mask(found) if any(number in found for number in numbers) else found
        return b'"***"' if found in numbers else found

    return _TOKEN.sub(replaced, document)


def shown_outputs(state: bytes, variables: Sequence[BundleVariable]) -> list[bodies.OutputView]:
    """A state's outputs without their secrets: call it in a thread, a state may be large.

    Terraform knows only what the configuration calls sensitive; a variable that is so only here may be in any output.
    """
    masker = Masker(sensitive_values(variables))
    return [
        bodies.OutputView(
            name=output.name,
            value=None if output.sensitive else _masked_value(output.value, masker),
            type=output.type,
            sensitive=output.sensitive,
        )
        for output in states.outputs(state)
    ]


def _masked_value(value: msgspec.Raw, masker: Masker) -> msgspec.Raw:
    masked = masker.mask(bytes(value))
    try:
        msgspec.json.decode(masked)
    except msgspec.DecodeError:
        return msgspec.Raw(b'"***"')  # the secret was a number, or a part of one
    return msgspec.Raw(masked)


def _is_json(secret: str) -> bool:
    try:
        return not isinstance(msgspec.json.decode(secret.encode()), str)
    except msgspec.DecodeError:
        return False
