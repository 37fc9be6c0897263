"""Terraform (or OpenTofu) from a mirror laid out like the vendor's release site, trusted only by its signature.

    <mirror>/<engine>/index.json
    <mirror>/<engine>/<version>/<engine>_<version>_SHA256SUMS   and its detached OpenPGP signature
    <mirror>/<engine>/<version>/<engine>_<version>_<os>_<arch>.zip

Order of trust: a key that was configured (or shipped) → signature → checksums → archive → the one file in it. The file
appears under its final name in one step, complete and synced, so whatever a crash leaves behind is never run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import ssl
import time
import zipfile
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from shutil import rmtree
from tempfile import mkdtemp
from typing import IO, TypeVar

import httpx
import msgspec
import pysequoia
import trio

from iac.domain.versions import Engine, Version
from iac.errors import Invalid, StorageFull, Unavailable

MIB = 1024 * 1024
CHUNK = MIB // 4  # small enough to hash and write between two other things that this thread does
PARTIAL = ".partial-"
ABANDONED_AFTER = 24 * 3600.0  # seconds
CLEAN_UP_WITHIN = 10.0  # seconds
SIGNATURES: dict[Engine, tuple[str, ...]] = {"terraform": (".sig", ".72D7468F.sig"), "tofu": (".gpgsig",)}
ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "i686": "386",
    "i386": "386",
}
ARCHITECTURES |= {"armv6l": "arm", "armv7l": "arm"}


T = TypeVar("T")


class NotOnMirror(Invalid):
    """The mirror answers, and does not have it."""

    code = "terraform_not_found"


class Untrusted(Invalid):
    """What the mirror offers is not what the holder of the key signed, or not what it is called."""

    code = "terraform_untrusted"


@dataclass(frozen=True)
class Limits:
    """Most bytes that are read of each thing, how often a broken transfer is begun again, and how long it may take."""

    index: int = 32 * MIB
    sums: int = MIB
    signature: int = 64 * 1024
    archive: int = 512 * MIB
    executable: int = 1024 * MIB
    attempts: int = 4
    first_pause: float = 0.5  # seconds; doubles with each attempt
    silence: float = 30.0  # seconds without a byte before a transfer counts as broken
    redirects: int = 3


@dataclass(frozen=True)
class Mirror:
    """Where to download from and whom to believe. `key_file` may hold several keys; without one, the shipped ones count."""

    url: str = field(repr=False)  # may carry a password
    key_file: Path | None = None
    ca_file: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        try:
            usable = httpx.URL(self.url).scheme in ("http", "https") and bool(httpx.URL(self.url).host)
        except httpx.InvalidURL:
            usable = False
        if not usable:
            raise Invalid("The Terraform mirror's address is not a URL; write https://host/path.")

    @property
    def host(self) -> str:
        """Scheme and host of the mirror, without credentials, for messages."""
        return _origin(httpx.URL(self.url))

    def address(self, path: str) -> httpx.URL:
        """Where `path` is found."""
        base = httpx.URL(self.url)
        return base.copy_with(path=f"{base.path.rstrip('/')}/{path}")


class _Index(msgspec.Struct, frozen=True):
    versions: dict[str, msgspec.Raw]


async def published(mirror: Mirror, engine: Engine) -> list[Version]:
    """The versions that the mirror lists, in no order. Raises NotOnMirror (no index, or not readable) or Unavailable."""
    async with _client(mirror) as client:
        body = await _get(client, mirror, f"{engine}/index.json", mirror.limits.index)
    try:
        index = msgspec.json.decode(body, type=_Index)
    except msgspec.DecodeError as problem:
        raise NotOnMirror(f"{mirror.host} has no readable index of {engine}; ask for an exact version.") from problem
    return [version for text in index.versions if (version := _plain_version(text)) is not None]


async def install(mirror: Mirror, engine: Engine, version: Version, directory: Path) -> Path:
    """Download, verify, and put the executable at `directory`/<version>/<engine>; return that path.

    Raises NotOnMirror, Untrusted, Unavailable (mirror down or too slow; disk not writable), StorageFull. Callers see to
    it that a version is installed once at a time; even so, two at once only waste work.
    """
    certificates = await trio.to_thread.run_sync(load_keys, mirror, engine)
    sums_path = f"{engine}/{version}/{engine}_{version}_SHA256SUMS"
    archive = f"{engine}_{version}_{_platform()}.zip"
    async with _client(mirror) as client:
        sums = await _get(client, mirror, sums_path, mirror.limits.sums)
        signature = await _get_signature(client, mirror, engine, sums_path)
        check_signature(sums, signature, certificates)
        expected = _checksum_of(archive, sums)
        with storing(directory):
            async with _scratch(directory) as scratch:
                zipped = scratch / "archive.zip"
                await _fetch_archive(client, mirror, f"{engine}/{version}/{archive}", zipped, expected)
                return await trio.to_thread.run_sync(_unpack, zipped, directory / str(version), engine, mirror.limits)


def load_keys(mirror: Mirror, engine: Engine) -> list[pysequoia.Cert]:
    """The certificates whose signatures count. Raises Untrusted if there are none, or the file cannot be read."""
    path = mirror.key_file
    if path is None:
        raise Untrusted(f"No release key for {engine} is configured; set IAC_TERRAFORM_KEY_FILE to its public key.")
    try:
        certificates = pysequoia.Cert.split_bytes(path.read_bytes())
    except (OSError, RuntimeError) as problem:
        raise Untrusted(f"The release key {path} cannot be read: {_first_line(problem)}") from problem
    if not certificates:
        raise Untrusted(f"The release key {path} holds no key.")
    return certificates


def check_signature(sums: bytes, signature: bytes, certificates: list[pysequoia.Cert]) -> None:
    """Return if one of `certificates` signed `sums`; raise Untrusted otherwise."""
    try:
        verified = pysequoia.verify(
            bytes=sums, store=lambda _key_ids: certificates, signature=pysequoia.Sig.from_bytes(signature)
        )
    except RuntimeError as problem:
        raise Untrusted(f"The checksums are not signed by a known release key: {_first_line(problem)}") from problem
    if not verified.valid_sigs:
        raise Untrusted("The checksums are not signed by a known release key.")


@asynccontextmanager
async def _client(mirror: Mirror) -> AsyncGenerator[httpx.AsyncClient]:
    try:
        context = ssl.create_default_context(cafile=mirror.ca_file)
    except OSError as problem:
        raise Unavailable(f"The certificates in {mirror.ca_file} cannot be used: {problem.strerror}") from problem
    # trust_env off: what decides is in the settings, not in whatever environment the process happened to get.
    async with httpx.AsyncClient(trust_env=False, verify=context, timeout=mirror.limits.silence) as client:
        yield client


async def _get(client: httpx.AsyncClient, mirror: Mirror, path: str, limit: int) -> bytes:
    async def once() -> bytes:
        received = bytearray()
        async with _response(client, mirror, path) as response:
            await _pour(response, limit, received.extend)
        return bytes(received)

    return await _again(mirror, once)


async def _get_signature(client: httpx.AsyncClient, mirror: Mirror, engine: Engine, sums_path: str) -> bytes:
    for suffix in SIGNATURES[engine]:
        try:
            return await _get(client, mirror, sums_path + suffix, mirror.limits.signature)
        except NotOnMirror:
            continue
    raise Untrusted(f"{mirror.host} has no signature for {sums_path}; nothing unsigned is run.")


async def _fetch_archive(client: httpx.AsyncClient, mirror: Mirror, path: str, target: Path, expected: str) -> None:
    async def once() -> str:
        digest = hashlib.sha256()
        with target.open("wb") as file:

            def store(chunk: bytes) -> None:
                file.write(chunk)
                digest.update(chunk)

            async with _response(client, mirror, path) as response:
                await _pour(response, mirror.limits.archive, store)
        return digest.hexdigest()

    found = await _again(mirror, once)
    if found != expected:
        raise Untrusted(f"{path} from {mirror.host} has SHA-256 {found}, the signed checksum is {expected}.")


async def _again(mirror: Mirror, once: Callable[[], Awaitable[T]]) -> T:
    """What `once` returns, tried again with growing pauses while the connection or the mirror is failing."""
    pause = mirror.limits.first_pause
    for attempt in range(1, mirror.limits.attempts + 1):
        try:
            return await once()
        except httpx.TransportError as problem:
            failure = Unavailable(f"The Terraform mirror {mirror.host} does not answer: {_reason(problem)}")
        except Unavailable as problem:
            failure = problem
        if attempt < mirror.limits.attempts:
            await trio.sleep(pause)
            pause *= 2
    raise failure


@asynccontextmanager
async def _response(client: httpx.AsyncClient, mirror: Mirror, path: str) -> AsyncGenerator[httpx.Response]:
    """A good answer to GET `path`, body unread. Redirects are followed only where they stay on the mirror."""
    url = mirror.address(path)
    for _ in range(mirror.limits.redirects + 1):
        # identity: sizes and checksums are those of the bytes on the wire.
        async with client.stream("GET", url, headers={"accept-encoding": "identity"}) as response:
            if not response.has_redirect_location:
                _check_status(response, mirror, path)
                yield response
                return
            target = url.join(response.headers["location"])
        if _origin(target) != mirror.host:
            raise Untrusted(f"{mirror.host} sends us to {_origin(target)} for {path}; only the mirror itself is asked.")
        url = target.copy_with(userinfo=url.userinfo)
    raise Untrusted(f"{mirror.host} redirects more than {mirror.limits.redirects} times for {path}.")


def _check_status(response: httpx.Response, mirror: Mirror, path: str) -> None:
    if response.status_code >= 500 or response.status_code == 429:
        raise Unavailable(f"The Terraform mirror {mirror.host} answers {response.status_code} for {path}.")
    if response.status_code != 200:
        raise NotOnMirror(f"The Terraform mirror {mirror.host} answers {response.status_code} for {path}.")


async def _pour(response: httpx.Response, limit: int, sink: Callable[[bytes], object]) -> None:
    """Give the body to `sink`, chunk by chunk. Raises Untrusted beyond `limit` bytes."""
    seen = 0
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw(CHUNK):
            seen += len(chunk)
            if seen > limit:
                # Raising here would leave httpx's nested generators to the garbage collector; this ends them in order.
                scope.cancel()
            else:
                sink(chunk)
    if seen > limit:
        raise Untrusted(f"{response.url.path} is larger than the {limit} bytes that are accepted.")


def _reason(problem: BaseException) -> str:
    """What the innermost cause says; httpx's own messages are often empty."""
    while problem.__cause__ is not None or problem.__context__ is not None:
        problem = problem.__cause__ or problem.__context__ or problem
    return f"{type(problem).__name__}: {problem}"


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _plain_version(text: str) -> Version | None:
    """The version that a path of this name holds; None for names that are not one (such as 1.9.0+ent)."""
    try:
        version = Version.parse(text)
    except Invalid:
        return None
    return version if str(version) == text else None


