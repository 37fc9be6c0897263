"""A workspace's configuration is given in the browser: by upload, or file by file. Each is a new version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
import trio
from msgspec import Meta

from iac.domain.archives import ArchiveLimits, File, checked_path, lifted
from iac.domain.records import Workspace
from iac.domain.uploads import Upload, read_uploads
from iac.errors import BadRequest, Conflict, Invalid, NotFound
from iac.store import configurations, workspaces
from iac.web.inputs import ARCHIVE_LIMIT, Prepared, prepared, store_configuration
from iac.web.platform import Platform
from iac.web.routing import MIB, NoQuery
from iac.web.ui import answers
from iac.web.ui.gate import origin
from iac.web.ui.models.configuration_forms import (
    MOST_EDITED,
    FileRef,
    FileSheet,
    UploadSheet,
    base_of,
    changed,
    file_href,
    file_sheet,
    is_editable,
    remove_sheet,
    upload_sheet,
    use_sheet,
)
from iac.web.ui.models.parts import Sure
from iac.web.ui.models.words import many
from iac.web.ui.pages import Done, PageCall, Ui
from iac.web.ui.workspace import WS
from iac.web.ui.workspace_configuration import read_version
from iac.web.ui.workspace_inputs import unix

PATH = f"{WS}/configuration"
LIMITS = ArchiveLimits()
Message = Annotated[str, Meta(max_length=1000)]
Files = Mapping[str, File]


class UploadForm(msgspec.Struct, frozen=True):
    """`base` is the version that the form was made from; `keep`: the files that are there and do not come again stay."""

    message: Message = ""
    keep: bool = False
    base: str = ""


class FileForm(msgspec.Struct, frozen=True):
    """`file` is the path that it had before, "" for a new one."""

    path: str
    text: str
    file: str = ""
    message: Message = ""
    base: str = ""


class RemoveForm(msgspec.Struct, frozen=True):
    file: str
    base: str = ""


class VersionRef(msgspec.Struct, frozen=True):
    version: str
    base: str = ""


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages and deeds on the table."""
    _upload(ui, platform)
    _edit(ui, platform)
    _remove(ui, platform)
    _use(ui, platform)


def _upload(ui: Ui, platform: Platform) -> None:
    @ui.page(f"{PATH}/upload", "workspace/upload.html", right="write")
    async def show_upload(call: PageCall[NoQuery]) -> UploadSheet:
        held = await platform.read(workspaces.get, call.path["ws"])
        return upload_sheet(held, origin=origin(), most=ARCHIVE_LIMIT, bare=answers.asked_by_script())

    @ui.deed(f"{PATH}/upload", "write", form=UploadForm, limit=ARCHIVE_LIMIT + MIB)
    async def upload_files(call: PageCall[UploadForm]) -> Done:
        form, uploads = call.query, call.uploads
        if not uploads:
            raise Invalid("Choose files, an archive, or a directory.", path="$.files")
        held = await platform.read(workspaces.get, call.path["ws"])
        there = await _current(platform, held) if form.keep else {}
        try:
            made = await trio.to_thread.run_sync(_unpacked, uploads, there, held.working_directory)
        except BadRequest as refused:
            raise Invalid(refused.message, path="$.files") from None
        message = form.message.strip() or _about(uploads)
        await store_configuration(platform, held.id, made, message=message, by=call.me.name, base=form.base)
        return _done(held, f"{many(len(made.files), 'file')} {'is' if len(made.files) == 1 else 'are'} there.")


def _edit(ui: Ui, platform: Platform) -> None:
    @ui.page(f"{PATH}/edit", "workspace/file.html", right="write", query=FileRef)
    async def show_file_form(call: PageCall[FileRef]) -> FileSheet:
        held = await platform.read(workspaces.get, call.path["ws"])
        path = call.query.file
        file = _known(await _current(platform, held), path) if path else None
        if file is not None and not is_editable(file):
            raise Invalid(f"{path} is no text, or too long, to be changed here. Upload it instead.", path="$.file")
        return file_sheet(held, path, file, bare=answers.asked_by_script())

    @ui.deed(f"{PATH}/edit", "write", form=FileForm, limit=3 * MOST_EDITED + MIB)
    async def write_file(call: PageCall[FileForm]) -> Done:
        form = call.query
        held = await platform.read(workspaces.get, call.path["ws"])
        path, text = _path(form.path), unix(form.text)
        if len(text.encode()) > MOST_EDITED:
            raise Invalid(f"At most {MOST_EDITED // 1024} KiB; a longer file can be uploaded.", path="$.text")
        there = await _current(platform, held)
        _require_base(held, form.base)
        if form.file:
            _known(there, form.file)
        if path != form.file and path in there:
            raise Invalid(f"There is a file {path} already.", path="$.path")
        files = changed(there, form.file, path, text)
        message = form.message.strip() or f"{'Changed' if form.file else 'Added'} {path}"
        await _store(platform, held, files, message=message, by=call.me.name, base=form.base)
        return _done(held, f"{path} is saved.", path)


