"""What differs between two states of a workspace: facts, objects that came, went and changed, outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from iac.errors import NotFound
from iac.web.ui.models.differences import Line, difference
from iac.web.ui.models.state_document import Secrets, StateDocument, StateInstance, shown_pair
from iac.web.ui.models.values import Mark, printable, with_secrets
from iac.web.ui.models.words import Tone

SHOWN = 200
OPEN_LINES = 250
Kind = Literal["removed", "changed", "added"]


class KindOf(msgspec.Struct, frozen=True):
    title: str
    sign: str
    tone: Tone


KINDS: dict[Kind, KindOf] = {
    "removed": KindOf("Not in the newer one any more", "-", "bad"),
    "changed": KindOf("Changed", "~", "warn"),
    "added": KindOf("New", "+", "good"),
}


class Fact(msgspec.Struct, frozen=True):
    """Something about both states as a whole. `same` ones are shown quietly."""

    name: str
    before: str
    after: str
    same: bool
    alarm: str = ""


class ObjectChange(msgspec.Struct, frozen=True, kw_only=True):
    """An object that differs. `lines` is None where they are fetched; `key` names it in this pair of states."""

    key: str
    address: str
    notes: tuple[str, ...]
    lines: tuple[Line, ...] | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind
    title: str
    sign: str
    tone: Tone
    total: int
    changes: tuple[ObjectChange, ...]
    more: int


class StateDifference(msgspec.Struct, frozen=True, kw_only=True):
    facts: tuple[Fact, ...]
    groups: tuple[Group, ...]
    outputs: tuple[Line, ...]
    unchanged: int
    parts: str
    """The address below which lines are fetched."""

    @property
    def same(self) -> bool:
        return not self.groups and not any(line.sign for line in self.outputs)


def state_difference(
    before: StateDocument, after: StateDocument, secrets: Secrets, *, parts: str, whole: bool = False
) -> StateDifference:
    """From `before` to `after`; unless it is to be `whole`, of each group the first. Call it in a thread."""
    pairs = list(_pairs(before, after))
    groups, left = [], OPEN_LINES
    for kind in KINDS:
        differing = [pair for pair in pairs if pair.kind == kind]
        changes = []
        for pair in differing if whole else differing[:SHOWN]:
            lines = pair.lines(before, after, secrets) if left > 0 else None
            left -= max(1, len(lines or ()))
            changes.append(pair.change(lines if left >= 0 else None))
        if differing:
            groups.append(_group(kind, changes, len(differing)))
    return StateDifference(
        facts=tuple(_facts(before, after)),
        groups=tuple(groups),
        outputs=_outputs(before, after, secrets),
        unchanged=sum(pair.kind is None for pair in pairs),
        parts=parts,
    )


def changed_object(before: StateDocument, after: StateDocument, secrets: Secrets, key: str) -> ObjectChange:
    """One object with what became of it. Raises NotFound."""
    pair = next((pair for pair in _pairs(before, after) if pair.key == key), None)
    if pair is None:
        raise NotFound("Neither of the two states has such an object; go back to the comparison and look from there.")
    return pair.change(pair.lines(before, after, secrets))


class _Pair(msgspec.Struct, frozen=True):
    """An object in both states, or in one of them."""

    old: StateInstance | None
    new: StateInstance | None

    @property
    def either(self) -> StateInstance:
        found = self.new or self.old
        assert found is not None  # noqa: S101 - there is no pair of nothing
        return found

    @property
    def key(self) -> str:
        return f"a-{self.new.key}" if self.new is not None else f"b-{self.either.key}"

    @property
    def kind(self) -> Kind | None:
        if self.old is None:
            return "added"
        if self.new is None:
            return "removed"
        return "changed" if self.attributes_differ or self.notes else None

    @property
    def attributes_differ(self) -> bool:
        if self.old is None or self.new is None or self.old.attributes == self.new.attributes:
            return False
        return self.old.plain != self.new.plain

    @property
    def notes(self) -> tuple[str, ...]:
        old, new = self.old, self.new
        found = [f"deposed {printable(self.either.deposed)}"] if self.either.deposed and None in (old, new) else []
        if old is not None and new is not None:
            if old.tainted != new.tainted:
                found.append("tainted now" if new.tainted else "not tainted any more")
            if old.provider != new.provider:
                found.append(f"provider {printable(old.provider)} → {printable(new.provider)}")
            if old.schema_version != new.schema_version:
                found.append(f"schema version {old.schema_version} → {new.schema_version}")
            if old.dependencies != new.dependencies:
                found.append("depends on something else")
        return tuple(found)

    def change(self, lines: tuple[Line, ...] | None) -> ObjectChange:
        return ObjectChange(key=self.key, address=printable(self.either.address), notes=self.notes, lines=lines)

    def lines(self, before: StateDocument, after: StateDocument, secrets: Secrets) -> tuple[Line, ...]:
        if self.old is None and self.new is not None:
            return difference(None, with_secrets(after.attributes(self.new, secrets)))
        if self.new is None and self.old is not None:
            return difference(with_secrets(before.attributes(self.old, secrets)), None)
        if self.old is None or self.new is None:
            return ()
        one = (before.attributes(self.old, secrets), self.old.plain)
        other = (after.attributes(self.new, secrets), self.new.plain)
        return difference(*shown_pair(one, other))


def _pairs(before: StateDocument, after: StateDocument) -> Iterator[_Pair]:
    old = {each.identity: each for each in before.instances}
    new = {each.identity: each for each in after.instances}
    for identity, instance in old.items():
        yield _Pair(instance, new.get(identity))
    for identity, instance in new.items():
        if identity not in old:
            yield _Pair(None, instance)


def _group(kind: Kind, changes: Iterable[ObjectChange], total: int) -> Group:
    named, shown = KINDS[kind], tuple(changes)
    return Group(
        kind=kind,
        title=named.title,
        sign=named.sign,
        tone=named.tone,
        total=total,
        changes=shown,
        more=total - len(shown),
    )


def _facts(before: StateDocument, after: StateDocument) -> Iterator[Fact]:
    one, other = before.header, after.header
    yield Fact("Serial", str(one.serial), str(other.serial), one.serial == other.serial)
    yield Fact(
        "Lineage",
        one.lineage,
        other.lineage,
        one.lineage == other.lineage,
        "" if one.lineage == other.lineage else "These are two different histories: neither continues the other.",
    )
    versions = one.terraform_version, other.terraform_version
    yield Fact("Terraform", *versions, versions[0] == versions[1])
    yield Fact(
        "Resources", f"{one.resource_count:,}", f"{other.resource_count:,}", one.resource_count == other.resource_count
    )


def _outputs(before: StateDocument, after: StateDocument, secrets: Secrets) -> tuple[Line, ...]:
    masked = before.outputs(secrets), after.outputs(secrets)
    plain = before.plain_outputs(), after.plain_outputs()
    one, other = shown_pair((dict(masked[0]), dict(plain[0])), (dict(masked[1]), dict(plain[1])))
    if one == other:
        return ()
    return difference(one if masked[0] else Mark.ABSENT, other if masked[1] else Mark.ABSENT)
