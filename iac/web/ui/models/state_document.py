"""A state as pages read it: its instances with undecoded attributes, and what of them must not be shown.

Hidden are: what Terraform marks as sensitive; texts that repeat something so marked; values of the workspace's own
sensitive variables; and attributes that are named like a secret, because older versions of Terraform mark less.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import msgspec

from iac.domain.plan_masking import SENSITIVE
from iac.domain.redaction import Masker
from iac.domain.states import StateHeader, inspect
from iac.errors import Invalid, NotFound
from iac.web.ui.models.values import Number, Path, Value, decoded, hidden_changes, quoted, with_secrets

_NULL: Final = msgspec.Raw(b"null")
_SECRET_NAME: Final = re.compile(
    r"(^|_)(password|passwd|passphrase|secret|token|(private|secret|access|api)_key|credentials?)$", re.IGNORECASE
)
_TELLING = 6
"""Characters; a shorter secret is not told from an ordinary word by its text."""


class _Instance(msgspec.Struct, frozen=True):
    index_key: str | int | None = None
    status: str | None = None
    deposed: str | None = None
    schema_version: int = 0
    attributes: msgspec.Raw = _NULL
    attributes_flat: msgspec.Raw = _NULL
    sensitive_attributes: msgspec.Raw = _NULL
    dependencies: tuple[str, ...] | None = None


class _Resource(msgspec.Struct, frozen=True):
    mode: str
    type: str
    name: str
    provider: str = ""
    module: str = ""
    instances: tuple[_Instance, ...] | None = None


class _Output(msgspec.Struct, frozen=True):
    value: msgspec.Raw = _NULL
    sensitive: bool = False


class _State(msgspec.Struct, frozen=True):
    outputs: dict[str, _Output] | None = None
    resources: tuple[_Resource, ...] | None = None


_STATE: Final = msgspec.json.Decoder(_State)


class StateInstance(msgspec.Struct, frozen=True, kw_only=True):
    """One object. `key` names it within this state, `address` and `deposed` tell which it is in any state."""

    key: str
    address: str
    resource: str
    module: str
    mode: str
    type: str
    provider: str
    tainted: bool
    deposed: str
    schema_version: int
    dependencies: tuple[str, ...]
    attributes: msgspec.Raw
    marks: tuple[Path, ...]
    """Paths of what Terraform calls sensitive; the empty path is all of it."""

    @property
    def identity(self) -> tuple[str, str]:
        return self.address, self.deposed

    @property
    def plain(self) -> Value:
        """The attributes with the secrets in them: never to be shown."""
        return decoded(bytes(self.attributes))


class Secrets:
    """What is hidden in every state of a workspace, whatever the state says."""

    def __init__(self, values: Iterable[str]) -> None:
        known = tuple(values)
        self._masker = Masker(known)
        self._numbers = frozenset(map(Number, known))
        self._any = bool(known)
        self.key = hash(known)
        """Tells in this process whether others would hide the same."""

    def are_in(self, document: bytes) -> bool:
        """Whether any of them may be in the JSON; mostly none is, and then nothing has to be looked at one by one."""
        if not self._any:
            return False
        return self._masker.mask(document) != document or any(number.encode() in document for number in self._numbers)

    def hide(self, value: Value) -> Value:
        """A text or number without them."""
        if isinstance(value, Number):
            return SENSITIVE if value in self._numbers else value
        if isinstance(value, str):
            return self._masker.mask(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
        return value


class StateDocument:
    """One state, read once. `texts` are secrets that the state itself tells."""

    def __init__(
        self, header: StateHeader, instances: tuple[StateInstance, ...], outputs: Mapping[str, _Output]
    ) -> None:
        self.header = header
        self.instances = instances
        self._outputs = outputs
        self._by_key = {each.key: each for each in instances}

    @cached_property
    def texts(self) -> frozenset[str]:
        found: set[str] = set()
        for each in self.instances:
            for path in each.marks:
                found.update(_texts_at(each.plain, path))
        for output in self._outputs.values():
            if output.sensitive:
                found.update(_texts_at(decoded(bytes(output.value)), ()))
        return frozenset(found)

    def instance(self, key: str) -> StateInstance:
        """Raises NotFound."""
        found = self._by_key.get(key)
        if found is None:
            raise NotFound("This state has no such object; go back to the state and look from there.")
        return found

    def attributes(self, instance: StateInstance, secrets: Secrets) -> Value:
        """What may be shown of an object's attributes: secrets stand as SENSITIVE."""
        own = secrets if secrets.are_in(bytes(instance.attributes)) else None
        return _masked(instance.plain, frozenset(instance.marks), self.texts, own)

    def outputs(self, secrets: Secrets) -> dict[str, Value]:
        """The outputs, by name, without their secrets."""
        return {
            name: SENSITIVE
            if output.sensitive
            else _masked(decoded(bytes(output.value)), frozenset(), self.texts, secrets, named=name)
            for name, output in self._outputs.items()
        }

    def plain_outputs(self) -> dict[str, Value]:
        """With their secrets: never to be shown."""
        return {name: decoded(bytes(output.value)) for name, output in self._outputs.items()}


