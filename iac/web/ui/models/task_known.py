"""What is known of an apply whose end nobody saw, and what can become of the state that it sent while it ran."""

from __future__ import annotations

from datetime import datetime

import msgspec

from iac.domain.state_bodies import KnownView
from iac.web.ui.models.words import many


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is known."""

    name: str
    text: str
    at: datetime | None = None
    href: str = ""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    seen: tuple[Seen, ...]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The checkpoint that somebody decides about when he resolves; `problem` says why it cannot be adopted."""

    words: str
    at: datetime
    problem: str


def known(found: KnownView) -> Known:
    seen = []
    if found.last_heard_at is not None:
        seen.append(Seen(name="Last heard of its agent", text="", at=found.last_heard_at))
    serial = "none yet" if found.state_serial is None else f"serial {found.state_serial}"
    uncertain = ", marked as uncertain" if found.state_uncertain else ""
    seen.append(Seen(name="Current state", text=f"{serial}{uncertain}"))
    if found.checkpoint is not None:
        version = found.checkpoint.version
        text = f"serial {version.serial} with {many(version.resource_count, 'resource')}, sent while it ran"
        seen.append(Seen(name="Newest checkpoint", text=text, at=version.created_at))
    for version in found.states[:5]:
        if found.checkpoint is None or version.id != found.checkpoint.version.id:
            text = f"serial {version.serial}, {version.verdict}"
            seen.append(Seen(name="Also stored", text=text, at=version.created_at))
    if found.progress:
        done = sum(each.status == "complete" for each in found.progress)
        under_way = [each.address for each in found.progress if each.status == "started"]
        seen.append(Seen(name="Resources", text=f"{done} of {len(found.progress)} done"))
        seen += [Seen(name="Was under way", text=address) for address in under_way[:10]]
    if found.log_length:
        seen.append(Seen(name="Log", text=f"{found.log_length:,} bytes are here", href="#log"))
    return Known(seen=tuple(seen))


def choice(found: KnownView) -> Choice | None:
    if found.checkpoint is None:
        return None
    version = found.checkpoint.version
    return Choice(
        words=f"serial {version.serial} with {many(version.resource_count, 'resource')}",
        at=version.created_at,
        problem=found.checkpoint.not_adoptable or "",
    )