def _platform() -> str:
    architecture = ARCHITECTURES.get(platform.machine().lower())
    if architecture is None:
        raise NotOnMirror(f"There are no releases for this machine's architecture, {platform.machine()}.")
    return f"{platform.system().lower()}_{architecture}"


def _checksum_of(archive: str, sums: bytes) -> str:
    for line in sums.decode("ascii", errors="replace").splitlines():
        checksum, _, name = line.partition(" ")
        if name.strip().removeprefix("*") == archive:
            return checksum.lower()
    raise NotOnMirror(f"The signed checksums do not list {archive}: this version was not released for this platform.")


@contextmanager
def storing(directory: Path) -> Generator[None]:
    """Turn what the disk says into errors that tell the reader what to do."""
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"No room under {directory} to download Terraform.") from problem
        raise Unavailable(f"Terraform cannot be stored under {directory}: {problem}") from problem


@asynccontextmanager
async def _scratch(directory: Path) -> AsyncGenerator[Path]:
    """A directory on the same filesystem as the result, so that the last step can be a rename."""
    scratch = await trio.to_thread.run_sync(_make_scratch, directory)
    try:
        yield scratch
    finally:
        with trio.move_on_after(CLEAN_UP_WITHIN, shield=True):
            await trio.to_thread.run_sync(lambda: rmtree(scratch, ignore_errors=True), abandon_on_cancel=True)


