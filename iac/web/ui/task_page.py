"""The page of a task, and what somebody does about the task there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from iac.actors.news import topic_of
from iac.domain.cancel_bodies import cancel_view
from iac.domain.records import Task
from iac.domain.state_bodies import KnownView, ResolveRequest
from iac.errors import Gone, Invalid
from iac.store import task_pages
from iac.store.creation import NewTask
from iac.web import known, logs, operations, sse
from iac.web.auth import RIGHTS
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui.models import plain_log
from iac.web.ui.models.task_page import Facts, TaskPage, task_page
from iac.web.ui.pages import Done, PageCall, Ui

PATH = "/tasks/<int(max=9223372036854775807):task_id>"
Comment = Annotated[str, Meta(max_length=1000)]


class Confirmed(msgspec.Struct, frozen=True):
    """`plan_digest` is the plan's that was on the page."""

    plan_digest: Annotated[str, Meta(min_length=1, max_length=200)]
    comment: Comment = ""


class Commented(msgspec.Struct, frozen=True):
    comment: Comment = ""


class Forced(msgspec.Struct, frozen=True):
    """`confirm`: that an apply's state may be incomplete is known."""

    confirm: bool = False


class Resolved(msgspec.Struct, frozen=True):
    comment: Comment
    unlock: bool = False
    checkpoint: Literal["quarantine", "adopt"] = "quarantine"


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the page and its deeds on the table."""

    async def log_of(path: Mapping[str, Any], place: str) -> sse.Talker:
        return await logs.watched(platform, path["task_id"], place)

    @ui.page(PATH, "task.html", topics=_topics, beside=log_of)
    async def show_task_page(call: PageCall[NoQuery]) -> TaskPage:
        found = await platform.read(task_pages.situation, call.path["task_id"])
        now = datetime.now(UTC)
        tail, cut, gone = await _tail(platform, found.task.id, sum(stream.length for stream in found.logs))
        return task_page(
            Facts(
                task=found.task,
                plan=found.plan,
                wait=platform.dispatcher.wait_of(found.task),
                names=found.names,
                steps=found.steps,
                progress=found.progress,
                current_serial=found.current_serial,
                known=await _known(platform, found.task),
                cancel=cancel_view(found.task, now=now, force_after_s=platform.fleet.times.force_after),
                now=now,
                rights=frozenset(RIGHTS[call.me.token.role]),
                tail=tail,
                tail_cut=cut,
                log_gone=gone,
            )
        )

    _decisions(ui, platform)
    _again(ui, platform)


def _topics(path: Mapping[str, Any]) -> tuple[str, ...]:
    return (topic_of(path["task_id"]),)


async def _tail(platform: Platform, task_id: int, length: int) -> tuple[str, bool, bool]:
    """The log's end as text, whether more is before it, and whether the log is not kept any more."""
    begin = max(0, length - plain_log.SHOWN)
    try:
        part = await platform.log_cache.read(task_id, begin, plain_log.SHOWN)
    except Gone:
        return "", False, True
    return plain_log.plain(part.data, cut=begin > 0), begin > 0, False


async def _known(platform: Platform, task: Task) -> KnownView | None:
    """Of a lost task only."""
    try:
        return await known.known(platform, task.id) if task.status == "lost" else None
    except Gone:
        return None


def _back(call: PageCall[Any]) -> str:
    return f"/tasks/{call.path['task_id']}"


def _decisions(ui: Ui, platform: Platform) -> None:
    @ui.deed(f"{PATH}/confirm", "run", form=Confirmed)
    async def confirm_plan(call: PageCall[Confirmed]) -> Done:
        said = call.query
        await operations.confirm(
            platform, call.path["task_id"], by=call.me.name, comment=said.comment, plan_digest=said.plan_digest
        )
        return Done(says="Confirmed. It is applied as soon as a runner is free.", back=_back(call))

    @ui.deed(f"{PATH}/discard", "run", form=Commented)
    async def discard_plan(call: PageCall[Commented]) -> Done:
        await operations.discard(platform, call.path["task_id"], by=call.me.name, comment=call.query.comment)
        return Done(says="The plan is discarded.", back=_back(call))

    @ui.deed(f"{PATH}/cancel", "run")
    async def cancel_task(call: PageCall[NoQuery]) -> Done:
        await operations.cancel(platform, call.path["task_id"], by=call.me.name, force=False)
        return Done(says="It is being cancelled.", back=_back(call))

    @ui.deed(f"{PATH}/force", "run", form=Forced)
    async def force_task(call: PageCall[Forced]) -> Done:
        task_id = call.path["task_id"]
        await operations.cancel(platform, task_id, by=call.me.name, force=True, confirmed=call.query.confirm)
        return Done(says="It is being killed.", back=_back(call))

    @ui.deed(f"{PATH}/resolve", "force_unlock", form=Resolved)
    async def resolve_task(call: PageCall[Resolved]) -> Done:
        said = call.query
        if not said.comment.strip():
            raise Invalid("Say what you found: others will read it.", path="$.comment")
        asked = ResolveRequest(comment=said.comment, unlock=said.unlock, checkpoint=said.checkpoint)
        await operations.resolve(platform, call.path["task_id"], asked, by=call.me.name)
        return Done(says="Resolved.", back=_back(call))


def _again(ui: Ui, platform: Platform) -> None:
    @ui.deed(f"{PATH}/retry", "run")
    async def retry_task(call: PageCall[NoQuery]) -> Done:
        made = await operations.retry(platform, call.path["task_id"], by=call.me.name)
        return Done(says=f"Task {made.id} is there.", location=f"/tasks/{made.id}")

    @ui.deed(f"{PATH}/apply", "run", form=Commented)
    async def apply_plan(call: PageCall[Commented]) -> Done:
        task_id = call.path["task_id"]
        task = await operations.show(platform, task_id)
        asked = NewTask(action="apply", plan_task_id=task_id, message=call.query.comment)
        made = await operations.create(platform, task.workspace_id, asked, by=call.me.name)
        return Done(says=f"Task {made.id} applies it.", location=f"/tasks/{made.id}")
