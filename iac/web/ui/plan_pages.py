"""A task's plan: the page with its filters, and single changes that are fetched when somebody opens them."""

from __future__ import annotations

import trio

from iac.store import plans, tasks
from iac.web import operations
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui import answers
from iac.web.ui.models.parts import View
from iac.web.ui.models.plan_document import PlanDocument, read_plan
from iac.web.ui.models.plan_view import Change, PlanQuery, PlanView, one_change, plan_view
from iac.web.ui.pages import PageCall, Ui
from iac.web.ui.shelf import Shelf

PATH = "/tasks/<int(max=9223372036854775807):task_id>/plan"


class PlanPage(View, frozen=True, kw_only=True):
    task_id: int
    workspace: str
    plan: PlanView


class ChangePage(View, frozen=True, kw_only=True):
    """`bare`: only the lines, for a page that has the rest already."""

    back: str
    change: Change
    bare: bool


class Plans:
    """Plans as they are looked at. Their masking takes a moment, so it is done once."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._shelf = Shelf[PlanDocument]()
        self._views = Shelf[PlanView]()

    async def view(self, task_id: int, query: PlanQuery, *, base: str) -> PlanView:
        """The plan that the task made, or that it applies. Raises NotFound where there is none (no_plan)."""
        digest = await self._digest(task_id)
        document = await self._document(task_id, digest)
        parts = f"/tasks/{task_id}/plan"
        return await self._views.made(
            (task_id, digest, query, base), lambda: plan_view(document, query, base=base, parts=parts)
        )

    async def document(self, task_id: int) -> PlanDocument:
        """Raises NotFound."""
        return await self._document(task_id, await self._digest(task_id))

    async def _digest(self, task_id: int) -> str:
        task = await self._platform.read(tasks.get, task_id)
        return (await self._platform.read(plans.facts, task.plan_task_id or task_id)).digest

    async def _document(self, task_id: int, digest: str) -> PlanDocument:
        return await self._shelf.get((task_id, digest), lambda: self._read(task_id))

    async def _read(self, task_id: int) -> tuple[PlanDocument, int]:
        text = await self._platform.read(operations.plan_text, self._platform.keyring, task_id)

        def read() -> tuple[PlanDocument, int]:
            masked = operations.masked_plan(text)
            return read_plan(text.json, masked), len(masked)

        return await trio.to_thread.run_sync(read)


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages on the table."""
    kept = Plans(platform)

    @ui.page(PATH, "plan.html", query=PlanQuery)
    async def show_plan_page(call: PageCall[PlanQuery]) -> PlanPage:
        task_id = call.path["task_id"]
        task = await platform.read(tasks.get, task_id)
        base = f"/tasks/{task_id}/plan"
        plan = await kept.view(task_id, call.query, base=base)
        address = call.query.href(base)
        return PlanPage(
            title=f"Plan of task {task_id}", task_id=task_id, workspace=task.workspace_name, plan=plan, address=address
        )

    @ui.page(f"{PATH}/<key>", "plan_change.html")
    async def show_planned_change(call: PageCall[NoQuery]) -> ChangePage:
        task_id, key = call.path["task_id"], call.path["key"]
        document = await kept.document(task_id)
        change = await trio.to_thread.run_sync(one_change, document, key)
        return ChangePage(
            title=change.address, back=f"/tasks/{task_id}/plan", change=change, bare=answers.asked_by_script()
        )