def _remove(ui: Ui, platform: Platform) -> None:
    @ui.page(f"{PATH}/remove", "sure.html", right="write", query=FileRef)
    async def show_remove_file(call: PageCall[FileRef]) -> Sure:
        held = await platform.read(workspaces.get, call.path["ws"])
        _known(await _current(platform, held), call.query.file)
        return remove_sheet(held, call.query.file, bare=answers.asked_by_script())

    @ui.deed(f"{PATH}/remove", "write", form=RemoveForm)
    async def remove_file(call: PageCall[RemoveForm]) -> Done:
        form, held = call.query, await platform.read(workspaces.get, call.path["ws"])
        there = await _current(platform, held)
        _require_base(held, form.base)
        _known(there, form.file)
        files = {path: file for path, file in there.items() if path != form.file}
        await _store(platform, held, files, message=f"Removed {form.file}", by=call.me.name, base=form.base)
        return _done(held, f"{form.file} is removed.")


def _use(ui: Ui, platform: Platform) -> None:
    @ui.page(f"{PATH}/use", "sure.html", right="write", query=VersionRef)
    async def show_use_version(call: PageCall[VersionRef]) -> Sure:
        held = await platform.read(workspaces.get, call.path["ws"])
        version = await platform.read(configurations.get, held.id, call.query.version)
        return use_sheet(held, version, bare=answers.asked_by_script())

    @ui.deed(f"{PATH}/use", "write", form=VersionRef)
    async def use_version(call: PageCall[VersionRef]) -> Done:
        held = await platform.read(workspaces.get, call.path["ws"])
        version = await platform.read(configurations.get, held.id, call.query.version)
        files = await read_version(platform, held.id, version.id)
        message = f"As of {version.created_at:%Y-%m-%d %H:%M} UTC" + (f": {version.message}" if version.message else "")
        await _store(platform, held, files, message=message[:1000], by=call.me.name, base=call.query.base)
        return _done(held, "It is the current version.")


def _done(held: Workspace, says: str, path: str = "") -> Done:
    back = file_href(held, path) if path else base_of(held)
    return Done(says=says, location=back, back=back)


def _unpacked(uploads: tuple[Upload, ...], there: Files, working_directory: str) -> Prepared:
    found = read_uploads(uploads, LIMITS)
    files = {**there, **lifted(found.files, working_directory)}
    return prepared("archive", dict(sorted(files.items())), found.left_out, working_directory)


def _about(uploads: tuple[Upload, ...]) -> str:
    return f"Uploaded {uploads[0].name if len(uploads) == 1 else many(len(uploads), 'file')}"[:1000]


async def _current(platform: Platform, held: Workspace) -> Files:
    """The files of the current version; none where there is no version."""
    return {} if held.configuration_id is None else await read_version(platform, held.id, held.configuration_id)


async def _store(platform: Platform, held: Workspace, files: Files, *, message: str, by: str, base: str) -> None:
    made = await trio.to_thread.run_sync(prepared, "files", files, (), held.working_directory)
    await store_configuration(platform, held.id, made, message=message, by=by, base=base)


def _require_base(held: Workspace, base: str) -> None:
    """What is asked of the files has to be asked of those that the form was made from; the store asks this again."""
    if base != (held.configuration_id or ""):
        raise Conflict(configurations.ANOTHER_VERSION, code="version_differs")


def _known(files: Files, path: str) -> File:
    if path not in files:
        raise NotFound(f"There is no file {path!r} in the configuration.")
    return files[path]


def _path(text: str) -> str:
    """Raises Invalid, at the field."""
    try:
        path = checked_path(text.strip(), LIMITS.path_bytes)
    except Invalid as refused:
        raise Invalid(refused.message, path="$.path") from None
    if not path:
        raise Invalid("Give it a name, such as main.tf.", path="$.path")
    return path
