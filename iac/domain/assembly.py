"""The seed's `tf_code`, `provider_config` and `resources[]` become files that Terraform reads (its JSON syntax).

A configuration that is kept as data is full of leftovers such as `"terraform": []` or `"provider": {}`, and Terraform
refuses most of them. An empty *block level* is therefore dropped: a block type, a label, or a nested block of
Terraform's own. What is inside a body is the user's: `tags = {}`, `ingress = []` and `for_each = {}` say something.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from iac.domain.variables import check_name, is_identifier
from iac.errors import Invalid

Json = dict[str, Any]

_LABELS = {
    "terraform": 0,
    "locals": 0,
    "moved": 0,
    "removed": 0,
    "import": 0,
    "provider": 1,
    "variable": 1,
    "output": 1,
    "module": 1,
    "check": 1,
    "resource": 2,
    "data": 2,
    "ephemeral": 2,
    "action": 2,
}
"""The block types of Terraform's language, and how many labels stand before a body."""

_RESOURCE_LEVELS = frozenset({"dynamic", "provisioner", "connection", "lifecycle", "depends_on", "provider"})
_NESTED = {
    "provider": frozenset({"alias"}),
    "terraform": frozenset({"backend", "required_version", "experiments", "provider_meta"}),
    "variable": frozenset({"validation"}),
    "output": frozenset({"precondition", "depends_on"}),
    "module": frozenset({"depends_on", "providers"}),
    "resource": _RESOURCE_LEVELS,
    "data": _RESOURCE_LEVELS,
    "ephemeral": _RESOURCE_LEVELS,
    "lifecycle": frozenset({"precondition", "postcondition", "ignore_changes", "replace_triggered_by"}),
}
"""What inside a body belongs to Terraform, not to a provider, and cannot be empty or means nothing when it is."""

_PROVIDER_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class ResourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One resource or data block; `body` is its JSON body, in which strings are templates as anywhere in Terraform."""

    type: str
    name: str
    body: Mapping[str, Any]
    mode: Literal["managed", "data"] = "managed"


class DeclaredVariable(msgspec.Struct, frozen=True, kw_only=True):
    """A Terraform variable that the workspace has a value for."""

    name: str
    sensitive: bool = False


def assemble(
    tf_code: Mapping[str, Any] | None,
    provider_config: Mapping[str, Any] | None,
    resources: Sequence[ResourceSpec],
    variables: Sequence[DeclaredVariable],
) -> dict[str, bytes]:
    """The files `main.tf.json`, `provider.tf.json`, `resources.tf.json`, `variables.tf.json`; none that would be empty.

    `tf_code` is one document of Terraform's JSON syntax. `provider_config` is either a part of such a document,
    `{"terraform": {"required_providers": {…}}, "provider": {"aws": {…} or [{…}, …]}}` with either key left out at will,
    or short for its `provider` part: `{"aws": {"region": "x"}}`. Requirements of both places are put together
    and stand in `provider.tf.json`. A variable that `tf_code` does not declare is declared, of any type.

    Raises Invalid with the `path` of what is of a wrong form, or is given twice.
    """
    main = _document(tf_code or {}, "$.tf_code")
    providers = _provider_document(provider_config or {}, main)
    documents = {
        "main.tf.json": (main, "$.tf_code"),
        "provider.tf.json": (providers, "$.provider_config"),
        "resources.tf.json": (_resource_document(resources, main), "$.resources"),
        "variables.tf.json": (_variable_document(variables, main), "$.variables"),
    }
    return {name: _encoded(document, path) for name, (document, path) in documents.items() if document}


def _encoded(document: Json, path: str) -> bytes:
    """In lines, because Terraform shows the line that an error is in."""
    try:
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except RecursionError:
        raise Invalid("This is nested too deeply.", path=path) from None
    except (ValueError, TypeError) as error:
        raise Invalid(f"This cannot be written as JSON: {error}.", path=path) from None


def _document(source: Mapping[str, Any], path: str) -> Json:
    """The document without its empty block levels. A block type that is not known here is Terraform's to judge."""
    document = {}
    for key, value in source.items():
        labels = _LABELS.get(key)
        kept = value if labels is None else _level(value, labels, key, f"{path}.{key}")
        if not _is_empty(kept):
            document[key] = kept
    return document


def _level(value: object, labels: int, block: str, path: str) -> object:
    """What is left of one level: labels with something behind them, or bodies; None if that is nothing."""
    if value is None:
        return None
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        items = [_level(item, labels, block, f"{path}[{at}]") for at, item in enumerate(value)]
        return [item for item in items if item is not None] or None
    if not isinstance(value, Mapping):
        raise Invalid(f"Here stands {_kind(value)} where Terraform expects a block, a JSON object.", path=path)
    if labels == 0:
        return _body(value, block, path)
    inner = {label: _level(item, labels - 1, block, f"{path}.{label}") for label, item in value.items()}
    return {label: item for label, item in inner.items() if item is not None} or None


def _body(body: Mapping[str, Any], block: str, path: str) -> Json:
    nested = _NESTED.get(block, frozenset())
    kept = {key: value for key, value in body.items() if not (key in nested and _is_empty(value))}
    if block in {"resource", "data", "ephemeral"} and "lifecycle" in kept:
        kept["lifecycle"] = _level(kept["lifecycle"], 0, "lifecycle", f"{path}.lifecycle")
    return kept


