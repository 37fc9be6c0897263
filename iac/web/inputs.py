"""What a workspace's tasks are made from: configuration, variables, resources."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import trio
from quart import Response

from iac.domain import bodies
from iac.domain.archives import (
    ArchiveLimits,
    File,
    digest,
    read_archive,
    read_files,
    require_root_module,
    write_archive,
)
from iac.domain.assembly import ResourceSpec, assemble
from iac.domain.records import Configuration, ConfigurationKind
from iac.domain.variables import check_name, check_value
from iac.errors import Invalid
from iac.store import configurations, resources, variables, workspaces
from iac.web import views
from iac.web.paging import cut
from iac.web.platform import Platform
from iac.web.routing import MIB, Api, Call, NoQuery
from iac.web.workspaces import WS

ARCHIVE_TYPES = ("application/gzip", "application/x-gzip", "application/x-tar", "application/octet-stream")
ARCHIVE_LIMIT = ArchiveLimits().compressed_bytes
_Body = bodies.ConfigurationInput | bytes


class ConfigurationQuery(msgspec.Struct, frozen=True):
    """`message` says what is new in an uploaded archive."""

    message: str = ""


class PageQuery(msgspec.Struct, frozen=True):
    limit: bodies.Limit = 50
    cursor: str | None = None


class Prepared(msgspec.Struct, frozen=True):
    """A configuration as it is stored."""

    kind: ConfigurationKind
    digest: str
    archive: bytes | None
    tf_code: dict[str, object] | None
    files: tuple[str, ...]
    left_out: tuple[str, ...]


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""
    _configurations(api, platform)
    _variables(api, platform)
    _resources(api, platform)


def _configurations(api: Api, platform: Platform) -> None:
    @api.operation(
        "PUT", f"{WS}/<ws>/configuration", "Upload the configuration: a tar.gz, files, or `tf_code`", tag="Configuration",
        right="write", body=bodies.ConfigurationInput, raw_body=ARCHIVE_TYPES, query=ConfigurationQuery,
        answer=bodies.ConfigurationView, limit=ARCHIVE_LIMIT,
    )  # fmt: skip
    async def put_configuration(call: Call[_Body, ConfigurationQuery]) -> bodies.ConfigurationView:
        held = await platform.read(workspaces.get, call.path["ws"])
        made = await trio.to_thread.run_sync(_prepared, call.body, held.working_directory)
        message = call.query.message if isinstance(call.body, bytes) else call.body.message
        stored = await store_configuration(platform, held.id, made, message=message, by=call.by)
        return views.configuration(stored, made.left_out)

    @api.operation(
        "GET", f"{WS}/<ws>/configurations", "List configuration versions, newest first", tag="Configuration",
        right="read", query=PageQuery, answer=bodies.ConfigurationPage,
    )  # fmt: skip
    async def list_configurations(call: Call[None, PageQuery]) -> bodies.ConfigurationPage:
        held = await platform.read(workspaces.get, call.path["ws"])
        q = call.query
        found = await platform.read(configurations.page, held.id, limit=q.limit + 1, before=q.cursor)
        page, cursor = cut(found, q.limit, lambda record: record.id)
        return bodies.ConfigurationPage(items=[views.configuration(record) for record in page], next_cursor=cursor)

    @api.operation(
        "GET", f"{WS}/<ws>/configurations/<configuration>/download", "Download a configuration version as a tar.gz",
        tag="Configuration", right="read", raw_answer="application/gzip",
    )  # fmt: skip
    async def download_configuration(call: Call[None, NoQuery]) -> Response:
        held = await platform.read(workspaces.get, call.path["ws"])
        version = await platform.read(configurations.get, held.id, call.path["configuration"])
        source = await platform.read(configurations.source, version.id)
        archive = await platform.read(configurations.archive_by_digest, held.id, version.digest)
        data = archive if archive is not None else await trio.to_thread.run_sync(_packed, source.tf_code or {})
        name = f"{held.id}-{version.id}.tar.gz"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(data, content_type="application/gzip", headers=headers)


def _prepared(body: _Body, working_directory: str) -> Prepared:
    """Checks and normalises; takes milliseconds for a large archive, so it is called in a thread."""
    if isinstance(body, bytes):
        unpacked, kind = read_archive(body, ArchiveLimits()), "archive"
    elif body.files is not None and body.tf_code is None:
        unpacked, kind = read_files(body.files, ArchiveLimits()), "files"
    elif body.tf_code is not None and body.files is None:
        return _prepared_tf_code(body.tf_code)
    else:
        raise Invalid("Give exactly one of `tf_code` and `files`, or send a tar.gz.", path="$")
    return prepared("archive" if kind == "archive" else "files", unpacked.files, unpacked.left_out, working_directory)


def prepared(
    kind: ConfigurationKind, files: Mapping[str, File], left_out: tuple[str, ...], working_directory: str
) -> Prepared:
    """Files as they are stored. Raises Invalid (no_root_module); takes milliseconds for many: call it in a thread."""
    require_root_module(files, working_directory)
    archive = write_archive(files)
    return Prepared(
        kind=kind, digest=digest(archive), archive=archive, tf_code=None, files=tuple(files), left_out=left_out
    )


async def store_configuration(
    platform: Platform, workspace_id: str, made: Prepared, *, message: str, by: str, base: str | None = None
) -> Configuration:
    """Makes it the workspace's configuration; `base` as in `configurations.put`."""
    put = partial(
        configurations.put, kind=made.kind, digest=made.digest, archive=made.archive, source=made.tf_code,
        files=made.files, message=message, by=by, base=base,
    )  # fmt: skip
    stored: Configuration = await platform.write(put, workspace_id)
    return stored


