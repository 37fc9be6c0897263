"""The forms that give a workspace its configuration: files to upload, a file to write, and what else is done with them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

from iac.domain.archives import File
from iac.domain.records import Configuration, Workspace
from iac.web.ui.models.joining import Step
from iac.web.ui.models.parts import Asked, Sure
from iac.web.ui.models.workspace import path_of, quoted_for_shell

MOST_EDITED = 1024 * 1024
"""Bytes of a file that can be changed in the browser."""
FIRST = """\
# Whatever is written here is run by Terraform. This example needs no provider and no account.

variable "name" {
  type    = string
  default = "world"
}

resource "terraform_data" "greeting" {
  input = "Hello, ${var.name}."
}

output "greeting" {
  value = terraform_data.greeting.output
}
"""


class UploadSheet(Asked, frozen=True, kw_only=True):
    """`base` is the version that is there now, "" for none; `steps` do the same in a terminal; `most` is in bytes."""

    base: str
    steps: tuple[Step, ...]
    most: int


class FileSheet(Asked, frozen=True, kw_only=True):
    """`file` is the path of the file that is changed, "" for a new one; `text` what is in it."""

    base: str
    file: str
    suggested: str
    text: str
    remove: str


class FileRef(msgspec.Struct, frozen=True):
    """In an address: the path of a file."""

    file: str = ""


def base_of(workspace: Workspace) -> str:
    return f"{path_of(workspace.name)}/configuration"


def file_href(workspace: Workspace, path: str, deed: str = "") -> str:
    """Where a file is shown, or where something is done with it."""
    return f"{base_of(workspace)}{deed}?{urlencode({'file': path})}"


def upload_sheet(workspace: Workspace, *, origin: str, most: int, bare: bool) -> UploadSheet:
    base = base_of(workspace)
    return UploadSheet(
        title=f"Upload the configuration of {workspace.name}",
        back=base,
        back_words=f"Configuration of {workspace.name}",
        action=f"{base}/upload",
        bare=bare,
        base=workspace.configuration_id or "",
        steps=in_a_terminal(workspace, origin),
        most=most,
    )


def in_a_terminal(workspace: Workspace, origin: str) -> tuple[Step, ...]:
    """Both are given in the directory with the files. The token is never an argument: everybody on the host reads those."""
    name, address = quoted_for_shell(workspace.name), f"{origin}/api/v1/workspaces/{workspace.id}/configuration"
    return (
        Step("Uploads it, and plans; after iac login once.", f"iac --url {origin} run plan -w {name}"),
        Step(
            "With curl, in bash; the API token is in IAC_TOKEN.",
            "tar czf - --exclude .terraform --exclude .git . | curl --fail-with-body -X PUT \\\n"
            '  -H @<(echo "Authorization: Bearer $IAC_TOKEN") -H "Content-Type: application/gzip" \\\n'
            f"  --data-binary @- {address}",
        ),
    )


def file_sheet(workspace: Workspace, path: str, file: File | None, *, bare: bool) -> FileSheet:
    """Of a file that is there and can be changed (see `text_of`), or of a new one: None."""
    base, first = base_of(workspace), workspace.configuration_id is None
    return FileSheet(
        title=path if file is not None else "Write a file" if first else "New file",
        back=file_href(workspace, path) if file is not None else base,
        back_words=f"Configuration of {workspace.name}",
        action=f"{base}/edit",
        bare=bare,
        base=workspace.configuration_id or "",
        file=path if file is not None else "",
        suggested=path or (_beside("main.tf", workspace.working_directory) if first else ""),
        text=FIRST if first else "" if file is None else file.data.decode(),
        remove=file_href(workspace, path, "/remove") if file is not None else "",
    )


def _beside(name: str, directory: str) -> str:
    return f"{directory}/{name}" if directory else name


def is_editable(file: File) -> bool:
    """Whether a person can change it here: a text, and not too long."""
    if len(file.data) > MOST_EDITED or b"\0" in file.data:
        return False
    try:
        file.data.decode()
    except UnicodeDecodeError:
        return False
    return True


def remove_sheet(workspace: Workspace, path: str, *, bare: bool) -> Sure:
    base = base_of(workspace)
    return Sure(
        title=f"Remove {path}",
        back=file_href(workspace, path),
        back_words=f"Configuration of {workspace.name}",
        action=f"{base}/remove",
        bare=bare,
        says="It is not in the next version any more; the versions that are there keep it.",
        does="Remove file",
        hidden=(("file", path), ("base", workspace.configuration_id or "")),
    )


def use_sheet(workspace: Workspace, version: Configuration, *, bare: bool) -> Sure:
    base = base_of(workspace)
    return Sure(
        title="Use this version again",
        back=f"{base}?{urlencode({'version': version.id})}",
        back_words=f"Configuration of {workspace.name}",
        action=f"{base}/use",
        bare=bare,
        says="Its files become a new version, the current one. Tasks that are there already keep theirs.",
        does="Use it again",
        danger=False,
        hidden=(("version", version.id), ("base", workspace.configuration_id or "")),
    )


def changed(files: Mapping[str, File], was: str, path: str, text: str) -> dict[str, File]:
    """The files with this one written, under another name than before if it has one."""
    before = files.get(was)
    kept = {name: file for name, file in files.items() if name != was}
    return dict(sorted({**kept, path: File(text.encode(), before is not None and before.executable)}.items()))
