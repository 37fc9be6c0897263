"""A plan as its page shows it: what is destroyed first, then what is replaced, changed, created; filtered, and bounded.

However large the plan, the page stays small: each section shows its first entries, and of those only the first ones open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal
from urllib.parse import urlencode

import msgspec

from iac.web.ui.models.differences import Line, difference
from iac.web.ui.models.plan_document import PlanDocument, ResourceOf
from iac.web.ui.models.values import Mark, Value, printable
from iac.web.ui.models.words import Tone, many

Kind = Literal["delete", "replace", "update", "create", "import", "move", "forget", "read"]
SHOWN = 100
"""Entries of a section, before one asks for all."""
OPEN_LINES = 250
"""Lines of differences that a page has from the beginning; what is beyond is fetched when it is opened."""


class KindOf(msgspec.Struct, frozen=True):
    """What a kind of change is called. `sign` stands before each, as in Terraform's own plan."""

    word: str
    title: str
    sign: str
    tone: Tone


KINDS: Mapping[Kind, KindOf] = {
    "delete": KindOf("destroy", "To be destroyed", "-", "bad"),
    "replace": KindOf("replace", "To be replaced", "±", "bad"),
    "update": KindOf("change", "To be changed in place", "~", "warn"),
    "create": KindOf("add", "To be created", "+", "good"),
    "import": KindOf("import", "To be imported", "↓", "busy"),
    "move": KindOf("move", "To be moved", "→", "busy"),
    "forget": KindOf("forget", "To be forgotten, not destroyed", "∅", "warn"),
    "read": KindOf("read", "To be read during the apply", "?", "calm"),
}
REASONS: Mapping[str, str] = {
    "replace_because_tainted": "it is tainted",
    "replace_because_cannot_update": "what changes cannot be changed in place",
    "replace_by_request": "it was asked for (-replace)",
    "replace_by_triggers": "of its replace_triggered_by",
    "delete_because_no_resource_config": "it is not in the configuration any more",
    "delete_because_no_module": "its module is not in the configuration any more",
    "delete_because_wrong_repetition": "count or for_each came or went",
    "delete_because_count_index": "its index is beyond count",
    "delete_because_each_key": "its key is not in for_each any more",
    "delete_because_no_move_target": "it was moved to where nothing is configured",
    "read_because_config_unknown": "its arguments are known only then",
    "read_because_dependency_pending": "what it depends on changes first",
    "read_because_check_nested": "it is part of a check",
    "instance_count_unknown": "count or for_each is not known yet",
    "resource_config_unknown": "its arguments are not known yet",
    "provider_config_unknown": "its provider's configuration is not known yet",
    "deferred_prereq": "it depends on something that is put off",
    "absent_prereq": "it depends on something that does not exist yet",
}


class PlanQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the address says about the plan on it. `q` are words that all have to be in an address."""

    q: str = ""
    action: Kind | Literal[""] = ""
    all: Literal["", "yes"] = ""

    def href(self, base: str, **changes: object) -> str:
        """The address below `base` with this changed; `base` may have a query of its own."""
        said = {
            name: str(value) for name, value in msgspec.to_builtins(msgspec.structs.replace(self, **changes)).items()
        }
        return f"{base}{'&' if '?' in base else '?'}{urlencode(said)}" if said else base

    @property
    def narrowed(self) -> bool:
        return bool(self.q or self.action)

    def fits(self, resource: ResourceOf) -> bool:
        text = f"{resource.address} {resource.previous_address or ''}".lower()
        return all(word in text for word in self.q.lower().split())


class Note(msgspec.Struct, frozen=True):
    """A short remark about a change: a word, and what it is about."""

    word: str
    text: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One resource instance. `lines` is None where they are fetched when somebody opens it; `key` names it in addresses."""

    key: str
    address: str
    kind: Kind
    sign: str
    word: str
    tone: Tone
    notes: tuple[Note, ...]
    lines: tuple[Line, ...] | None = None


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of one kind; `more` are those that are not shown, `href` is where they are."""

    name: str
    title: str
    total: int
    changes: tuple[Change, ...]
    more: int
    href: str
    hint: str = ""


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """A count that filters, or stops filtering when it is on."""

    word: str
    sign: str
    tone: Tone
    number: int
    href: str
    on: bool


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """`base` is the address that filters are put behind, `parts` the one below which the rest is fetched from."""

    query: PlanQuery
    base: str
    parts: str
    headline: str
    danger: str
    warnings: tuple[str, ...]
    chips: tuple[Chip, ...]
    sections: tuple[Section, ...]
    outputs: tuple[Line, ...]
    outputs_changed: int
    invocations: tuple[str, ...]
    terraform_version: str
    raw: str
    """The address of the plan's JSON, masked."""
    empty: str
    """What to say when there is nothing to show."""