def _packed(tf_code: Mapping[str, Any]) -> bytes:
    """A `tf_code` as the archive of the files that it becomes."""
    return write_archive({path: File(data) for path, data in assemble(tf_code, None, (), ()).items()})


def _prepared_tf_code(tf_code: dict[str, object]) -> Prepared:
    assembled = assemble(tf_code, None, (), ())
    return Prepared(
        kind="tf_code",
        digest=digest(msgspec.json.encode(tf_code, order="sorted")),
        archive=None,
        tf_code=tf_code,
        files=tuple(assembled),
        left_out=(),
    )


def _variables(api: Api, platform: Platform) -> None:
    path, tag = f"{WS}/<ws>/variables", "Variables"

    @api.operation("GET", path, "List variables", tag=tag, right="read", answer=bodies.VariableList)
    async def list_variables(call: Call[None, NoQuery]) -> bodies.VariableList:
        held = await platform.read(workspaces.get, call.path["ws"])
        found = await platform.read(variables.listed, platform.keyring, held.id)
        return bodies.VariableList(items=[views.variable(record) for record in found])

    @api.operation(
        "POST", path, "Create a variable", tag=tag, right="write", status=201,
        body=bodies.VariableCreate, answer=bodies.VariableView, conflicts=("variable_exists",),
    )  # fmt: skip
    async def create_variable(call: Call[bodies.VariableCreate, NoQuery]) -> bodies.VariableView:
        body = call.body
        check_name(body.category, body.key)
        check_value(body.category, body.value, hcl=body.hcl)
        held = await platform.read(workspaces.get, call.path["ws"])
        create = partial(variables.create, **msgspec.structs.asdict(body), by=call.by)
        return views.variable(await platform.write(create, platform.keyring, held.id))

    @api.operation(
        "PATCH", f"{path}/<var>", "Change a variable", tag=tag, right="write",
        body=bodies.VariableChange, answer=bodies.VariableView, conflicts=("version_differs",),
    )  # fmt: skip
    async def change_variable(call: Call[bodies.VariableChange, NoQuery]) -> bodies.VariableView:
        body = call.body
        held = await platform.read(workspaces.get, call.path["ws"])
        before = await platform.read(variables.get, platform.keyring, held.id, call.path["var"])
        if body.value is not None:
            check_value(before.category, body.value, hcl=before.hcl if body.hcl is None else body.hcl)
        change = partial(variables.change, **msgspec.structs.asdict(body), by=call.by)
        return views.variable(await platform.write(change, platform.keyring, held.id, before.id))

    @api.operation("DELETE", f"{path}/<var>", "Delete a variable", tag=tag, right="write", status=204)
    async def delete_variable(call: Call[None, NoQuery]) -> None:
        held = await platform.read(workspaces.get, call.path["ws"])
        await platform.write(variables.delete, held.id, call.path["var"], by=call.by)


def _resources(api: Api, platform: Platform) -> None:
    path, tag = f"{WS}/<ws>/resources", "Resources"

    @api.operation(
        "GET", path, "List the resources kept by the platform", tag=tag, right="read", answer=bodies.ResourceList
    )
    async def list_resources(call: Call[None, NoQuery]) -> bodies.ResourceList:
        held = await platform.read(workspaces.get, call.path["ws"])
        found = await platform.read(resources.listed, held.id)
        return bodies.ResourceList(items=[views.resource(record) for record in found])

    @api.operation(
        "POST", path, "Add a resource block", tag=tag, right="write", status=201, limit=MIB,
        body=bodies.ResourceCreate, answer=bodies.ResourceView, conflicts=("resource_exists",),
    )  # fmt: skip
    async def create_resource(call: Call[bodies.ResourceCreate, NoQuery]) -> bodies.ResourceView:
        body = call.body
        check_block(ResourceSpec(type=body.type, name=body.name, body=body.body, mode=body.mode))
        held = await platform.read(workspaces.get, call.path["ws"])
        create = partial(resources.create, **msgspec.structs.asdict(body), by=call.by)
        return views.resource(await platform.write(create, held.id))

    @api.operation(
        "PATCH", f"{path}/<res>", "Replace a resource's body", tag=tag, right="write", limit=MIB,
        body=bodies.ResourceUpdate, answer=bodies.ResourceView, conflicts=("version_differs",),
    )  # fmt: skip
    async def change_resource(call: Call[bodies.ResourceUpdate, NoQuery]) -> bodies.ResourceView:
        held = await platform.read(workspaces.get, call.path["ws"])
        body = call.body
        check_block(ResourceSpec(type="any", name="any", body=body.body))
        change = partial(resources.change, body=body.body, version=body.version, by=call.by)
        return views.resource(await platform.write(change, held.id, call.path["res"]))

    @api.operation("DELETE", f"{path}/<res>", "Remove a resource block", tag=tag, right="write", status=204)
    async def delete_resource(call: Call[None, NoQuery]) -> None:
        held = await platform.read(workspaces.get, call.path["ws"])
        await platform.write(resources.delete, held.id, call.path["res"], by=call.by)


def check_block(block: ResourceSpec) -> None:
    """Raises Invalid, with the path in the request, for a block that would spoil every task of its workspace."""
    try:
        assemble(None, None, [block], ())
    except Invalid as refused:
        path = str(refused.extras.get("path", "$")).replace("$.resources[0]", "$", 1)
        raise Invalid(refused.message, path=path) from None
