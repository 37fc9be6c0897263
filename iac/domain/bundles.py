"""Freezing a task's inputs: from here on plan and apply run from the bundle alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from iac.domain.assembly import DeclaredVariable, ResourceSpec, assemble
from iac.domain.records import Action, Resource, Workspace
from iac.domain.work import BUNDLE_SCHEMA, Bundle, BundleVariable
from iac.errors import Conflict


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a workspace holds at the moment a task is created."""

    workspace: Workspace
    action: Action
    targets: tuple[str, ...]
    replace: tuple[str, ...]
    archive_digest: str | None
    tf_code: Mapping[str, Any] | None
    resources: tuple[Resource, ...]
    variables: tuple[BundleVariable, ...]
    lock_hcl: bytes | None
    now: datetime


def freeze(inputs: Inputs) -> Bundle:
    """Raises Invalid where `tf_code`, `provider_config` or a resource cannot be assembled."""
    workspace = inputs.workspace
    return Bundle(
        schema=BUNDLE_SCHEMA,
        workspace_id=workspace.id,
        workspace_name=workspace.name,
        action=inputs.action,
        engine=workspace.engine,
        terraform_version=workspace.terraform_version,
        working_directory=workspace.working_directory,
        configuration_digest=inputs.archive_digest,
        generated=_generated(inputs),
        variables=inputs.variables,
        targets=inputs.targets,
        replace=inputs.replace,
        lock_hcl=inputs.lock_hcl,
        created_at=inputs.now.isoformat(),
    )


def _generated(inputs: Inputs) -> dict[str, bytes]:
    """Files of ours beside an archive's, or the whole configuration when there is none.

    An archive declares its variables itself, so they are generated only where there is no archive.
    """
    declared = () if inputs.archive_digest is not None else _declared(inputs.variables)
    files = assemble(
        inputs.tf_code,
        inputs.workspace.provider_config,
        [ResourceSpec(type=r.type, name=r.name, body=r.body, mode=r.mode) for r in inputs.resources],
        declared,
    )
    # Beside somebody's own files ours must not take the place of one that has the same name.
    return files if inputs.archive_digest is None else {f"iac_{name}": data for name, data in files.items()}


def _declared(variables: tuple[BundleVariable, ...]) -> tuple[DeclaredVariable, ...]:
    return tuple(
        DeclaredVariable(name=variable.key, sensitive=variable.sensitive)
        for variable in variables
        if variable.category == "terraform"
    )


def encode_bundle(bundle: Bundle) -> tuple[bytes, str]:
    """The bundle's canonical bytes and their sha256."""
    data = msgspec.json.encode(bundle, order="sorted")
    return data, hashlib.sha256(data).hexdigest()


def decode_bundle(data: bytes) -> Bundle:
    """Raises Conflict (bundle_schema) for a form that this program does not know."""
    schema = msgspec.json.decode(data, type=_Versioned).schema
    if schema != BUNDLE_SCHEMA:
        raise Conflict(
            f"The task's inputs have form {schema}; this program knows {BUNDLE_SCHEMA}.", code="bundle_schema"
        )
    return msgspec.json.decode(data, type=Bundle)


class _Versioned(msgspec.Struct):
    schema: int
