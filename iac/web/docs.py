"""A readable page of the API, made from the route table. No script, no request to anywhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

import msgspec

from iac import __version__
from iac.web.openapi import path_of
from iac.web.routing import NoQuery, Operation

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_CODE = re.compile("`([^`]+)`")
_STRUCT = re.compile(r"\b([A-Z][a-z]+[A-Z]?[A-Za-z]*)\b")
_PLAIN = {"NoneType": "null", "str": "string", "int": "integer", "bool": "boolean", "float": "number"}
_PLAIN |= {"Any": "any", "Mapping": "map", "dict": "map", "tuple": "list"}
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --quiet: #5b6675; --line: #dfe4ea; --soft: #f5f7f9;
        --get: #0a6e4f; --post: #1a56b0; --put: #8a5a00; --delete: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --paper: #12161c; --quiet: #98a3b3; --line: #2b333e;
        --soft: #1a2029; --get: #4cc79b; --post: #7fb0ff; --put: #e2b04a; --delete: #ff8a80; } }
* { box-sizing: border-box } body { margin: 0; font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 6rem } h1 { margin: 0; font-size: 1.7rem; letter-spacing: -.01em }
h2 { margin: 2.6rem 0 .6rem; font-size: 1.15rem } p { max-width: 44rem } .quiet { color: var(--quiet) }
details { border: 1px solid var(--line); border-radius: 8px; margin: .45rem 0; overflow: hidden }
summary { display: flex; gap: .8rem; align-items: baseline; padding: .55rem .8rem; cursor: pointer; flex-wrap: wrap }
summary:hover, summary:focus-visible { background: var(--soft) } summary .quiet { margin-left: auto; font-size: .9rem }
code { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere } .m { font-weight: 700; min-width: 4.2rem }
.GET { color: var(--get) } .POST { color: var(--post) } .PUT, .PATCH { color: var(--put) } .DELETE { color: var(--delete) }
.in { padding: .2rem .9rem .9rem; border-top: 1px solid var(--line) } table { border-collapse: collapse; width: 100%; font-size: .92rem }
td, th { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--quiet) } h3 { font-size: .95rem; margin: 1rem 0 .3rem } pre { background: var(--soft);
padding: .8rem; border-radius: 8px; overflow: auto } a { color: inherit }
"""


def page(operations: Sequence[Operation]) -> bytes:
    """The whole page."""
    ordered = list(operations)
    sections = "".join(
        _section(tag, list(group)) for tag, group in groupby(ordered, key=lambda operation: operation.tag)
    )
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>IAC API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body><main>
<h1>IAC API</h1><p class="quiet">Version {escape(__version__)} · machine-readable:
<a href="/api/v1/openapi.json">/api/v1/openapi.json</a></p>
<p>Send an API token with every request. Lists take <code>limit</code> and <code>cursor</code>. An error is
<code>{{"error": {{"code", "message", "retryable"}}}}</code>: the code is for programs, the message says what to do.</p>
<pre><code>curl -H "Authorization: Bearer $IAC_TOKEN" $IAC_URL/api/v1/workspaces</code></pre>
{sections}<h2>Types</h2>{_types(ordered)}</main></body></html>""".encode()


def _types(operations: list[Operation]) -> str:
    """Every structure that an answer has inside, once, by name."""
    found: dict[str, Any] = {}
    for operation in operations:
        for kind in (operation.body, operation.answer):
            if kind is not None:
                _collect(kind, found)
    return "".join(
        f'<details id="type-{name}"><summary><code>{name}</code></summary><div class="in">{_fields(kind)}</div></details>'
        for name, kind in sorted(found.items())
    )


def _collect(kind: type, found: dict[str, Any]) -> None:
    for entry in msgspec.structs.fields(kind):
        for inner in _structs_in(entry.type):
            if inner.__name__ not in found:
                found[inner.__name__] = inner
                _collect(inner, found)


def _structs_in(kind: Any) -> list[Any]:  # noqa: ANN401 - any annotation
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    inside = (
        [getattr(kind, "__origin__", None)] if hasattr(kind, "__metadata__") else list(getattr(kind, "__args__", ()))
    )
    return [found for argument in inside for found in _structs_in(argument)]


def _section(tag: str, operations: list[Operation]) -> str:
    return f"<h2>{escape(tag)}</h2>" + "".join(_operation(operation) for operation in operations)


def _operation(operation: Operation) -> str:
    parts = []
    if operation.right is not None:
        parts.append(f"<p>Needs the right <code>{operation.right}</code>.</p>")
    if operation.query is not NoQuery:
        parts.append("<h3>Query</h3>" + _fields(operation.query))
    if operation.raw_body:
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in operation.raw_body)
        parts.append(f"<h3>Body</h3><p>Bytes: {kinds}; up to {operation.limit:,} bytes.</p>")
    if operation.body is not None:
        parts.append("<h3>JSON body</h3>" + _fields(operation.body))
    if operation.answer is not None:
        parts.append(f"<h3>Answer {operation.status}</h3>" + _fields(operation.answer))
    elif operation.raw_answer is not None:
        parts.append(f"<h3>Answer {operation.status}</h3><p><code>{escape(operation.raw_answer)}</code></p>")
    errors = ", ".join(str(status) for status in operation.statuses if status != operation.status)
    codes = f" 409 codes: <code>{', '.join(operation.conflicts)}</code>." if operation.conflicts else ""
    parts.append(f'<p class="quiet">Errors: {errors}.{codes}</p>')
    path = escape(path_of(operation))
    return (
        f'<details id="{operation.name}"><summary><code class="m {operation.method}">{operation.method}</code>'
        f'<code>{path}</code><span class="quiet">{_prose(operation.summary)}</span></summary>'
        f'<div class="in">{"".join(parts)}</div></details>'
    )


def _fields(kind: Any) -> str:  # noqa: ANN401 - a type of structures, which mypy does not know as such
    sent = kind.__struct_config__.forbid_unknown_fields
    rows = "".join(
        f"<tr><td><code>{escape(entry.encode_name)}</code></td><td><code>{_linked(_shown(entry.type))}</code></td>"
        f"<td>{'required' if entry.required and sent else ''}</td></tr>"
        for entry in msgspec.structs.fields(kind)
    )
    about = " ".join((kind.__doc__ or "").split())
    note = f'<p class="quiet">{_prose(about)}</p>' if about and not about.startswith(kind.__name__) else ""
    return f"{note}<table><tr><th>Field</th><th>Type</th><th></th></tr>{rows}</table>"


def _prose(text: str) -> str:
    """Text with what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _linked(text: str) -> str:
    """Names of structures lead to their place among the types."""
    return _STRUCT.sub(r'<a href="#type-\1">\1</a>', escape(text))


def _shown(kind: Any) -> str:  # noqa: ANN401 - any annotation
    if hasattr(kind, "__metadata__"):
        return _shown(kind.__origin__)
    arguments = getattr(kind, "__args__", ())
    origin = getattr(kind, "__origin__", None)
    name = getattr(kind, "__name__", str(kind))
    if name == "Literal" or str(origin) == "typing.Literal":
        return " | ".join(repr(argument) for argument in arguments)
    if arguments and (origin is None or name in ("Union", "Optional", "UnionType")):
        return " | ".join(
            _shown(argument) for argument in arguments if getattr(argument, "__name__", "") != "UnsetType"
        )
    if arguments:
        outer = getattr(origin, "__name__", name)
        inside = [_shown(argument) for argument in arguments if argument is not ...]
        return f"{_PLAIN.get(outer, outer)}[{', '.join(inside)}]"
    return _PLAIN.get(name, name)