def read_state(data: bytes) -> StateDocument:
    """Takes a while for a large one: call it in a thread. Raises Invalid ("state_invalid")."""
    header = inspect(data)
    try:
        state = _STATE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"This state has objects of an unknown shape: {error}", code="state_invalid") from error
    instances = tuple(_instances(state.resources or ()))
    return StateDocument(header, instances, state.outputs or {})


def shown_pair(before: tuple[Value, Value], after: tuple[Value, Value]) -> tuple[Value, Value]:
    """Two masked values, each beside what it hides, ready to be compared: secrets that differ are marked as such."""
    hidden = hidden_changes((before[0], after[0]), (before[1], after[1]))
    return with_secrets(before[0]), with_secrets(after[0], hidden)


def _instances(resources: Iterable[_Resource]) -> Iterator[StateInstance]:
    number = 0
    for resource in resources:
        mode = "data" if resource.mode == "data" else ""
        address = ".".join(part for part in (resource.module, mode, resource.type, resource.name) if part)
        for each in resource.instances or ():
            flat = each.attributes == _NULL
            yield StateInstance(
                key=f"i{number}",
                address=address + _index(each.index_key),
                resource=address,
                module=resource.module,
                mode=resource.mode,
                type=resource.type,
                provider=_provider(resource.provider),
                tainted=each.status == "tainted",
                deposed=each.deposed or "",
                schema_version=each.schema_version,
                dependencies=each.dependencies or (),
                attributes=each.attributes_flat if flat else each.attributes,
                marks=tuple(_marks(each.sensitive_attributes)),
            )
            number += 1


def _index(key: str | int | None) -> str:
    if key is None:
        return ""
    return f"[{key}]" if isinstance(key, int) else f"[{quoted(key)}]"


def _provider(text: str) -> str:
    """`hashicorp/aws` out of `provider["registry.terraform.io/hashicorp/aws"]`."""
    _, opening, rest = text.partition('["')
    return rest.partition('"')[0].removeprefix("registry.terraform.io/") if opening else text


def _marks(raw: msgspec.Raw) -> Iterator[Path]:
    """Paths out of `sensitive_attributes`. What cannot be understood hides everything."""
    paths: Any = msgspec.json.decode(raw)
    for steps in paths or ():
        try:
            yield tuple(_step(step) for step in steps)
        except (TypeError, KeyError, ValueError, AttributeError):
            yield ()


def _step(step: Any) -> str | int:  # noqa: ANN401 - JSON
    value = step["value"]
    if step["type"] == "index":
        return int(value["value"]) if value["type"] == "number" else str(value["value"])
    return str(value)


def _masked(
    value: Value,
    marks: frozenset[Path],
    texts: frozenset[str],
    secrets: Secrets | None,
    *,
    named: str = "",
    at: Path = (),
) -> Value:
    if value is None or isinstance(value, bool):
        return SENSITIVE if at in marks and value is not None else value
    if at in marks or (isinstance(value, str) and value and _SECRET_NAME.search(named)):
        return SENSITIVE
    if isinstance(value, dict):
        return {
            name: _masked(inner, marks, texts, secrets, named=name, at=(*at, name)) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_masked(inner, marks, texts, secrets, at=(*at, index)) for index, inner in enumerate(value)]
    if value in texts:
        return SENSITIVE
    return value if secrets is None else secrets.hide(value)


def _texts_at(value: Value, path: Path) -> Iterator[str]:
    """The telling texts in what stands at the path."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts_at(inner, ())
    elif isinstance(value, str) and len(value) >= _TELLING:
        yield value