def _is_empty(value: object) -> bool:
    """Nothing, or a list of nothings."""
    nothings: tuple[object, ...] = (None, {}, [])
    return value in nothings or (isinstance(value, list) and all(item in nothings for item in value))


def _kind(value: object) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def _blocks(document: Mapping[str, Any], block: str) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Every body of this block type with its labels, whichever of JSON's forms it is written in."""
    yield from _bodies(document.get(block), _LABELS[block], ())


def _bodies(value: object, labels: int, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json]]:
    if isinstance(value, list):
        for item in value:
            yield from _bodies(item, labels, above)
    elif isinstance(value, dict):
        if labels == 0:
            yield above, value
        else:
            for label, inner in value.items():
                yield from _bodies(inner, labels - 1, (*above, label))


def _provider_document(config: Mapping[str, Any], main: Json) -> Json:
    """All provider blocks of `provider_config`, and all requirements of both places, which `main` loses."""
    long = bool(config.keys() & {"terraform", "provider"})
    path = "$.provider_config.provider" if long else "$.provider_config"
    given = _document(config if long else {}, "$.provider_config")
    for key in given.keys() - {"terraform", "provider", "//"}:
        raise Invalid(
            f"{key!r} stands beside `terraform` or `provider`; a provider's settings belong inside `provider`.",
            path=f"$.provider_config.{key}",
        )
    providers = given.get("provider") if long else _level(config, 1, "provider", path)
    _check_providers(main, {"provider": providers}, path)
    _check_only_requirements(given)
    requirements = _taken_requirements(main, given)
    terraform = {"required_providers": requirements} if requirements else None
    return {key: value for key, value in (("terraform", terraform), ("provider", providers)) if value}


def _check_only_requirements(given: Json) -> None:
    for _, body in _blocks(given, "terraform"):
        for key, value in body.items():
            if key not in {"required_providers", "//"} and value not in (None, []):
                raise Invalid(
                    "Only required_providers is taken here; the rest of `terraform` belongs in tf_code.",
                    path=f"$.provider_config.terraform.{key}",
                )


def _check_providers(main: Json, document: Json, path: str) -> None:
    """Raises Invalid for what is no provider's name, or a second configuration of the same one."""
    seen = {(name, str(body.get("alias"))) for (name,), body in _blocks(main, "provider")}
    for (name,), body in _blocks(document, "provider"):
        if not _PROVIDER_NAME.fullmatch(name):
            raise Invalid(
                f"{name[:80]!a} is not a provider's name: lower-case letters, digits and single dashes.", path=path
            )
        alias = str(body.get("alias"))
        if (name, alias) in seen:
            raise Invalid(
                "This provider is configured twice; give one of the two an `alias`, or remove it.",
                path=f"{path}.{name}",
            )
        seen.add((name, alias))


def _taken_requirements(main: Json, given: Json) -> Json:
    """All of `required_providers`, removed from `main`: Terraform takes only one such block in a module."""
    requirements: Json = {}
    for document, source in ((main, "$.tf_code"), (given, "$.provider_config")):
        path = f"{source}.terraform.required_providers"
        for _, terraform in _blocks(document, "terraform"):
            taken = _level(terraform.pop("required_providers", None), 0, "required_providers", path)
            for _, entries in _bodies(taken, 0, ()):
                _add_requirements(requirements, entries, path)
    if _is_empty(main.get("terraform")):
        main.pop("terraform", None)
    return requirements


def _add_requirements(requirements: Json, entries: Json, path: str) -> None:
    for name, requirement in entries.items():
        if requirement is None:
            continue
        if requirements.setdefault(name, requirement) != requirement:
            raise Invalid("This provider is required twice, in different ways; keep one.", path=f"{path}.{name}")


def _resource_document(resources: Sequence[ResourceSpec], main: Json) -> Json:
    document: Json = {}
    taken = {(block, *labels) for block in ("resource", "data") for labels, _ in _blocks(main, block)}
    for at, spec in enumerate(resources):
        path = f"$.resources[{at}]"
        for part, text in (("type", spec.type), ("name", spec.name)):
            if not is_identifier(text):
                raise Invalid(
                    f"{text[:80]!a} is not a Terraform identifier: a letter or _ first, then letters, digits, _ and -.",
                    path=f"{path}.{part}",
                )
        block = {"managed": "resource", "data": "data"}[spec.mode]
        if (block, spec.type, spec.name) in taken:
            raise Invalid(f"There is another {block} {spec.type}.{spec.name}; names are unique by type.", path=path)
        taken.add((block, spec.type, spec.name))
        body = _level(spec.body, 0, block, f"{path}.body")
        document.setdefault(block, {}).setdefault(spec.type, {})[spec.name] = body
    return document


def _variable_document(variables: Sequence[DeclaredVariable], main: Json) -> Json:
    declared = {name for (name,), _ in _blocks(main, "variable")}
    blocks: Json = {}
    for at, variable in enumerate(variables):
        path = f"$.variables[{at}]"
        check_name("terraform", variable.name, path)
        if variable.name in blocks:
            raise Invalid(f"There is another variable {variable.name}.", path=path)
        if variable.name not in declared:
            blocks[variable.name] = {"sensitive": True} if variable.sensitive else {}
    return {"variable": blocks} if blocks else {}