def plan_view(document: PlanDocument, query: PlanQuery, *, base: str, parts: str) -> PlanView:
    """The plan, narrowed by the query. Takes a moment for a large one: call it in a thread."""
    sections = tuple(_opened(document, _sections(document, query, base)))
    outputs = () if query.narrowed else _outputs(document)
    summary = document.summary
    return PlanView(
        query=query,
        base=base,
        parts=parts,
        headline=_headline(document),
        danger=_danger(document),
        warnings=tuple(_warnings(document)),
        chips=tuple(_chips(document, query, base)),
        sections=sections,
        outputs=outputs,
        outputs_changed=summary.outputs_changed,
        invocations=tuple(each.address or each.type for each in document.invocations),
        terraform_version=summary.terraform_version,
        raw=f"/api/v1{parts}",
        empty="" if sections or outputs or document.invocations else _nothing(document, query),
    )


def one_change(document: PlanDocument, key: str) -> Change:
    """A single change with its lines, whatever it is about. Raises NotFound."""
    resource = document.resource(key)
    change = _change(document, key, resource, _kind(resource) or "update")
    return msgspec.structs.replace(change, lines=lines_of(document, key))


def lines_of(document: PlanDocument, key: str) -> tuple[Line, ...]:
    """What becomes of the resource. Raises NotFound."""
    change = document.resource(key).change
    before, after = change.sides(document.hidden(key))
    return difference(before, after, forced=change.replace_paths)


def _sections(document: PlanDocument, query: PlanQuery, base: str) -> Iterator[Section]:
    found: dict[Kind, list[Change]] = {kind: [] for kind in KINDS}
    for key, resource in document.changes.items():
        kinds = _kinds(resource)
        if kinds and query.fits(resource) and (not query.action or query.action in kinds):
            found[kinds[0]].append(_change(document, key, resource, kinds[0]))
    for kind, changes in found.items():
        if changes:
            yield _section(kind, KINDS[kind].title, changes, query, base)
    if not query.action:
        put_off = _plain(document, document.deferred, query)
        if put_off:
            hint = "They need another plan after this one was applied."
            yield _section("deferred", "Put off", put_off, query, base, hint=hint)
        drift = _plain(document, document.drift, query)
        if drift:
            hint = "Terraform noticed these while it refreshed the state. An apply acts on them only as shown above."
            yield _section("drift", "Changed outside of Terraform", drift, query, base, hint=hint)


def _section(name: str, title: str, changes: list[Change], query: PlanQuery, base: str, *, hint: str = "") -> Section:
    shown = changes if query.all else changes[:SHOWN]
    return Section(
        name=name,
        title=title,
        total=len(changes),
        changes=tuple(shown),
        more=len(changes) - len(shown),
        href=query.href(base, all="yes"),
        hint=hint,
    )


def _plain(document: PlanDocument, resources: Mapping[str, ResourceOf], query: PlanQuery) -> list[Change]:
    fitting = [(key, resource) for key, resource in resources.items() if query.fits(resource)]
    return [_change(document, key, resource, _kind(resource) or "update") for key, resource in fitting]


def _opened(document: PlanDocument, sections: Iterable[Section]) -> Iterator[Section]:
    """The sections with the lines of their first changes, as many as a page may have."""
    left = OPEN_LINES
    for section in sections:
        changes = list(section.changes)
        for at, change in enumerate(changes):
            if left <= 0:
                break
            lines = lines_of(document, change.key)
            left -= max(1, len(lines))
            if left >= 0:
                changes[at] = msgspec.structs.replace(change, lines=lines)
        yield msgspec.structs.replace(section, changes=tuple(changes))


