"""Configurations as files: an uploaded tar.gz, or a mapping of texts, becomes a checked tree of files, and back again.

Bytes in, values out; nothing here touches a disk. Only what every reader of tar understands alike is accepted: plain
files and directories, each named once. The tar is walked by hand because the library's reader is lenient where this
must be strict: it takes a damaged header, or files behind the end mark, for the end, and says nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import msgspec

from iac.errors import BadRequest, Invalid, TooLarge

BLOCK = 512
COMPONENT_BYTES = 255
"""The longest name of one file or directory that file systems take."""
DIRECTORIES_LEFT_OUT = frozenset({".terraform", ".git"})
FILES_LEFT_OUT = frozenset({"crash.log", ".terraform.tfstate.lock.info"})

_FILE, _DIRECTORY = frozenset({b"0", b"\0", b"7"}), b"5"
_NOT_TAKEN = {
    b"1": "a hard link; pack with `tar --hard-dereference`",
    b"2": "a symbolic link; pack with `tar -h` to send what it points to",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"S": "a sparse file; pack without `tar --sparse`",
}
_EXTENSIONS = {b"L": "a long name", b"K": "a long link target", b"x": "pax records", b"g": "global pax records"}


class ArchiveLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes. `unpacked_bytes` bounds the inflated tar, its headers and padding included."""

    compressed_bytes: int = 32 * 1024 * 1024
    unpacked_bytes: int = 256 * 1024 * 1024
    members: int = 10_000
    path_bytes: int = 1024


class File(msgspec.Struct, frozen=True):
    """A file's bytes and whether its owner may execute it; of its mode nothing else is kept."""

    data: bytes
    executable: bool = False


Files = dict[str, File]
"""Relative paths with "/" between, no "." or "..", sorted. Empty directories are not kept."""


class Unpacked(msgspec.Struct, frozen=True):
    """`left_out` names what was sent and not kept: files, and directories as one entry each."""

    files: Files
    left_out: tuple[str, ...]


def read_archive(data: bytes, limits: ArchiveLimits) -> Unpacked:
    """The files in a gzip-compressed tar. Takes a second for the largest ones: call it in a thread.

    Raises BadRequest (not_an_archive), TooLarge, or Invalid with the member's name as `path`.
    """
    tree = _Tree(limits)
    for member in _members(_inflate(data, limits)):
        tree.add(member)
    return tree.unpacked()


def read_files(texts: Mapping[str, str], limits: ArchiveLimits) -> Unpacked:
    """The same tree from `{"main.tf": "…"}`. Raises TooLarge, or Invalid with the file's name as `path`."""
    named = ((name, File(_utf8(text, f"The content of {_shown(name)}", name))) for name, text in texts.items())
    return read_named(named, limits)


def read_named(named: Iterable[tuple[str, File]], limits: ArchiveLimits) -> Unpacked:
    """The same tree from files that come with their names. Raises TooLarge, or Invalid with the file's name as `path`."""
    tree, total = _Tree(limits), 0
    for name, file in named:
        total += len(file.data)
        if total > limits.unpacked_bytes:
            raise TooLarge(f"The files are over {limits.unpacked_bytes} bytes together.", limit=limits.unpacked_bytes)
        mode = 0o755 if file.executable else 0o644
        tree.add(_Member(_utf8(name, f"The name {_shown(name)}", name), b"0", mode, file.data))
    return tree.unpacked()


def write_archive(files: Mapping[str, File]) -> bytes:
    """A tar.gz that depends on the files alone: no times, no owners, sorted. `read_archive` gives the same files back."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=6, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(files):
            file = files[path]
            header = tarfile.TarInfo(path)
            header.size, header.mode = len(file.data), 0o755 if file.executable else 0o644
            tar.addfile(header, io.BytesIO(file.data))
    return packed.getvalue()


def digest(data: bytes) -> str:
    """The sha256 of the bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def require_root_module(files: Mapping[str, File], working_directory: str) -> None:
    """Raises Invalid unless Terraform would find a configuration file in `working_directory` ("" is the top)."""
    where, places = checked_path(working_directory, ArchiveLimits().path_bytes), sorted(_places(files))
    if where in places:
        return
    there = f"in the working directory {_shown(where)}" if where else "at the top of the configuration"
    found = f"there are some in {', '.join(_shown(place) for place in places[:5])}" if places else "nor anywhere else"
    raise Invalid(
        f"There is no .tf or .tf.json file {there}; {found}.", path="$.working_directory", code="no_root_module"
    )


def lifted(files: Mapping[str, File], working_directory: str) -> Mapping[str, File]:
    """Without the one directory that everything is in, where Terraform finds its configuration only then: what packs a
    directory, or sends one, often says its name too.
    """
    top = {path.partition("/")[0] for path in files}
    if len(top) != 1 or any("/" not in path for path in files) or working_directory in _places(files):
        return files
    return {path.partition("/")[2]: file for path, file in files.items()}


