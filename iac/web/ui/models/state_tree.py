"""A state as a tree to look through: modules, their resources, instances, attributes; and its outputs.

Searched by words in addresses and in attributes, of which only what may be shown is searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal
from urllib.parse import urlencode

import msgspec

from iac.web.ui.models.differences import Line, kind_of, value_lines
from iac.web.ui.models.state_document import Secrets, StateDocument, StateInstance
from iac.web.ui.models.values import Mark, Value, printable, shown, shown_name, with_secrets

SHOWN = 200
"""Objects of a tree, before one asks for all."""
MOST_FOUND = 1000
"""Objects at which a search stops looking."""
OPEN_LINES = 200
HITS = 3
"""Attributes that are shown for being what was searched for."""
_RUN = re.compile(r"[a-z0-9_.:/@+-]+")
"""What stands in a state's JSON as it is shown."""


class TreeQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the address says. `q` are words: an object is found when each is in its address or in one of its attributes."""

    q: str = ""
    all: Literal["", "yes"] = ""

    def href(self, base: str, **changes: object) -> str:
        said = {
            name: str(value) for name, value in msgspec.to_builtins(msgspec.structs.replace(self, **changes)).items()
        }
        return f"{base}?{urlencode(said)}" if said else base


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """One object. `label` is its index within the resource, or the whole address; `lines` None where they are fetched."""

    key: str
    address: str
    label: str
    notes: tuple[str, ...]
    hits: tuple[Line, ...]
    lines: tuple[Line, ...] | None = None


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A resource block with its objects."""

    address: str
    name: str
    data: bool
    provider: str
    single: bool
    """Whether it is one object without an index: then it needs no level of its own."""
    leaves: tuple[Leaf, ...]


class Module(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    total: int
    branches: tuple[Branch, ...]


class StateTree(msgspec.Struct, frozen=True, kw_only=True):
    query: TreeQuery
    base: str
    parts: str
    objects: int
    found: int
    found_more: bool
    """Whether the search stopped there."""
    more: int
    modules: tuple[Module, ...]
    outputs: tuple[Line, ...]
    outputs_total: int


def state_tree(document: StateDocument, secrets: Secrets, query: TreeQuery, *, base: str, parts: str) -> StateTree:
    """Takes a moment for a large state: call it in a thread."""
    words = query.q.lower().split()
    found = list(islice(_found(document, secrets, words), MOST_FOUND if words and not query.all else None))
    chosen = found if query.all else found[:SHOWN]
    outputs = document.outputs(secrets)
    fitting = {name: value for name, value in outputs.items() if all(word in name.lower() for word in words)}
    return StateTree(
        query=query,
        base=base,
        parts=parts,
        objects=len(document.instances),
        found=len(found),
        found_more=bool(words) and not query.all and len(found) == MOST_FOUND,
        more=len(found) - len(chosen),
        modules=tuple(_modules(_opened(document, secrets, chosen))),
        outputs=value_lines(with_secrets(dict(fitting))),
        outputs_total=len(outputs),
    )


def one_object(document: StateDocument, secrets: Secrets, key: str) -> Leaf:
    """An object with its attributes. Raises NotFound."""
    instance = document.instance(key)
    return msgspec.structs.replace(_leaf(instance, ()), lines=attribute_lines(document, secrets, instance))


def attribute_lines(document: StateDocument, secrets: Secrets, instance: StateInstance) -> tuple[Line, ...]:
    return value_lines(with_secrets(document.attributes(instance, secrets)))


_Pair = tuple[StateInstance, Leaf]


def _found(document: StateDocument, secrets: Secrets, words: list[str]) -> Iterator[_Pair]:
    runs = [max(found, key=len) for word in words if "\\" not in word and (found := _RUN.findall(word))]
    for instance in document.instances:
        address = printable(instance.address).lower()
        missing = [word for word in words if word not in address]
        if not missing:
            yield instance, _leaf(instance, ())
            continue
        # A cheap look at what is not masked comes first; what may be shown has the say.
        raw = bytes(instance.attributes).lower()
        if all(run in address or run.encode() in raw for run in runs):
            hits = _hits(with_secrets(document.attributes(instance, secrets)), missing)
            if all(any(word in said for said in hits) for word in missing):
                yield instance, _leaf(instance, tuple(dict.fromkeys(hits.values()))[:HITS])


def _hits(value: Value, words: list[str]) -> dict[str, Line]:
    """The simple values that have one of the words in their name or themselves, by what they say."""
    found: dict[str, Line] = {}
    for name, leaf in _leaves(value, ""):
        text = printable(leaf) if isinstance(leaf, str) else shown(leaf)
        said = f'{name} = "{text}"'.lower()
        if any(word in said for word in words):
            named = shown_name(name) if name else ""
            found[said] = Line(sign="", depth=0, kind=kind_of(leaf), name=named, text=shown(leaf))
    return found


def _leaves(value: Value, name: str) -> Iterator[tuple[str, Value]]:
    """Simple values with the name of the attribute that they are, or are in. Marks are none."""
    if isinstance(value, dict):
        for inner_name, inner in value.items():
            yield from _leaves(inner, inner_name)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    elif value is not None and not isinstance(value, Mark):
        yield name, value


def _opened(document: StateDocument, secrets: Secrets, found: Iterable[_Pair]) -> Iterator[_Pair]:
    """The first ones with their attributes, as many as a page may have."""
    left = OPEN_LINES
    for instance, leaf in found:
        if left > 0:
            lines = attribute_lines(document, secrets, instance)
            left -= max(1, len(lines))
            if left >= 0:
                yield instance, msgspec.structs.replace(leaf, lines=lines)
                continue
        yield instance, leaf


def _modules(found: Iterable[_Pair]) -> Iterator[Module]:
    by_module: dict[str, dict[str, list[_Pair]]] = {}
    for instance, leaf in found:
        by_module.setdefault(instance.module, {}).setdefault(instance.resource, []).append((instance, leaf))
    for name in sorted(by_module):
        branches = tuple(_branch(address, pairs) for address, pairs in by_module[name].items())
        total = sum(len(branch.leaves) for branch in branches)
        yield Module(name=printable(name), total=total, branches=branches)


def _branch(address: str, pairs: list[_Pair]) -> Branch:
    first = pairs[0][0]
    single = len(pairs) == 1 and first.address == address
    leaves = []
    for _, leaf in pairs:
        label = leaf.address if single else leaf.address.removeprefix(printable(address)) or "(no index)"
        leaves.append(msgspec.structs.replace(leaf, label=label))
    return Branch(
        address=printable(address),
        name=printable(address.removeprefix(f"{first.module}.")),
        data=first.mode == "data",
        provider=first.provider,
        single=single,
        leaves=tuple(leaves),
    )


def _leaf(instance: StateInstance, hits: tuple[Line, ...]) -> Leaf:
    notes = []
    if instance.mode == "data":
        notes.append("data source")
    if instance.tainted:
        notes.append("tainted")
    if instance.deposed:
        notes.append(f"deposed {printable(instance.deposed)}")
    address = printable(instance.address)
    return Leaf(key=instance.key, address=address, label=address, notes=tuple(notes), hits=hits)
