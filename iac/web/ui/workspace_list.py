"""The list of workspaces."""

from __future__ import annotations

import msgspec

from iac.store import pools, workspace_lists
from iac.store.database import Connection
from iac.store.workspace_lists import Chosen, Listed
from iac.web.platform import Platform
from iac.web.ui.models.workspace_list import PAGE, PATH, Workspaces, WorkspacesQuery
from iac.web.ui.models.workspace_list import workspaces as workspaces_view
from iac.web.ui.pages import PageCall, Ui

MOST_POOLS = 200


class _Found(msgspec.Struct, frozen=True):
    listed: Listed
    pools: list[str]
    tags: list[str]


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the page on the table."""

    @ui.page(PATH, "workspaces.html", nav="Workspaces", query=WorkspacesQuery, topics=("tasks", "workspaces"))
    async def list_workspaces(call: PageCall[WorkspacesQuery]) -> Workspaces:
        found = await platform.read(_found, call.query)
        return workspaces_view(
            call.query,
            found.listed.page,
            found.listed.counts,
            pools=found.pools,
            tags=found.tags,
            may_create=call.me.may("write"),
        )


async def _found(c: Connection, query: WorkspacesQuery) -> _Found:
    chosen = Chosen(
        search=query.q.strip() or None,
        condition=query.state or None,
        mode=query.mode or None,
        pool=query.pool or None,
        tag=query.tag or None,
        locked=query.locked == "yes",
    )
    listed = await workspace_lists.listed(c, chosen, sort=query.sort, limit=PAGE, offset=(query.page - 1) * PAGE)
    known = [pool.name for pool in await pools.page(c, limit=MOST_POOLS, after=None)]
    return _Found(listed, known, await workspace_lists.tags(c))
