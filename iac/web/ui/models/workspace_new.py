"""The form for a new workspace."""

from __future__ import annotations

from collections.abc import Sequence

from iac.domain.records import Pool
from iac.web.ui.models.parts import Asked
from iac.web.ui.models.workspace_list import PATH

NEW = "/new-workspace"
"""Not below the list's path: there every name is a workspace's."""


class NewSheet(Asked, frozen=True, kw_only=True):
    """`pools` are ids and words of those that it could run on; `hint` says why there are none."""

    pools: tuple[tuple[str, str], ...]
    hint: str


def new_sheet(pools: Sequence[Pool], *, may_allow: bool, bare: bool) -> NewSheet:
    """`may_allow`: whoever asks may also let a pool serve the workspace, without which it runs on no agent."""
    offered = pools if may_allow else ()
    hint = ""
    if pools and not may_allow:
        hint = "It runs on this server until an admin has allowed a pool of agents to serve it."
    return NewSheet(
        title="New workspace",
        back=PATH,
        back_words="Workspaces",
        action=PATH,
        bare=bare,
        pools=tuple((pool.id, f"{pool.name} ({pool.agents_online} of {pool.agents} online)") for pool in offered),
        hint=hint,
    )
