"""What somebody sends by a form: one archive, told by its first bytes, or files with their names."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence

import msgspec

from iac.domain.archives import ArchiveLimits, File, Unpacked, read_archive, read_named
from iac.errors import BadRequest, Invalid, TooLarge

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LEFT_OUT = ("__MACOSX/",)
"""What macOS puts beside the files."""


class Upload(msgspec.Struct, frozen=True):
    """A file as a browser sends it; the name has its directories where a whole directory was chosen."""

    name: str
    data: bytes


def read_uploads(uploads: Sequence[Upload], limits: ArchiveLimits) -> Unpacked:
    """The tree of files. Takes a second for the largest ones: call it in a thread.

    Raises BadRequest (not_an_archive), TooLarge, or Invalid with the file's name as `path`.
    """
    packed = [each for each in uploads if each.data.startswith((_GZIP, _ZIP))]
    if not packed:
        return read_named(((each.name, File(each.data)) for each in uploads), limits)
    if len(uploads) > 1:
        raise Invalid(f"{packed[0].name} is an archive: send it alone, or files that are not packed.", path="$.files")
    data = packed[0].data
    return read_archive(data, limits) if data.startswith(_GZIP) else read_zip(data, limits)


def read_zip(data: bytes, limits: ArchiveLimits) -> Unpacked:
    """The files in a zip. Raises as `read_uploads`."""
    if len(data) > limits.compressed_bytes:
        raise TooLarge(f"The archive is over {limits.compressed_bytes} bytes.", limit=limits.compressed_bytes)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if len(packed.infolist()) > limits.members:
                raise TooLarge(f"There are over {limits.members} files and directories.", limit=limits.members)
            return read_named(_members(packed, limits.unpacked_bytes), limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise BadRequest(f"This zip cannot be read: {error}.", code="not_an_archive") from None


def _members(packed: zipfile.ZipFile, budget: int) -> Iterator[tuple[str, File]]:
    """What is in it, never more than one byte over the budget, whatever it claims."""
    for info in packed.infolist():
        if info.is_dir() or info.filename.startswith(_LEFT_OUT):
            continue
        mode = info.external_attr >> 16
        if info.flag_bits & _ENCRYPTED:
            raise Invalid(f"{info.filename!r} is encrypted; pack it without a password.", path=info.filename)
        if stat.S_ISLNK(mode):
            raise Invalid(f"{info.filename!r} is a symbolic link; pack what it points to.", path=info.filename)
        if info.compress_type not in _METHODS:
            raise Invalid(
                f"{info.filename!r} is packed in a way that few programs read; use deflate.", path=info.filename
            )
        with packed.open(info) as file:
            content = file.read(budget + 1)
        budget = max(0, budget - len(content))
        yield info.filename, File(content, bool(mode & stat.S_IXUSR))
