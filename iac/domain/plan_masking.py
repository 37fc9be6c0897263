"""A plan's JSON with every sensitive value replaced by "(sensitive value)", and everything else byte for byte.

Terraform prints sensitive values in its plan JSON in the clear and says beside them which they are. Three traps decide
the shape of this module:

- A mark may stand on one side only: a variable that has just been declared sensitive marks `after`, while `before` and
  `prior_state` still show the same value unmarked. So a place that is marked anywhere is hidden everywhere.
- Marks do not travel through providers: `terraform_data.output` repeats a sensitive `input` unmarked, and Terraform
  itself prints it. So a text that equals a marked one is hidden too, wherever a value stands.
- Numbers must not go through a float. So values are never decoded: only the branches that hold a mark are opened.

A section that is not known here is left out, because nobody has said where its secrets are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from itertools import zip_longest
from typing import Any, TypeAlias, TypeVar

import msgspec

from iac.errors import Invalid

SENSITIVE = "(sensitive value)"

Marks: TypeAlias = "bool | dict[str, Marks] | list[Marks]"
Fields: TypeAlias = dict[str, Any]  # of a JSON object: each value is msgspec.Raw, or what replaces it
T = TypeVar("T")

_HIDDEN = msgspec.Raw(msgspec.json.encode(SENSITIVE))
_NULL = msgspec.Raw(b"null")
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_KEY_OR_VALUE = re.compile(rb"(%s)(\s*:)?" % _TEXT.pattern, re.DOTALL)  # the colon tells a key
_TELLING = 6  # bytes; a shorter secret ("yes", "admin") is not told from an ordinary word by its text
_KEPT = frozenset(
    {"format_version", "terraform_version", "timestamp", "applyable", "complete", "errored", "relevant_attributes"}
)


def masked(plan_json: bytes, *, sensitive_variables: Collection[str] = ()) -> bytes:
    """The plan without its secrets; `sensitive_variables` are root variables to hide beside the declared ones.

    Raises Invalid ("plan_invalid") when `plan_json` is not a plan as `terraform show -json` prints it.
    """
    return reading_a_plan(lambda: _masked(plan_json, frozenset(sensitive_variables)))


def reading_a_plan(read: Callable[[], T]) -> T:
    """What `read` returns; any way in which the JSON does not fit becomes Invalid ("plan_invalid")."""
    try:
        return read()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(
            f"This is not plan JSON as `terraform show -json <plan file>` prints it: {error}", code="plan_invalid"
        ) from error


def _masked(plan_json: bytes, sensitive_variables: frozenset[str]) -> bytes:
    plan = _FIELDS.decode(plan_json)
    masking = _Masking(sensitive_variables)
    # The first round learns the marks, the second with them the texts, the third knows all: a place may be marked, or a
    # text betrayed, in a section that comes after the one that repeats it.
    for _ in range(2):
        masking.plan(plan)
    return msgspec.json.encode(masking.plan(plan))


class _Masking:
    """One plan's masking: what is known to be sensitive so far, and the plan's sections rewritten with it."""

    def __init__(self, sensitive_variables: frozenset[str]) -> None:
        self._variables = set(sensitive_variables)
        self._outputs: set[str] = set()
        self._resources: dict[str, Marks] = {}
        self._texts: set[bytes] = set()

    def plan(self, plan: Fields) -> Fields:
        sections: dict[str, Callable[[Any], object]] = {
            "configuration": self._configuration,
            "variables": lambda raw: _each_field(raw, self._variable),
            "planned_values": self._values,
            "prior_state": lambda raw: _with(_fields(raw), "values", self._values),
            "resource_changes": lambda raw: _each_item(raw, self._resource_change),
            "resource_drift": lambda raw: _each_item(raw, self._resource_change),
            "deferred_changes": lambda raw: _each_item(raw, self._deferred_change),
            "output_changes": lambda raw: _each_field(raw, self._output_change),
            "action_invocations": lambda raw: _each_item(raw, self._action),
            "deferred_action_invocations": lambda raw: _each_item(raw, self._deferred_action),
            "checks": self._without_copies,
        }
        return {
            name: section if name in _KEPT else sections[name](section)
            for name, section in plan.items()
            if name in _KEPT or name in sections
        }

    def _hide(self, value: msgspec.Raw, marks: Marks) -> object:
        """`value` without what is marked in it; null stays, for it says that there is nothing to hide."""
        if marks is False or value == _NULL:
            return self._without_copies(value)
        if isinstance(marks, dict) and _opens(value, b"{"):
            return {name: self._hide(item, marks.get(name, False)) for name, item in _FIELDS.decode(value).items()}
        if isinstance(marks, list) and _opens(value, b"["):
            items = _ITEMS.decode(value)
            return [self._hide(item, marks[at] if at < len(marks) else False) for at, item in enumerate(items)]
        self._texts.update(
            text for text, colon in _KEY_OR_VALUE.findall(value) if not colon and len(text) >= _TELLING + 2
        )
        return _HIDDEN  # marked as a whole, or marked in a way that does not fit it

    def _without_copies(self, value: msgspec.Raw) -> msgspec.Raw:
        # One pass over the tokens, however many secrets there are: a search per secret would be quadratic.
        if self._texts.isdisjoint(_TEXT.findall(value) if self._texts else ()):
            return value
        return msgspec.Raw(_KEY_OR_VALUE.sub(self._unless_secret, value))

    def _unless_secret(self, text: re.Match[bytes]) -> bytes:
        return bytes(_HIDDEN) if text[1] in self._texts and not text[2] else text[0]

    def _resource_change(self, raw: msgspec.Raw) -> Fields:
        resource = _fields(raw)
        change = _fields(resource.get("change", _NULL))
        names = [_text(resource[name]) for name in ("address", "previous_address") if name in resource]
        marks = self._marks_of(names, _union(_marks(change, "before_sensitive"), _marks(change, "after_sensitive")))
        return resource | {"change": self._change(change, marks)}

    def _output_change(self, name: str, raw: msgspec.Raw) -> Fields:
        change = _fields(raw)
        marks = _union(_marks(change, "before_sensitive"), _marks(change, "after_sensitive"))
        if marks is True:
            self._outputs.add(name)
        return self._change(change, name in self._outputs or marks)

    def _change(self, change: Fields, marks: Marks) -> Fields:
        for side in ("before", "after"):
            change = _with(change, side, lambda value: self._hide(value, marks))
        # The keys of a sensitive map are as secret as its values.
        return _with(change, "after_unknown", lambda unknown: _without_keys(msgspec.json.decode(unknown), marks))

    def _deferred_change(self, raw: msgspec.Raw) -> Fields:
        return _with(_fields(raw), "resource_change", self._resource_change)

    def _action(self, raw: msgspec.Raw) -> Fields:
        action = _fields(raw)
        marks = _marks(action, "config_sensitive")
        action = _with(action, "config_values", lambda values: self._hide(values, marks))
        return _with(action, "config_unknown", lambda unknown: _without_keys(msgspec.json.decode(unknown), marks))

    def _deferred_action(self, raw: msgspec.Raw) -> Fields:
        return _with(_fields(raw), "action_invocation", self._action)

    def _variable(self, name: str, raw: msgspec.Raw) -> Fields:
        return _with(_fields(raw), "value", lambda value: self._hide(value, name in self._variables))

    def _values(self, raw: msgspec.Raw) -> Fields:
        values = _with(_fields(raw), "outputs", lambda outputs: _each_field(outputs, self._output))
        return _with(values, "root_module", self._module_values)

    def _output(self, name: str, raw: msgspec.Raw) -> Fields:
        output = _fields(raw)
        if _is_true(output, "sensitive"):
            self._outputs.add(name)
        return _with(output, "value", lambda value: self._hide(value, name in self._outputs))

    def _module_values(self, raw: msgspec.Raw) -> Fields:
        module = _with(_fields(raw), "resources", lambda resources: _each_item(resources, self._resource_values))
        return _with(module, "child_modules", lambda modules: _each_item(modules, self._module_values))

    def _resource_values(self, raw: msgspec.Raw) -> Fields:
        resource = _fields(raw)
        names = [_text(resource["address"])] if "address" in resource else []
        marks = self._marks_of(names, _marks(resource, "sensitive_values"))
        return _with(resource, "values", lambda values: self._hide(values, marks))

    def _marks_of(self, addresses: list[str], marks: Marks) -> Marks:
        """`marks` and all that was ever marked in the resource, under its old name or its new one."""
        for address in addresses:
            marks = _union(marks, self._resources.get(address, False))
        self._resources.update(dict.fromkeys(addresses, marks))
        return marks

    def _configuration(self, raw: msgspec.Raw) -> object:
        def root(raw: msgspec.Raw) -> Fields:
            declared = _sensitive_names(_fields(raw).get("variables", _NULL))
            self._variables |= declared
            return self._module_configuration(raw, self._variables)

        configuration = _with(_fields(raw), "root_module", root)
        return self._without_copies(msgspec.Raw(msgspec.json.encode(configuration)))

    def _module_configuration(self, raw: msgspec.Raw, hidden: Collection[str]) -> Fields:
        def variable(name: str, raw: msgspec.Raw) -> Fields:
            return _with(_fields(raw), "default", lambda value: self._hide(value, name in hidden))

        module = _with(_fields(raw), "variables", lambda variables: _each_field(variables, variable))
        module = _with(module, "outputs", lambda outputs: _each_field(outputs, self._output_configuration))
        return _with(module, "module_calls", lambda calls: _each_field(calls, self._module_call))

    def _output_configuration(self, _name: str, raw: msgspec.Raw) -> Fields:
        output = _fields(raw)
        return _with(output, "expression", self._constant) if _is_true(output, "sensitive") else output

    def _module_call(self, _name: str, raw: msgspec.Raw) -> Fields:
        call = _fields(raw)
        hidden = _sensitive_names(_fields(call.get("module", _NULL)).get("variables", _NULL))

        def argument(name: str, raw: msgspec.Raw) -> object:
            return self._constant(raw) if name in hidden else raw

        call = _with(call, "expressions", lambda expressions: _each_field(expressions, argument))
        return _with(call, "module", lambda module: self._module_configuration(module, hidden))

    def _constant(self, raw: msgspec.Raw) -> Fields:
        return _with(_fields(raw), "constant_value", lambda value: self._hide(value, True))


def _fields(raw: msgspec.Raw) -> Fields:
    return {} if raw == _NULL else dict(_FIELDS.decode(raw))


def _with(fields: Fields, name: str, rewrite: Callable[[Any], object]) -> Fields:
    """`fields` with the one called `name` rewritten, if it is there and not null."""
    if fields.get(name, _NULL) == _NULL:
        return fields
    return fields | {name: rewrite(fields[name])}


def _each_field(raw: msgspec.Raw, rewrite: Callable[[str, msgspec.Raw], object]) -> Fields:
    return {name: rewrite(name, value) for name, value in _fields(raw).items()}


def _each_item(raw: msgspec.Raw, rewrite: Callable[[msgspec.Raw], object]) -> list[object]:
    return [] if raw == _NULL else [rewrite(item) for item in _ITEMS.decode(raw)]


def _opens(value: msgspec.Raw, bracket: bytes) -> bool:
    return bytes(memoryview(value)[:1]) == bracket


def _text(raw: msgspec.Raw) -> str:
    return msgspec.json.decode(raw, type=str)


def _is_true(fields: Fields, name: str) -> bool:
    return name in fields and fields[name] == msgspec.Raw(b"true")


def _sensitive_names(variables: msgspec.Raw) -> frozenset[str]:
    declared = _fields(variables).items()
    return frozenset(name for name, variable in declared if _is_true(_fields(variable), "sensitive"))


def _marks(fields: Fields, name: str) -> Marks:
    return _pruned(msgspec.json.decode(fields[name])) if name in fields else False


def _pruned(marks: object) -> Marks:
    """`marks` without the branches that hide nothing; what is no mark at all counts as one."""
    match marks:
        case None | False:
            return False
        case dict():
            return {name: kept for name, inner in marks.items() if (kept := _pruned(inner)) is not False} or False
        case list():
            items = [_pruned(inner) for inner in marks]
            return items if any(item is not False for item in items) else False
        case _:
            return True


def _union(one: Marks, other: Marks) -> Marks:
    """What either hides; where they disagree about the kind of value, all of it."""
    match one, other:
        case False, _:
            return other
        case _, False:
            return one
        case dict(), dict():
            return {name: _union(one.get(name, False), other.get(name, False)) for name in one | other}
        case list(), list():
            return [_union(left, right) for left, right in zip_longest(one, other, fillvalue=False)]
        case _:
            return True


def _without_keys(unknown: object, marks: Marks) -> object:
    """`after_unknown` with what lies under a mark reduced to one answer: is any of it unknown?"""
    match unknown, marks:
        case _, False:
            return unknown
        case dict(), dict():
            return {name: _without_keys(inner, marks.get(name, False)) for name, inner in unknown.items()}
        case list(), list():
            return [_without_keys(inner, mark) for inner, mark in zip_longest(unknown, marks[: len(unknown)])]
        case _:
            return _pruned(unknown) is not False
