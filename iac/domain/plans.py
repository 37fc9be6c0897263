"""What a plan would do, read from the JSON of `terraform show -json <plan file>`; never from text made for people.

Whatever cannot be read is an error: a plan that nobody understood must not pass for one without changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Literal, TypeAlias

import msgspec

from iac.domain.plan_masking import masked, reading_a_plan
from iac.errors import Invalid

Action: TypeAlias = Literal["create", "update", "delete", "replace", "read", "no-op", "forget", "import"]

_NULL: Final = msgspec.Raw(b"null")
_REPLACEMENTS: Final = ({"delete", "create"}, {"forget", "create"})
_SINGLE: Final[dict[str, Action]] = {
    "create": "create",
    "read": "read",
    "update": "update",
    "delete": "delete",
    "no-op": "no-op",
    "forget": "forget",
}


class PlanSummary(msgspec.Struct, frozen=True):
    """Counted as Terraform counts for its own summary line: a replacement is one to add and one to destroy.

    `replace` counts those again, by themselves. `move` and `import` count beside the other actions: a resource may be
    moved and updated. `drift` are objects that changed outside of Terraform; they alone change nothing unless the plan
    is refresh-only. `deferred` are changes that need another plan after this one. `applyable` is Terraform's own word,
    None where an older version does not say it.
    """

    add: int
    change: int
    destroy: int
    replace: int
    import_: int = msgspec.field(name="import")
    move: int
    forget: int
    read: int
    invoke: int
    deferred: int
    outputs_changed: int
    drift: int
    format_version: str
    terraform_version: str
    complete: bool
    errored: bool
    applyable: bool | None

    @property
    def acts(self) -> bool:
        """Whether an apply would do anything, be it only to the state file."""
        resources = self.add + self.change + self.destroy + self.import_ + self.move + self.forget
        return bool(resources + self.read + self.invoke + self.outputs_changed)


class ResourceChange(msgspec.Struct, frozen=True):
    """What would happen to one resource instance; `before` and `after` are JSON with the sensitive values masked.

    A move shows as `previous_address`, an import as `importing_id` ("" if it is by identity), both beside the action;
    the action is "import" only if nothing else happens. `reason` is Terraform's action_reason, of a deferred change
    the reason for putting it off.
    """

    address: str
    module: str
    mode: str
    type: str
    name: str
    provider: str
    action: Action
    previous_address: str | None
    importing_id: str | None
    deposed: str | None
    reason: str | None
    before: msgspec.Raw
    after: msgspec.Raw
    after_unknown: msgspec.Raw
    deferred: bool


class _Importing(msgspec.Struct, frozen=True):
    id: str = ""


class _Actions(msgspec.Struct, frozen=True):
    """As much of a change as counting needs: the values are skipped unread."""

    actions: tuple[str, ...]
    importing: _Importing | None = None


class _Counted(msgspec.Struct, frozen=True):
    change: _Actions
    address: str = ""
    mode: str = "managed"
    previous_address: str | None = None

    @property
    def is_hidden(self) -> bool:
        """A data source that leaves the state is bookkeeping, which Terraform does not show either."""
        return self.mode == "data" and self.change.actions == ("delete",)


class _CountedPlan(msgspec.Struct, frozen=True):
    format_version: str
    planned_values: msgspec.Raw  # required: it tells a plan from the JSON of a state, which has no changes either
    terraform_version: str = ""
    resource_changes: tuple[_Counted, ...] = ()
    resource_drift: tuple[_Counted, ...] = ()
    deferred_changes: tuple[msgspec.Raw, ...] = ()
    output_changes: dict[str, _Actions] = {}
    action_invocations: tuple[msgspec.Raw, ...] = ()
    applyable: bool | None = None
    complete: bool = True
    errored: bool = False


class _Change(_Actions, frozen=True):
    before: msgspec.Raw = _NULL
    after: msgspec.Raw = _NULL
    after_unknown: msgspec.Raw = _NULL


class _Resource(msgspec.Struct, frozen=True):
    address: str
    change: _Change
    mode: str = "managed"
    type: str = ""
    name: str = ""
    module_address: str = ""
    provider_name: str = ""
    previous_address: str | None = None
    deposed: str | None = None
    action_reason: str | None = None


class _Deferred(msgspec.Struct, frozen=True):
    resource_change: _Resource
    reason: str = "unknown"


class _ChangedPlan(msgspec.Struct, frozen=True):
    resource_changes: tuple[_Resource, ...] = ()
    resource_drift: tuple[_Resource, ...] = ()
    deferred_changes: tuple[_Deferred, ...] = ()


_COUNTED = msgspec.json.Decoder(_CountedPlan)
_CHANGED = msgspec.json.Decoder(_ChangedPlan)


def summarise(plan_json: bytes) -> PlanSummary:
    """The plan in numbers. Raises Invalid ("plan_invalid") if this is not the JSON of a plan in format 1.x."""
    plan = _counted(plan_json)
    shown = [resource for resource in plan.resource_changes if not resource.is_hidden]
    kinds = [action_of(resource.change.actions) for resource in shown]
    replaced = kinds.count("replace")
    let_go = sum("forget" in resource.change.actions for resource in shown)
    return PlanSummary(
        add=kinds.count("create") + replaced,
        change=kinds.count("update"),
        destroy=sum("delete" in resource.change.actions for resource in shown),
        replace=replaced,
        import_=sum(resource.change.importing is not None for resource in shown),
        move=sum(resource.previous_address is not None for resource in shown),
        forget=let_go,
        read=kinds.count("read"),
        invoke=len(plan.action_invocations),
        deferred=len(plan.deferred_changes),
        outputs_changed=_acting(plan.output_changes.values()),
        drift=_acting(resource.change for resource in plan.resource_drift),
        format_version=plan.format_version,
        terraform_version=plan.terraform_version,
        complete=plan.complete,
        errored=plan.errored,
        applyable=plan.applyable,
    )


def has_changes(summary: PlanSummary, exit_code: int) -> bool:
    """Whether there is something to apply, from the exit code of `plan -detailed-exitcode` (0 none, 2 changes) and JSON.

    Where the two disagree the answer is yes: a needless confirmation costs a click, a change that is taken for none is
    never made. Drift and deferred changes alone are no: an apply of that very plan would do nothing about them (a
    refresh-only plan that has drift to write down says so by exit code 2). Raises Invalid ("plan_failed") for any other
    exit code and for a plan that ended in an error, for then there is no plan to have changes.
    """
    if exit_code not in (0, 2) or summary.errored:
        raise Invalid(
            f"The plan failed (exit code {exit_code}), so nothing can be said about its changes: see the log.",
            code="plan_failed",
        )
    return exit_code == 2 or bool(summary.applyable) or summary.acts


def touched(plan_json: bytes) -> list[tuple[str, str]]:
    """Address and action of every resource instance that an apply of this plan would do something to.

    Values are not looked at, so there is nothing to mask. Raises Invalid as `summarise` does.
    """
    shown = [resource for resource in _counted(plan_json).resource_changes if not resource.is_hidden]
    kinds = [(resource.address, action_of(resource.change.actions)) for resource in shown]
    return [(address, kind) for address, kind in kinds if kind not in ("no-op", "read")]


def changes(plan_json: bytes, *, sensitive_variables: Collection[str] = ()) -> list[ResourceChange]:
    """Every resource instance of the plan in Terraform's order, also those with nothing to do; deferred ones last.

    Raises Invalid as `summarise` does.
    """
    plan = _changed(plan_json, sensitive_variables)
    planned = [_resource_change(resource) for resource in plan.resource_changes]
    return planned + [_resource_change(put_off.resource_change, put_off.reason) for put_off in plan.deferred_changes]


def drift(plan_json: bytes, *, sensitive_variables: Collection[str] = ()) -> list[ResourceChange]:
    """What changed outside of Terraform since the last apply. Raises Invalid as `summarise` does."""
    return [_resource_change(resource) for resource in _changed(plan_json, sensitive_variables).resource_drift]


def _counted(plan_json: bytes) -> _CountedPlan:
    plan = reading_a_plan(lambda: _COUNTED.decode(plan_json))
    if plan.format_version.partition(".")[0] not in ("0", "1"):
        raise Invalid(
            f"The plan JSON has format {plan.format_version}; 1.x is understood. Use a version of IAC that knows it.",
            code="plan_invalid",
            path="$.format_version",
        )
    return plan


def _changed(plan_json: bytes, sensitive_variables: Collection[str]) -> _ChangedPlan:
    _counted(plan_json)
    safe = masked(plan_json, sensitive_variables=sensitive_variables)
    return reading_a_plan(lambda: _CHANGED.decode(safe))


def _resource_change(resource: _Resource, put_off: str | None = None) -> ResourceChange:
    action = action_of(resource.change.actions)
    importing = resource.change.importing
    return ResourceChange(
        address=resource.address,
        module=resource.module_address,
        mode=resource.mode,
        type=resource.type,
        name=resource.name,
        provider=resource.provider_name,
        action="import" if importing is not None and action == "no-op" else action,
        previous_address=resource.previous_address,
        importing_id=importing.id if importing is not None else None,
        deposed=resource.deposed,
        reason=put_off or resource.action_reason,
        before=resource.change.before,
        after=resource.change.after,
        after_unknown=resource.change.after_unknown,
        deferred=put_off is not None,
    )


def action_of(actions: tuple[str, ...]) -> Action:
    """One word for the `actions` of a change. Raises Invalid ("plan_invalid") for what this version does not know."""
    if len(actions) == 1 and actions[0] in _SINGLE:
        return _SINGLE[actions[0]]
    if len(actions) == 2 and set(actions) in _REPLACEMENTS:
        return "replace"
    raise Invalid(
        f"The plan has the action {list(actions)}, which this version of IAC does not know: it cannot be counted.",
        code="plan_invalid",
    )


def _acting(changes: Iterable[_Actions]) -> int:
    return sum(change.actions != ("no-op",) for change in changes)
