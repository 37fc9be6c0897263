"""What a Terraform state file (format 4) says about itself, and the one change that IAC makes to one: its serial.

States are kept as the bytes that came. Nothing here decodes an attribute's value, so that 1.10, 1e400 and a number of
forty digits leave as they arrived: decoded and written anew they would differ, and the checksum with them.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn, TypeVar

import msgspec

from iac.errors import Invalid

MAX_SERIAL: Final = 2**62  # leaves room to count on in a signed 64 bit column

_FORMAT: Final = msgspec.Raw(b"4")
_MISSING: Final = msgspec.Raw(b"")
_NULL: Final = msgspec.Raw(b"null")
_NATURAL: Final = re.compile(rb"0|[1-9][0-9]{0,18}")
_KEY: Final = re.compile(rb'\s*,?\s*"[^"\\]*(?:\\.[^"\\]*)*"\s*:\s*', re.DOTALL)


class StateHeader(msgspec.Struct, frozen=True):
    """`resource_count` counts the instances of managed resources, as `terraform state list` shows them."""

    version: int
    terraform_version: str
    serial: int
    lineage: str
    resource_count: int
    output_names: tuple[str, ...]


class Output(msgspec.Struct, frozen=True):
    """`value` and `type` are JSON exactly as in the state."""

    name: str
    value: msgspec.Raw
    type: msgspec.Raw
    sensitive: bool


class StateResource(msgspec.Struct, frozen=True):
    """A resource block; `instances` counts its objects, `tainted` says whether any will be replaced by the next apply."""

    address: str
    mode: str
    type: str
    name: str
    module: str
    provider: str
    instances: int
    tainted: bool


class _Output(msgspec.Struct, frozen=True):
    value: msgspec.Raw = _NULL
    type: msgspec.Raw = _NULL
    sensitive: bool = False


class _Instance(msgspec.Struct, frozen=True):
    status: str | None = None
    deposed: str | None = None


class _Resource(msgspec.Struct, frozen=True):
    mode: str
    type: str
    name: str
    provider: str = ""
    module: str = ""
    instances: tuple[_Instance, ...] | None = None

    @property
    def objects(self) -> tuple[_Instance, ...]:
        return self.instances or ()


class _Contents(msgspec.Struct, frozen=True):
    version: msgspec.Raw = _MISSING
    serial: msgspec.Raw = _MISSING
    lineage: str = ""
    terraform_version: str = ""
    outputs: dict[str, _Output] | None = None
    resources: tuple[_Resource, ...] | None = None


_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CONTENTS: Final = msgspec.json.Decoder(_Contents)
_T = TypeVar("_T")


def inspect(data: bytes) -> StateHeader:
    """The state's header. Raises Invalid ("state_invalid") if this is not a complete state file of format 4."""
    contents = _contents(data)
    if not contents.lineage:
        _refuse("its lineage is missing or empty, so nobody can tell which state it continues.", "$.lineage")
    managed = [resource for resource in contents.resources or () if resource.mode == "managed"]
    return StateHeader(
        version=4,
        terraform_version=contents.terraform_version,
        serial=_serial(contents.serial),
        lineage=contents.lineage,
        resource_count=sum(each.deposed is None for resource in managed for each in resource.objects),
        output_names=tuple(contents.outputs or ()),
    )


def outputs(data: bytes) -> list[Output]:
    """The root module's outputs in the state's order, sensitive ones with their value. Raises Invalid as `inspect`."""
    # Copied: a slice would keep the whole state in memory for as long as one output lives.
    return [
        Output(name=name, value=output.value.copy(), type=output.type.copy(), sensitive=output.sensitive)
        for name, output in (_contents(data).outputs or {}).items()
    ]


def resources(data: bytes) -> list[StateResource]:
    """The resources in the state's order, data sources too. Raises Invalid as `inspect` does."""
    return [
        StateResource(
            address=_address(resource),
            mode=resource.mode,
            type=resource.type,
            name=resource.name,
            module=resource.module,
            provider=resource.provider,
            instances=len(resource.objects),
            tainted=any(each.status == "tainted" for each in resource.objects),
        )
        for resource in _contents(data).resources or ()
    ]


def is_empty(data: bytes) -> bool:
    """Whether the state holds neither an object (of any mode, deposed ones too) nor an output. Raises as `inspect`."""
    contents = _contents(data)
    return not contents.outputs and not any(resource.objects for resource in contents.resources or ())


def with_serial(data: bytes, serial: int) -> bytes:
    """The same bytes but for the digits of the top-level serial.

    Raises Invalid ("state_invalid") if `data` is not a JSON object with a serial, or has a key twice.
    `serial` is between 0 and MAX_SERIAL, or Invalid ("serial_out_of_range").
    """
    if not 0 <= serial <= MAX_SERIAL:
        raise Invalid(f"A state's serial is between 0 and {MAX_SERIAL}, not {serial}.", code="serial_out_of_range")
    start, end = _span_of_serial(data)
    return data[:start] + str(serial).encode() + data[end:]


def _span_of_serial(data: bytes) -> tuple[int, int]:
    """Where the serial's digits stand. The decoder does not tell positions, but the order and length of the values."""
    fields = _decoded(_FIELDS, data)
    _serial(fields.get("serial", _MISSING))
    span = (0, 0)
    at = data.index(b"{") + 1
    for name, value in fields.items():
        key = _KEY.match(data, at)
        if key is None:
            break
        at = key.end() + memoryview(value).nbytes
        if name == "serial":
            span = (key.end(), at)
    if data[at:].strip() != b"}" or data[slice(*span)] != bytes(fields["serial"]):
        _refuse("it has a key twice, so nobody can tell which of the two counts.", "$")
    return span


def _contents(data: bytes) -> _Contents:
    contents = _decoded(_CONTENTS, data)
    if contents.version != _FORMAT:
        _refuse(
            f"its format version is {_shown(contents.version)} and only 4 is understood. An older state: let Terraform "
            "0.12 or later write it anew. A state that OpenTofu has encrypted: decrypt it first.",
            "$.version",
        )
    return contents


def _decoded(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        _refuse(f"it is JSON, but not of a state's shape: {error}.", "$")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse(_why_undecodable(data, error), "$")


def _why_undecodable(data: bytes, error: Exception) -> str:
    if not data.strip():
        return "it is empty."
    if "truncated" in str(error):
        return f"it ends in mid-document after {len(data)} bytes: it was cut off. Send the whole file."
    return f"it is not JSON: {error}."


def _serial(serial: msgspec.Raw) -> int:
    digits = bytes(serial)
    if not _NATURAL.fullmatch(digits) or int(digits) > MAX_SERIAL:
        _refuse(
            f"its serial is {_shown(serial)}; it must be a whole number from 0 to {MAX_SERIAL}.",
            "$.serial",
        )
    return int(digits)


def _address(resource: _Resource) -> str:
    mode = "data" if resource.mode == "data" else ""
    return ".".join(part for part in (resource.module, mode, resource.type, resource.name) if part)


def _shown(value: msgspec.Raw) -> str:
    return bytes(memoryview(value)[:40]).decode(errors="replace") or "missing"


def _refuse(why: str, path: str) -> NoReturn:
    raise Invalid(f"This is not a usable Terraform state: {why}", code="state_invalid", path=path)
