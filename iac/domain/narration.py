"""One line of Terraform's -json stream, as the text a person reads and the event a program needs.

The text follows Terraform's human output. Types that only newer versions know are told by their `@message`.
"""

from __future__ import annotations

import msgspec

from iac.domain.diagnostics import Finding, box

_BOLD = "\x1b[1m"
_RED = "\x1b[31m"
_GREEN = "\x1b[32m"
_RESET = "\x1b[0m"


class ResourceProgress(msgspec.Struct, frozen=True, tag="resource_progress"):
    """`action` is Terraform's word (create, update, delete, read); `elapsed_s` counts seconds; `id` once it is known."""

    address: str
    action: str
    status: str  # started, progress, complete or errored
    elapsed_s: float = 0.0
    id: str | None = None


class ChangeSummary(msgspec.Struct, frozen=True, tag="change_summary", rename={"import_": "import"}):
    """How many resources; `operation` is plan, apply or destroy and says whether it is intended or done."""

    add: int
    change: int
    remove: int
    import_: int
    operation: str
    forget: int = 0


class Diagnostic(msgspec.Struct, frozen=True, tag="diagnostic"):
    """`severity` is error or warning."""

    severity: str
    summary: str
    address: str | None = None


class Outputs(msgspec.Struct, frozen=True, tag="outputs"):
    """The names of all root outputs, sensitive ones too, after an apply."""

    names: tuple[str, ...]


Event = ResourceProgress | ChangeSummary | Diagnostic | Outputs


class _Resource(msgspec.Struct, frozen=True):
    addr: str = ""


class _Hook(msgspec.Struct, frozen=True):
    resource: _Resource = _Resource()
    action: str = ""
    id_value: str | None = None
    elapsed_seconds: float = 0.0
    provisioner: str = ""
    output: str = ""


class _Changes(msgspec.Struct, frozen=True, rename={"import_": "import"}):
    add: int = 0
    change: int = 0
    remove: int = 0
    import_: int = 0
    forget: int = 0
    operation: str = ""


class _Output(msgspec.Struct, frozen=True):
    sensitive: bool = False
    action: str | None = None
    value: object = None


class _Line(msgspec.Struct, frozen=True, rename={"message": "@message"}):
    message: str
    type: str = ""
    hook: _Hook | None = None
    changes: _Changes | None = None
    diagnostic: Finding | None = None
    outputs: dict[str, _Output] | None = None


Narrated = tuple[str, Event | None]

_DECODER = msgspec.json.Decoder(_Line)
_SILENT = frozenset({"version", "refresh_complete", "provision_complete", "ephemeral_op_complete"})
_STATUSES = {
    "apply_start": "started",
    "apply_progress": "progress",
    "apply_complete": "complete",
    "apply_errored": "errored",
}


def narrate(line: bytes) -> Narrated | None:
    """Text (with its newline, or empty) and event of a line; None when it is no line of such a stream."""
    try:
        return _told(_DECODER.decode(line), line)
    except msgspec.ValidationError:
        return _told_untyped(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _told(line: _Line, raw: bytes) -> Narrated | None:
    match line:
        case _Line(type=""):
            return _told_untyped(raw)
        case _Line(type=kind) if kind in _SILENT:
            return "", None
        case _Line(type="diagnostic", diagnostic=Finding() as finding):
            return box(finding), Diagnostic(finding.severity, finding.summary, finding.address)
        case _Line(type="change_summary", changes=_Changes() as changes):
            return _summary(line.message, changes)
        case _Line(type="outputs", outputs=dict() as outputs):
            return _outputs(outputs)
        case _Line(hook=_Hook() as hook):
            return _hook_text(line, hook), _progress(line.type, hook)
    return f"{line.message}\n", None


def _told_untyped(raw: bytes) -> Narrated | None:
    """A log line of hclog's JSON form (TF_LOG=json), or a known type whose members have changed: nothing is left out."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    message = fields.pop("@message", None)
    if not isinstance(message, str):
        return None
    if isinstance(fields.get("type"), str):
        return f"{message}\n", None
    start = [str(fields.pop("@timestamp", "")), f"[{str(fields.pop('@level', '')).upper()}]"]
    module = fields.pop("@module", None)
    rest = [f"{key}={_flat(value)}" for key, value in fields.items()]
    return " ".join([*filter(None, start), *([f"{module}:"] if module else []), message, *rest]) + "\n", None


def _flat(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _hook_text(line: _Line, hook: _Hook) -> str:
    if line.type == "provision_progress":
        return f"{_BOLD}{hook.resource.addr} ({hook.provisioner}):{_RESET} {hook.output}\n"
    colour = _RED if line.type.endswith("_errored") else ""
    return f"{_BOLD}{colour}{line.message}{_RESET}\n"


def _progress(kind: str, hook: _Hook) -> ResourceProgress | None:
    status = _STATUSES.get(kind)
    if status is None:
        return None
    return ResourceProgress(hook.resource.addr, hook.action, status, hook.elapsed_seconds, hook.id_value)


def _summary(message: str, changes: _Changes) -> Narrated:
    event = ChangeSummary(
        add=changes.add,
        change=changes.change,
        remove=changes.remove,
        import_=changes.import_,
        operation=changes.operation,
        forget=changes.forget,
    )
    # Terraform's own sentence counts what this version of it knows: imports, forgotten resources, actions.
    colour = "" if changes.operation == "plan" else _GREEN
    return f"\n{_BOLD}{colour}{message}{_RESET}\n", event


def _outputs(outputs: dict[str, _Output]) -> Narrated:
    if not outputs:
        return "", Outputs(())
    if any(output.action is not None for output in outputs.values()):
        planned = "".join(f"  {name}: {output.action}\n" for name, output in outputs.items())
        return f"\nChanges to Outputs:\n{planned}\n", None
    lines = "".join(f"{name} = {_shown(output)}\n" for name, output in outputs.items())
    return f"\n{_BOLD}{_GREEN}Outputs:{_RESET}\n\n{lines}", Outputs(tuple(outputs))


def _shown(output: _Output) -> str:
    return "(sensitive value)" if output.sensitive else _hcl(output.value, "")


def _hcl(value: object, indent: str) -> str:
    inner = indent + "  "
    match value:
        case str() if "\n" in value and not indent:
            return f"<<EOT\n{value}\nEOT"
        case list() if value:
            return "[\n" + "".join(f"{inner}{_hcl(item, inner)},\n" for item in value) + f"{indent}]"
        case dict() if value:
            members = (f"{inner}{_flat(key)} = {_hcl(item, inner)}\n" for key, item in value.items())
            return "{\n" + "".join(members) + f"{indent}}}"
    return _flat(value)