def _places(files: Mapping[str, File]) -> set[str]:
    """The directories that have files of Terraform's in them."""
    return {path.rpartition("/")[0] for path in files if _is_configuration(path)}


def checked_path(name: str, longest: int) -> str:
    """The path without "." and doubled slashes; "" for the top itself. Raises Invalid where it could lead outside."""
    refused = _path_problem(name, longest)
    if refused is not None:
        raise Invalid(f"The name {_shown(name)} {refused}.", path=_shown(name))
    return "/".join(_parts(name))


def _path_problem(name: str, longest: int) -> str | None:
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        return "contains a control character"
    if "\\" in name:
        return "contains a backslash; directories are separated by /"
    if name.startswith("/"):
        return "is absolute; names are relative to the top of the configuration"
    if ".." in _parts(name):
        return "contains .., which could lead outside the configuration"
    if len(name.encode()) > longest:
        return f"is longer than {longest} bytes"
    if any(len(part.encode()) > COMPONENT_BYTES for part in _parts(name)):
        return f"has a part that is longer than {COMPONENT_BYTES} bytes"
    return None


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in {"", "."}]


def _is_configuration(path: str) -> bool:
    """As Terraform itself: editors' backup files and hidden ones (macOS's `._main.tf`) are not configuration."""
    name = path.rpartition("/")[2]
    hidden = name.startswith(".") or name.endswith("~") or (name.startswith("#") and name.endswith("#"))
    return name.endswith((".tf", ".tf.json")) and not hidden


def _left_out(path: str, *, directory: bool) -> str | None:
    """Under which name this path is left out; None if it is kept."""
    parts = path.split("/")
    for depth, part in enumerate(parts, start=1):
        if part in DIRECTORIES_LEFT_OUT:
            return "/".join(parts[:depth])
    name = "" if directory else parts[-1]
    is_state = name.endswith(".tfstate") or (".tfstate." in name and name.endswith(".backup"))
    return path if is_state or name in FILES_LEFT_OUT else None


def _utf8(text: str, what: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} is not Unicode text: it has half of a surrogate pair.", path=_shown(name)) from None


def _shown(name: str | bytes) -> str:
    """A name for a message: quoted, printable, of bounded length."""
    text = name.decode(errors="backslashreplace") if isinstance(name, bytes) else name
    return ascii(text[:200]) if not text.isprintable() else repr(text[:200])


class _Member(NamedTuple):
    name: bytes
    kind: bytes
    mode: int
    data: bytes

    @property
    def is_directory(self) -> bool:
        """Old programs write a directory as an empty file whose name ends with a slash."""
        return self.kind == _DIRECTORY or (self.kind in _FILE and self.name.endswith(b"/") and not self.data)