def _kind(resource: ResourceOf) -> Kind | None:
    return next(iter(_kinds(resource)), None)


def _kinds(resource: ResourceOf) -> tuple[Kind, ...]:
    """Under which filters it is found; its section is that of the first one. Nothing for what stays as it is."""
    action = resource.change.action
    beside: list[Kind] = []
    if resource.change.importing is not None:
        beside.append("import")
    if resource.previous_address is not None:
        beside.append("move")
    if action == "no-op" or action == "import":  # noqa: PLR1714 - mypy understands it so
        return tuple(beside)
    return (action, *beside)


def _change(document: PlanDocument, key: str, resource: ResourceOf, kind: Kind) -> Change:
    named = KINDS[kind]
    return Change(
        key=key,
        address=printable(resource.address),
        kind=kind,
        sign=named.sign,
        word=named.word,
        tone=named.tone,
        notes=tuple(_notes(resource, document.reasons.get(key))),
    )


def _notes(resource: ResourceOf, put_off: str | None) -> Iterator[Note]:
    if resource.previous_address is not None:
        yield Note("moved", f"from {printable(resource.previous_address)}")
    importing = resource.change.importing
    if importing is not None:
        yield Note("imported", printable(importing.id) if importing.id else "by its identity")
    if resource.deposed is not None:
        yield Note("deposed object", printable(resource.deposed))
    if resource.change.actions == ("create", "delete"):
        yield Note("created before destroyed")
    reason = put_off or resource.action_reason
    if reason is not None:
        yield Note("because", REASONS.get(reason, reason.replace("_", " ")))


def _outputs(document: PlanDocument) -> tuple[Line, ...]:
    before: dict[str, Value] = {}
    after: dict[str, Value] = {}
    for name, change in document.outputs.items():
        if change.action == "no-op":
            continue
        old, new = change.sides(document.hidden(f"o:{name}"))
        before[name] = Mark.ABSENT if change.action == "create" else old
        after[name] = Mark.ABSENT if change.action == "delete" else new
    return difference(before, after)


def _headline(document: PlanDocument) -> str:
    """As Terraform counts: a replacement is one to add and one to destroy."""
    told = document.summary
    if not told.acts:
        return "No changes"
    counts = [
        (told.import_, "to import"),
        (told.add, "to add"),
        (told.change, "to change"),
        (told.destroy, "to destroy"),
        (told.move, "to move"),
        (told.forget, "to forget"),
        (told.invoke, "to invoke"),
    ]
    always = ("to add", "to change", "to destroy")
    return ", ".join(f"{number:,} {word}" for number, word in counts if number or word in always)


def _danger(document: PlanDocument) -> str:
    told = document.summary
    if not told.destroy:
        return ""
    if told.replace == told.destroy:
        return f"{many(told.replace, 'resource')} would be destroyed and created anew."
    anew = f", {told.replace:,} of them to be created anew" if told.replace else ""
    return f"{many(told.destroy, 'resource')} would be destroyed{anew}."


def _warnings(document: PlanDocument) -> Iterator[str]:
    told = document.summary
    if told.errored:
        yield "Terraform met an error while it planned, so this plan is not whole and cannot be applied."
    elif not told.complete:
        yield "This plan is a part of what is configured: when it is applied, another one is needed for the rest."


def _chips(document: PlanDocument, query: PlanQuery, base: str) -> Iterator[Chip]:
    kinds = [kind for resource in document.changes.values() for kind in _kinds(resource)]
    for kind, named in KINDS.items():
        number, on = kinds.count(kind), query.action == kind
        if number or on:
            href = query.href(base, action="" if on else kind)
            yield Chip(word=named.word, sign=named.sign, tone=named.tone, number=number, href=href, on=on)


def _nothing(document: PlanDocument, query: PlanQuery) -> str:
    if query.narrowed:
        return "No change of this plan fits the filter."
    return "Nothing to do: what is configured is what exists."
