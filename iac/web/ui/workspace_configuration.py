"""The tab of the configuration: versions, and the files of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import trio

from iac.domain.archives import ArchiveLimits, File, read_archive
from iac.domain.assembly import assemble
from iac.domain.records import Configuration, Workspace
from iac.errors import NotFound
from iac.store import configurations, workspaces
from iac.store.configurations import Source
from iac.store.database import Connection
from iac.web.platform import Platform
from iac.web.ui.models.configuration_view import (
    PAGE,
    ConfigurationQuery,
    FileView,
    WorkspaceConfiguration,
    chosen_file,
    file_view,
    workspace_configuration,
)
from iac.web.ui.pages import PageCall, Ui
from iac.web.ui.shelf import Shelf
from iac.web.ui.workspace import WS, rights_of

Files = Mapping[str, File]


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the page on the table."""
    shelf, drawn = Shelf[Files](), Shelf[FileView]()

    @ui.page(f"{WS}/configuration", "workspace/configuration.html", query=ConfigurationQuery, topics=("workspaces",))
    async def show_configuration(call: PageCall[ConfigurationQuery]) -> WorkspaceConfiguration:
        query = call.query
        held, found, version = await platform.read(_found, call.path["ws"], query)
        files: Files = {}
        file = None
        if version is not None:
            shown = version
            files = await shelf.get(shown.id, lambda: _sized(platform, held, shown))
            path = chosen_file(query.file, files)
            if query.file and path is None:
                raise NotFound(f"There is no file {query.file!r} in this version of the configuration.")
            if path is not None:
                file = await drawn.made((shown.id, path), partial(file_view, path, files[path]))
        return workspace_configuration(held, query, found, version, files, file=file, rights=rights_of(call.me))


async def _found(
    c: Connection, key: str, query: ConfigurationQuery
) -> tuple[Workspace, list[Configuration], Configuration | None]:
    held = await workspaces.get(c, key)
    found = await configurations.page(c, held.id, limit=PAGE + 1, before=query.before or None)
    wanted = query.version or held.configuration_id
    version = None if wanted is None else await configurations.get(c, held.id, wanted)
    return held, found, version


async def _sized(platform: Platform, held: Workspace, version: Configuration) -> tuple[Files, int]:
    files = await read_version(platform, held.id, version.id)
    return files, sum(len(file.data) for file in files.values())


async def read_version(platform: Platform, workspace_id: str, version_id: str) -> Files:
    """The files of a version."""
    source, archive = await platform.read(_source, workspace_id, version_id)
    return await trio.to_thread.run_sync(files_of, source, archive)


async def _source(c: Connection, workspace_id: str, version_id: str) -> tuple[Source, bytes | None]:
    source = await configurations.source(c, version_id)
    archive = None
    if source.packed and source.digest is not None:
        archive = await configurations.archive_by_digest(c, workspace_id, source.digest)
    return source, archive


def files_of(source: Source, archive: bytes | None) -> Files:
    """The files that a configuration is, whatever it was sent as."""
    if archive is not None:
        return read_archive(archive, ArchiveLimits()).files
    if source.tf_code is not None:
        return {path: File(data) for path, data in assemble(source.tf_code, None, (), ()).items()}
    return {}
