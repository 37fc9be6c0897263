"""A workspace's settings as forms: what they are now, what was sent, and whether somebody else was faster."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from iac.domain.records import Workspace
from iac.errors import Invalid
from iac.web.ui.models.parts import Part, Parts
from iac.web.ui.models.workspace import FILE, Head, Rights, WorkspaceView, frame_of
from iac.web.ui.models.workspace_inputs import readable

_GENERAL = ("name", "description", "tags")
_EXECUTION = (
    "execution_mode",
    "pool_id",
    "engine",
    "terraform_version",
    "working_directory",
    "auto_apply",
)
_LIMITS: tuple[str, ...] = ()
MOST_TAGS = 50


class PoolChoice(msgspec.Struct, frozen=True):
    id: str
    words: str


class WorkspaceSettings(WorkspaceView, frozen=True, kw_only=True):
    """`seen` tells which settings a form was made from."""

    lock: Parts
    settings: Workspace
    seen: str
    tags: str
    provider_config: str
    pools: tuple[PoolChoice, ...]
    resources: int


def workspace_settings(
    workspace: Workspace, pools: Sequence[PoolChoice], resources: int, *, rights: Rights
) -> WorkspaceSettings:
    frame: dict[str, Any] = frame_of(workspace, rights, "/settings")
    known = tuple(pools)
    if workspace.pool_id is not None and all(pool.id != workspace.pool_id for pool in known):
        known = (PoolChoice(workspace.pool_id, workspace.pool_name or workspace.pool_id), *known)
    head: Head = frame["workspace"]
    locks = (Part("lock-card", f"{FILE}:lock_card", head),) if head.rights.run else ()
    return WorkspaceSettings(
        lock=Parts("lock-place", locks),
        settings=workspace,
        seen=seal_of(workspace),
        tags=lines_of(workspace.tags),
        provider_config="" if workspace.provider_config is None else readable(workspace.provider_config),
        pools=known,
        resources=resources,
        **frame,
    )


def seal_of(workspace: Workspace) -> str:
    """Differs when any setting differs; what tasks do to a workspace leaves it as it is."""
    values = {name: getattr(workspace, name) for name in (*_GENERAL, *_EXECUTION, *_LIMITS, "provider_config")}
    return hashlib.blake2b(msgspec.json.encode(values, order="sorted"), digest_size=8).hexdigest()


def lines_of(tags: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={value}" if value else key for key, value in sorted(tags.items()))


def tags_of(text: str) -> dict[str, str]:
    """Tags, one a line as `key=value`. Raises Invalid."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key, _, value = (part.strip() for part in line.partition("="))
        if not key and not value:
            continue
        if not key or len(key) > 60 or len(value) > 200:
            raise Invalid(
                f"Line {number}: write key=value; the key has 1 to 60 characters, the value up to 200.", path="$.tags"
            )
        if key in found:
            raise Invalid(f"Line {number}: the tag {key!r} is there twice.", path="$.tags")
        found[key] = value
    if len(found) > MOST_TAGS:
        raise Invalid(f"At most {MOST_TAGS} tags.", path="$.tags")
    return found
