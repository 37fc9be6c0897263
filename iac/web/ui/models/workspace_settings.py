"""A workspace's settings as forms: what they are now, what was sent, and whether somebody else was faster."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from iac.domain.limits import Defaults
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
LIMITS = ("plan_timeout_s", "apply_timeout_s", "plan_grace_s", "apply_grace_s")
MOST_TAGS = 50
_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"([0-9]{1,9})\s*(s|min|m|h|d)?")


class PoolChoice(msgspec.Struct, frozen=True):
    id: str
    words: str


class LimitShown(msgspec.Struct, frozen=True):
    """A limit as a person writes it: `45 min`. `usual` is what holds where there is none."""

    field: str
    label: str
    value: str
    usual: str


class WorkspaceSettings(WorkspaceView, frozen=True, kw_only=True):
    """`seen` tells which settings a form was made from."""

    lock: Parts
    settings: Workspace
    seen: str
    tags: str
    provider_config: str
    limits: tuple[LimitShown, ...]
    pools: tuple[PoolChoice, ...]
    resources: int


def workspace_settings(
    workspace: Workspace, pools: Sequence[PoolChoice], resources: int, *, usual: Defaults, rights: Rights
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
        limits=tuple(_limits(workspace, usual)),
        pools=known,
        resources=resources,
        **frame,
    )


def _limits(workspace: Workspace, usual: Defaults) -> Iterator[LimitShown]:
    for field, label, seconds in (
        ("plan_timeout_s", "A plan may take", usual.plan.timeout_s),
        ("apply_timeout_s", "An apply may take", usual.apply.timeout_s),
        ("plan_grace_s", "A plan may take to stop", usual.plan.grace_s),
        ("apply_grace_s", "An apply may take to stop", usual.apply.grace_s),
    ):
        own: int | None = getattr(workspace, field)
        yield LimitShown(field, label, "" if own is None else span(own), span(int(seconds)))


def span(seconds: int) -> str:
    """Seconds in the largest unit that needs no rest: `90 s`, `45 min`, `2 h`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def seconds_of(text: str, field: str, most: int) -> int | None:
    """The opposite of `span`, also for a bare number of seconds; None for nothing. Raises Invalid."""
    if not text.strip():
        return None
    found = _SPAN.fullmatch(text.strip().lower())
    seconds = 0 if found is None else int(found[1]) * _UNITS[found[2] or "s"]
    if not 1 <= seconds <= most:
        raise Invalid(f"Write a time such as 90 s, 45 min or 2 h: from 1 s to {span(most)}.", path=f"$.{field}")
    return seconds


def seal_of(workspace: Workspace) -> str:
    """Differs when any setting differs; what tasks do to a workspace leaves it as it is."""
    values = {name: getattr(workspace, name) for name in (*_GENERAL, *_EXECUTION, *LIMITS, "provider_config")}
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