def _make_scratch(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for left in directory.glob(PARTIAL + "*"):
        # By age, since another process may be downloading into the same directory right now.
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED_AFTER:
                rmtree(left, ignore_errors=True)
    return Path(mkdtemp(prefix=PARTIAL, dir=directory))


def _unpack(zipped: Path, home: Path, engine: Engine, limits: Limits) -> Path:
    """The member `engine` of the archive as an executable `home`/`engine`, which appears whole or not at all."""
    unpacked = zipped.with_name(engine)
    try:
        with zipfile.ZipFile(zipped) as archive:
            member = _member(archive, engine)
            with archive.open(member) as source, unpacked.open("xb") as sink:
                _copy(source, sink, limits.executable)
                os.fchmod(sink.fileno(), 0o755)
                sink.flush()
                os.fsync(sink.fileno())
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as problem:
        raise Untrusted(f"The archive of {engine} is damaged: {_first_line(problem)}") from problem
    home.mkdir(exist_ok=True)
    unpacked.replace(home / engine)
    for directory in (home, home.parent):
        _sync_directory(directory)
    return home / engine


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    for member in archive.infolist():
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts:
            raise Untrusted(f"The archive names a file outside of itself, {member.filename!r}.")
    found = [member for member in archive.infolist() if member.filename == name]
    if len(found) != 1:
        raise Untrusted(f"The archive holds {len(found)} files called {name}; there must be one.")
    return found[0]


def _copy(source: IO[bytes], sink: IO[bytes], limit: int) -> None:
    seen = 0
    while chunk := source.read(CHUNK):
        seen += len(chunk)
        if seen > limit:
            raise Untrusted(f"The archive unpacks to more than the {limit} bytes that are accepted.")
        sink.write(chunk)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(problem: Exception) -> str:
    # pysequoia appends a stack trace of its own to every message.
    return str(problem).partition("\n")[0]
