"""A workspace's configuration: its versions, and one version's files to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from iac.domain.archives import File
from iac.domain.records import Configuration, Workspace
from iac.web.ui.models.configuration_forms import base_of, file_href, is_editable
from iac.web.ui.models.highlighting import highlighted
from iac.web.ui.models.parts import Part, Parts
from iac.web.ui.models.values import printable
from iac.web.ui.models.words import many
from iac.web.ui.models.workspace import FILE, Rights, WorkspaceView, frame_of, quoted_for_shell, size_of

PAGE = 20
MOST_SHOWN = 1024 * 1024
"""Bytes of a file that is shown; a larger one can be downloaded."""
MOST_FILES = 2000
_FIRST = ("main.tf", "main.tf.json")


class ConfigurationQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which version (none: the current one) and which of its files; `before` is the version that the list comes after."""

    version: str = ""
    file: str = ""
    before: str = ""

    def href(self, base: str, **changes: str) -> str:
        said = msgspec.to_builtins(msgspec.structs.replace(self, **changes))
        return f"{base}?{urlencode(said)}" if said else base


class FileEntry(msgspec.Struct, frozen=True):
    """A file of the version; `depth` is how many directories it is in."""

    directory: str
    name: str
    size: str
    href: str
    on: bool


class VersionRow(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    message: str
    by: str
    at: datetime
    files: str
    size: str
    href: str
    current: bool
    on: bool


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """The file that is shown, as lines of HTML; `why_not` says why there are none."""

    path: str
    size: str
    executable: bool
    lines: tuple[str, ...]
    why_not: str


class WorkspaceConfiguration(WorkspaceView, frozen=True, kw_only=True):
    query: ConfigurationQuery
    versions: Parts
    older: str
    newest: str
    shown: VersionRow | None
    files: tuple[FileEntry, ...]
    more_files: int
    file: FileView | None
    download: str
    command: str
    use: str
    edit: str
    remove: str
    """Where something is done with the version, and with the file; empty where it cannot be."""


def workspace_configuration(
    workspace: Workspace,
    query: ConfigurationQuery,
    found: Sequence[Configuration],
    version: Configuration | None,
    files: Mapping[str, File],
    *,
    file: FileView | None,
    rights: Rights,
) -> WorkspaceConfiguration:
    """`found` are a page's versions, and one more if there are more; `files` those of `version`, the one that is shown."""
    shown = None if version is None else _row(version, workspace, version, base_of(workspace))
    editable = shown is not None and shown.current and rights.write
    frame: dict[str, Any] = frame_of(workspace, rights, "/configuration")
    base = base_of(workspace)
    chosen = chosen_file(query.file, files)
    rows = [_row(each, workspace, version, base) for each in found[:PAGE]]
    parts: tuple[Part, ...] = tuple(Part(row.id, f"{FILE}:version", row) for row in rows)
    older = query.href(base, before=found[PAGE - 1].id) if len(found) > PAGE else ""
    return WorkspaceConfiguration(
        query=query,
        versions=Parts("versions", parts),
        older=older,
        newest=query.href(base, before="") if query.before else "",
        shown=shown,
        files=tuple(_entries(files, chosen, query, base)),
        more_files=max(0, len(files) - MOST_FILES),
        file=file,
        download="" if version is None else f"/api/v1/workspaces/{workspace.id}/configurations/{version.id}/download",
        command=f"iac run plan -w {quoted_for_shell(workspace.name)}",
        use="" if shown is None or shown.current else f"{base}/use?{urlencode({'version': shown.id})}",
        edit=file_href(workspace, chosen, "/edit") if editable and chosen and is_editable(files[chosen]) else "",
        remove=file_href(workspace, chosen, "/remove") if editable and chosen and len(files) > 1 else "",
        **frame,
    )


def chosen_file(wanted: str, files: Mapping[str, File]) -> str | None:
    """The one that is asked for; if none is, the main one. None where it is not there."""
    if wanted in files:
        return wanted
    if wanted:
        return None
    return next((name for name in _FIRST if name in files), min(files, default=None))


def _row(each: Configuration, workspace: Workspace, shown: Configuration | None, base: str) -> VersionRow:
    current = each.id == workspace.configuration_id
    return VersionRow(
        id=each.id,
        message=each.message,
        by=each.created_by,
        at=each.created_at,
        files=many(len(each.files), "file"),
        size=size_of(each.size) if each.size else "",
        href=ConfigurationQuery(version="" if current else each.id).href(base),
        current=current,
        on=shown is not None and shown.id == each.id,
    )


def _entries(files: Mapping[str, File], chosen: str | None, query: ConfigurationQuery, base: str) -> list[FileEntry]:
    ordered = sorted(files, key=lambda path: (path.rpartition("/")[0], path))[:MOST_FILES]
    made = []
    for path in ordered:
        directory, _, name = path.rpartition("/")
        href = query.href(base, file=path)
        made.append(
            FileEntry(printable(directory), printable(name), size_of(len(files[path].data)), href, path == chosen)
        )
    return made


def file_view(path: str, file: File) -> FileView:
    """The file with its lines coloured, which takes a moment: call it in a thread."""
    text, why_not = "", ""
    if len(file.data) > MOST_SHOWN:
        why_not = "It is too large to be shown here; download the configuration to see it."
    elif b"\0" in file.data[:8192]:
        why_not = "It is not a text."
    else:
        try:
            text = file.data.decode()
        except UnicodeDecodeError:
            why_not = "It is not a text in UTF-8."
    return FileView(
        path=printable(path),
        size=size_of(len(file.data)),
        executable=file.executable,
        lines=() if why_not else highlighted(path, text),
        why_not=why_not,
    )
