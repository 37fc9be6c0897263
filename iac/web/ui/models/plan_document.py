"""A plan's JSON, read once for its page: changes with their values still undecoded, since most are never opened.

All of it is masked. What masking takes away, namely which secrets change, is found out before and kept as paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import msgspec

from iac.domain.plan_masking import SENSITIVE, reading_a_plan
from iac.domain.plans import Action, PlanSummary, action_of, summarise
from iac.errors import NotFound
from iac.web.ui.models.values import Path, Value, decoded, hidden_changes, with_secrets, with_unknown

_NULL: Final = msgspec.Raw(b"null")
_SECRET: Final = SENSITIVE.encode()


class Importing(msgspec.Struct, frozen=True):
    id: str = ""


class ChangeOf(msgspec.Struct, frozen=True):
    """What becomes of one value."""

    actions: tuple[str, ...]
    before: msgspec.Raw = _NULL
    after: msgspec.Raw = _NULL
    after_unknown: msgspec.Raw = _NULL
    replace_paths: tuple[tuple[str | int, ...], ...] = ()
    importing: Importing | None = None

    @property
    def action(self) -> Action:
        return action_of(self.actions)

    @property
    def hides_both(self) -> bool:
        """Whether a secret stands on both sides, so that the masked values do not tell if it changes."""
        return _SECRET in bytes(self.before) and _SECRET in bytes(self.after)

    def sides(self, hidden: frozenset[Path]) -> tuple[Value, Value]:
        """Before and after, with marks for what is secret or not known yet."""
        after = with_secrets(decoded(bytes(self.after)), hidden)
        return with_secrets(decoded(bytes(self.before))), with_unknown(after, decoded(bytes(self.after_unknown)))

    def plain_sides(self) -> tuple[Value, Value]:
        return decoded(bytes(self.before)), decoded(bytes(self.after))


class ResourceOf(msgspec.Struct, frozen=True):
    address: str
    change: ChangeOf
    mode: str = "managed"
    type: str = ""
    module_address: str = ""
    previous_address: str | None = None
    deposed: str | None = None
    action_reason: str | None = None

    @property
    def is_bookkeeping(self) -> bool:
        """A data source that leaves the state, which Terraform does not show either."""
        return self.mode == "data" and self.change.actions == ("delete",)


class _Deferred(msgspec.Struct, frozen=True):
    resource_change: ResourceOf
    reason: str = "unknown"


class Invocation(msgspec.Struct, frozen=True):
    """An action (Terraform 1.14) that the apply would run."""

    address: str = ""
    type: str = ""


class _Document(msgspec.Struct, frozen=True):
    resource_changes: tuple[ResourceOf, ...] = ()
    resource_drift: tuple[ResourceOf, ...] = ()
    deferred_changes: tuple[_Deferred, ...] = ()
    output_changes: dict[str, ChangeOf] = {}
    action_invocations: tuple[Invocation, ...] = ()

    def keyed(self) -> dict[str, ResourceOf]:
        """Every resource's change by a short name that stays the same for this plan."""
        found = {f"r{at}": each for at, each in enumerate(self.resource_changes)}
        found |= {f"x{at}": each for at, each in enumerate(self.resource_drift)}
        return found | {f"d{at}": each.resource_change for at, each in enumerate(self.deferred_changes)}


_DOCUMENT: Final = msgspec.json.Decoder(_Document)


class PlanDocument:
    """One plan. `changes`, `drift` and `deferred` are by key; of what is put off, `reasons` says why."""

    def __init__(self, document: _Document, summary: PlanSummary, hidden: Mapping[str, frozenset[Path]]) -> None:
        self._all = document.keyed()
        self._hidden = hidden
        self.summary = summary
        self.outputs: Mapping[str, ChangeOf] = document.output_changes
        self.invocations = document.action_invocations
        self.reasons = {f"d{at}": each.reason for at, each in enumerate(document.deferred_changes)}

    @cached_property
    def changes(self) -> Mapping[str, ResourceOf]:
        return {key: each for key, each in self._all.items() if key[0] == "r" and not each.is_bookkeeping}

    @cached_property
    def drift(self) -> Mapping[str, ResourceOf]:
        return {key: each for key, each in self._all.items() if key[0] == "x"}

    @cached_property
    def deferred(self) -> Mapping[str, ResourceOf]:
        return {key: each for key, each in self._all.items() if key[0] == "d"}

    def resource(self, key: str) -> ResourceOf:
        """Raises NotFound."""
        found = self._all.get(key)
        if found is None:
            raise NotFound("This plan has no such change; it may have been made anew. Load the page again.")
        return found

    def hidden(self, key: str) -> frozenset[Path]:
        """Where secrets of that change differ; an output's key is `o:` and its name."""
        return self._hidden.get(key, frozenset())


def read_plan(plan_json: bytes, masked: bytes) -> PlanDocument:
    """The plan from its JSON as it is stored and the same masked. Takes a while for a large one: call it in a thread.

    Raises Invalid ("plan_invalid") when it is no plan.
    """
    shown = reading_a_plan(lambda: _DOCUMENT.decode(masked))
    secretive = _changes_of(shown)
    hidden: dict[str, frozenset[Path]] = {}
    if any(change.hides_both for change in secretive.values()):
        told = _changes_of(reading_a_plan(lambda: _DOCUMENT.decode(plan_json)))
        for key, change in secretive.items():
            if change.hides_both and key in told:
                hidden[key] = hidden_changes(change.plain_sides(), told[key].plain_sides())
    return PlanDocument(shown, summarise(masked), hidden)


def _changes_of(document: _Document) -> dict[str, ChangeOf]:
    outputs: dict[str, Any] = {f"o:{name}": change for name, change in document.output_changes.items()}
    return {key: each.change for key, each in document.keyed().items()} | outputs