class _Tree:
    """The files taken so far."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._count = 0
        self._kept: dict[str, File | None] = {}
        self._left_out: set[str] = set()

    def add(self, member: _Member) -> None:
        self._count += 1
        if self._count > self._limits.members:
            limit = self._limits.members
            raise TooLarge(f"There are over {limit} files and directories. {_WHAT_TO_LEAVE_OUT}", limit=limit)
        try:
            name = member.name.decode("utf-8")
        except UnicodeDecodeError:
            raise Invalid(f"The name {_shown(member.name)} is not UTF-8.", path=_shown(member.name)) from None
        path = checked_path(name, self._limits.path_bytes)
        left_out = _left_out(path, directory=member.is_directory)
        if left_out is not None:
            self._left_out.add(left_out)
        else:
            self._keep(path, member)

    def _keep(self, path: str, member: _Member) -> None:
        if member.is_directory:
            if path and self._kept.setdefault(path, None) is not None:
                raise _clash(path)
            return
        if member.kind not in _FILE:
            raise Invalid(
                f"{_shown(path)} is {_NOT_TAKEN.get(member.kind, f'of the unknown kind {member.kind!r}')}.", path=path
            )
        if not path or member.name.endswith(b"/"):
            raise Invalid(f"The file {_shown(member.name)} has a directory's name.", path=_shown(member.name))
        if path in self._kept:
            raise _clash(path)
        self._kept[path] = File(member.data, bool(member.mode & 0o100))

    def unpacked(self) -> Unpacked:
        # With "/" as the lowest of all characters, whatever lies under a path comes right behind it.
        paths = sorted(self._kept, key=lambda path: path.replace("/", "\0"))
        for path, following in pairwise(paths):
            if self._kept[path] is not None and following.startswith(f"{path}/"):
                raise _clash(path)
        files = {path: file for path, file in sorted(self._kept.items()) if file is not None}
        return Unpacked(files, tuple(sorted(self._left_out)))


_WHAT_TO_LEAVE_OUT = "Leave out what Terraform does not need: `tar czf - --exclude .terraform --exclude .git .`"


def _clash(path: str) -> Invalid:
    return Invalid(f"{_shown(path)} is there twice, or is a file as well as a directory.", path=path)


def _not_an_archive(why: str) -> BadRequest:
    return BadRequest(
        f"This is not a tar.gz archive: {why}. Send a gzip-compressed tar, e.g. `tar czf - . | curl --data-binary @- …`.",
        code="not_an_archive",
    )


def _inflate(data: bytes, limits: ArchiveLimits) -> bytes:
    """The tar inside. Never inflates more than one byte over the limit, whatever the archive claims."""
    if len(data) > limits.compressed_bytes:
        limit = limits.compressed_bytes
        raise TooLarge(f"The archive is over {limit} bytes. {_WHAT_TO_LEAVE_OUT}", limit=limit)
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        tar = inflater.decompress(data, limits.unpacked_bytes + 1)
    except zlib.error as error:
        raise _not_an_archive(f"it cannot be uncompressed ({error})") from None
    if len(tar) > limits.unpacked_bytes:
        limit = limits.unpacked_bytes
        raise TooLarge(f"The archive is over {limit} bytes when uncompressed. {_WHAT_TO_LEAVE_OUT}", limit=limit)
    if not inflater.eof:
        raise _not_an_archive("it ends too early")
    if inflater.unused_data:
        raise _not_an_archive("something follows the compressed data")
    return tar


class _Header(NamedTuple):
    name: bytes
    kind: bytes
    mode: int
    size: int


def _members(tar: bytes) -> Iterator[_Member]:
    """What the tar holds, in its order, long names and pax records applied."""
    at = 0
    pending: dict[bytes, bytes] = {}
    while (header := _header(tar, at)) is not None:
        at += BLOCK
        data = tar[at : at + header.size]
        at += -(-header.size // BLOCK) * BLOCK
        if header.kind not in _EXTENSIONS:
            yield _Member(_full_name(header, pending), header.kind, header.mode, data)
            pending = {}
        elif header.kind in pending:
            raise _not_an_archive(f"it gives {_EXTENSIONS[header.kind]} twice")
        else:
            pending[header.kind] = data
    if pending:
        raise _not_an_archive("it ends behind an extension header")
    if tar.count(0, at) != len(tar) - at:
        raise _not_an_archive("something follows its end mark")


def _header(tar: bytes, at: int) -> _Header | None:
    """The header at this place; None at the end mark."""
    block = tar[at : at + BLOCK]
    if len(block) < BLOCK:
        raise _not_an_archive("it has no end mark, so it may be cut short")
    if block.count(0) == BLOCK:
        return None
    if _octal(block[148:156]) != sum(block[:148]) + sum(b"        ") + sum(block[156:]):
        raise _not_an_archive("a header's checksum is wrong")
    name, prefix = _text(block[:100]), _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    header = _Header(
        name=prefix + b"/" + name if prefix else name,
        kind=block[156:157],
        mode=_octal(block[100:108]),
        size=_octal(block[124:136]),
    )
    # Readers disagree on whether data follows a header that should have none.
    if header.size and header.kind in {_DIRECTORY, *_NOT_TAKEN} - {b"S"}:
        raise _not_an_archive(f"{_shown(header.name)} is no file and yet has a size")
    return header


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise _not_an_archive("a number in a header is not octal")
    return int(digits or b"0", 8)


def _full_name(header: _Header, pending: Mapping[bytes, bytes]) -> bytes:
    if _pax_records(pending.get(b"g", b"")).keys() & {b"path", b"size", b"linkpath"}:
        raise _not_an_archive("its global pax records name a file")
    records = _pax_records(pending.get(b"x", b""))
    if records.get(b"size", b"%d" % header.size) != b"%d" % header.size:
        raise _not_an_archive(f"{_shown(header.name)} has two different sizes")
    names = [records[b"path"]] if b"path" in records else []
    if b"L" in pending:
        names.append(pending[b"L"].removesuffix(b"\0"))
    if len(names) > 1:
        raise _not_an_archive(f"{_shown(header.name)} has two long names")
    return names[0] if names else header.name


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """`<length> <key>=<value>\\n` records, where the length counts itself. Each key once."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        length, space, _ = data[at : at + 10].partition(b" ")
        end = at + int(length) if space and length.isdigit() else 0
        key, equals, value = data[at + len(length) + 1 : end].partition(b"=")
        if not at < end <= len(data) or not equals or not value.endswith(b"\n") or key in records:
            raise _not_an_archive("its pax records are malformed")
        if key.startswith(b"GNU.sparse."):
            raise _not_an_archive("it holds a sparse file; pack without `tar --sparse`")
        records[key] = value[:-1]
        at = end
    return records
