from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import platform
import ssl
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread

import pysequoia
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from iac.domain.versions import Engine, Version
from iac.errors import IacError, Invalid, StorageFull, Unavailable
from iac.executor.download import (
    ABANDONED_AFTER,
    ARCHITECTURES,
    Limits,
    Mirror,
    NotOnMirror,
    Untrusted,
    install,
    load_keys,
    published,
    storing,
)

PLATFORM = f"{platform.system().lower()}_{ARCHITECTURES[platform.machine().lower()]}"
QUICK = Limits(attempts=3, first_pause=0.001, silence=10.0)
V185 = Version(1, 8, 5)


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    broken: bool = False  # promises one byte more than it sends
    endless: bool = False  # sends the body again and again


class Key:
    """A release key made for one test."""

    def __init__(self) -> None:
        self._secret = pysequoia.Tsk.generate("Releases <releases@example.org>")
        self.public = str(self._secret.extract_certificate())

    def sign(self, signed: bytes) -> bytes:
        return pysequoia.sign(self._secret.signer(), signed, mode=pysequoia.SignatureMode.DETACHED, armor=False)


class Releases:
    """What a mirror serves, and what it was asked for."""

    def __init__(self) -> None:
        self.key = Key()
        self.replies: dict[str, Reply | Callable[[], Reply]] = {}
        self.asked: Counter[str] = Counter()
        self.url = ""

    def publish(self, version: str, archive: bytes, engine: Engine = "terraform", suffix: str = ".sig") -> None:
        base = f"/{engine}/{version}/{engine}_{version}"
        sums = f"{'0' * 64}  {engine}_{version}_plan9_386.zip\n"
        sums += f"{hashlib.sha256(archive).hexdigest()}  {engine}_{version}_{PLATFORM}.zip\n"
        self.replies[f"{base}_SHA256SUMS"] = Reply(sums.encode())
        self.replies[f"{base}_SHA256SUMS{suffix}"] = Reply(self.key.sign(sums.encode()))
        self.replies[f"{base}_{PLATFORM}.zip"] = Reply(archive)

    def index(self, *versions: str) -> None:
        listed = json.dumps({"name": "terraform", "versions": {key: {"builds": []} for key in versions}})
        self.replies["/terraform/index.json"] = Reply(listed.encode())


SUMS = "/terraform/1.8.5/terraform_1.8.5_SHA256SUMS"
ARCHIVE = f"/terraform/1.8.5/terraform_1.8.5_{PLATFORM}.zip"


@contextmanager
def serving(releases: Releases, tls: ssl.SSLContext | None = None) -> Iterator[Releases]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            releases.asked[self.path] += 1
            found = releases.replies.get(self.path, Reply(status=404))
            reply = found if isinstance(found, Reply) else found()
            self.send_response(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            if not reply.endless:
                self.send_header("content-length", str(len(reply.body) + reply.broken))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(reply.body)
                while reply.endless:
                    self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        releases.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield releases
        finally:
            server.shutdown()
            thread.join()


def program(version: str) -> bytes:
    answer = json.dumps({"terraform_version": version})
    return f"#!/bin/sh\necho '{answer}'\n".encode()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def releases() -> Iterator[Releases]:
    with serving(Releases()) as running:
        running.publish("1.8.5", zipped({"LICENSE.txt": b"words", "terraform": program("1.8.5")}))
        yield running


@pytest.fixture
def mirror(releases: Releases, tmp_path: Path) -> Mirror:
    (tmp_path / "release.asc").write_text(releases.key.public)
    return Mirror(releases.url, tmp_path / "release.asc", limits=QUICK)


async def refused(mirror: Mirror, home: Path, kind: type[IacError], message: str) -> None:
    """Installing fails as said and leaves nothing behind."""
    with pytest.raises(kind, match=message):
        await install(mirror, "terraform", V185, home)
    assert not home.exists() or list(home.iterdir()) == []


async def test_a_signed_release_becomes_one_executable(mirror: Mirror, tmp_path: Path) -> None:
    path = await install(mirror, "terraform", V185, tmp_path / "home")
    assert path == tmp_path / "home" / "1.8.5" / "terraform"
    assert path.read_bytes() == program("1.8.5")
    assert path.stat().st_mode & 0o777 == 0o755
    assert set((tmp_path / "home").rglob("*")) == {path.parent, path}


async def test_opentofu_has_its_own_layout(releases: Releases, mirror: Mirror, tmp_path: Path) -> None:
    releases.publish("1.9.1", zipped({"tofu": program("1.9.1")}), engine="tofu", suffix=".gpgsig")
    assert (await install(mirror, "tofu", Version(1, 9, 1), tmp_path / "home")).name == "tofu"


async def test_a_signature_that_is_named_after_the_key_is_found(
    releases: Releases, mirror: Mirror, tmp_path: Path
) -> None:
    releases.replies[SUMS + ".72D7468F.sig"] = releases.replies.pop(SUMS + ".sig")
    assert (await install(mirror, "terraform", V185, tmp_path / "home")).is_file()


async def test_a_wrong_checksum_is_refused(releases: Releases, mirror: Mirror, tmp_path: Path) -> None:
    releases.replies[ARCHIVE] = Reply(zipped({"terraform": program("6.6.6")}))
    await refused(mirror, tmp_path / "home", Untrusted, "the signed checksum is")


async def test_a_signature_by_another_key_is_refused(releases: Releases, mirror: Mirror, tmp_path: Path) -> None:
    releases.key = Key()
    releases.publish("1.8.5", zipped({"terraform": program("1.8.5")}))
    await refused(mirror, tmp_path / "home", Untrusted, "not signed by a known release key")
    assert releases.asked[ARCHIVE] == 0


async def test_checksums_that_were_changed_after_signing_are_refused(
    releases: Releases, mirror: Mirror, tmp_path: Path
) -> None:
    evil = zipped({"terraform": program("6.6.6")})
    releases.replies[ARCHIVE] = Reply(evil)
    releases.replies[SUMS] = Reply(f"{hashlib.sha256(evil).hexdigest()}  terraform_1.8.5_{PLATFORM}.zip\n".encode())
    await refused(mirror, tmp_path / "home", Untrusted, "not signed by a known release key")


@pytest.mark.parametrize(
    "answer", [Reply(b""), Reply(b"garbage"), Reply(b"-----BEGIN PGP SIGNATURE-----\n"), Reply(status=404)]
)
async def test_a_release_without_a_signature_is_refused(
    releases: Releases, mirror: Mirror, tmp_path: Path, answer: Reply
) -> None:
    releases.replies[SUMS + ".sig"] = answer
    await refused(mirror, tmp_path / "home", Untrusted, "not signed by a known release key|nothing unsigned is run")


async def test_signed_checksums_of_another_version_do_not_count(
    releases: Releases, mirror: Mirror, tmp_path: Path
) -> None:
    for suffix in ("_SHA256SUMS", "_SHA256SUMS.sig", f"_{PLATFORM}.zip"):
        releases.replies[f"/terraform/1.9.0/terraform_1.9.0{suffix}"] = releases.replies[
            SUMS.removesuffix("_SHA256SUMS") + suffix
        ]
    with pytest.raises(NotOnMirror, match="do not list"):
        await install(mirror, "terraform", Version(1, 9, 0), tmp_path / "home")


@pytest.mark.parametrize("name", ["../terraform", "/etc/terraform", "bin/../../terraform"])
async def test_an_archive_that_reaches_outside_is_refused(
    releases: Releases, mirror: Mirror, tmp_path: Path, name: str
) -> None:
    releases.publish("1.8.5", zipped({"terraform": program("1.8.5"), name: b"evil"}))
    await refused(mirror, tmp_path / "home", Untrusted, "outside of itself")
    assert not (tmp_path / "terraform").exists()


SOUND = zipped({"terraform": os.urandom(5000)})


DAMAGED = [
    b"",
    SOUND[:40],
    SOUND[:-30],
    SOUND[:2000] + bytes(10) + SOUND[2010:],
    zipped({"bin/terraform": b"elsewhere"}),
]


@pytest.mark.parametrize("archive", DAMAGED, ids=range(len(DAMAGED)))
async def test_a_damaged_archive_is_refused_even_if_signed(
    releases: Releases, mirror: Mirror, tmp_path: Path, archive: bytes
) -> None:
    releases.publish("1.8.5", archive)
    await refused(
        mirror, tmp_path / "home", Untrusted, "archive of terraform is damaged|holds 0 files called terraform"
    )


@pytest.mark.parametrize(
    "limits", [replace(QUICK, archive=100), replace(QUICK, executable=10), replace(QUICK, sums=10)]
)
async def test_more_than_the_limit_is_not_read(
    releases: Releases, mirror: Mirror, tmp_path: Path, limits: Limits
) -> None:
    await refused(replace(mirror, limits=limits), tmp_path / "home", Untrusted, "bytes that are accepted")


@pytest.mark.parametrize("path", [SUMS, ARCHIVE])
async def test_an_answer_without_end_is_cut_off(releases: Releases, mirror: Mirror, tmp_path: Path, path: str) -> None:
    releases.replies[path] = Reply(b"0" * 65536, endless=True)
    limits = replace(QUICK, sums=1_000_000, archive=1_000_000)
    with trio.fail_after(20):
        await refused(replace(mirror, limits=limits), tmp_path / "home", Untrusted, "bytes that are accepted")


async def test_a_version_that_the_mirror_does_not_have_is_asked_for_once(
    releases: Releases, mirror: Mirror, tmp_path: Path
) -> None:
    releases.replies.clear()
    await refused(mirror, tmp_path / "home", NotOnMirror, "answers 404")
    assert releases.asked == {SUMS: 1}


async def test_a_transfer_that_breaks_is_begun_again(releases: Releases, mirror: Mirror, tmp_path: Path) -> None:
    whole = releases.replies[ARCHIVE]
    assert isinstance(whole, Reply)
    answers = iter([replace(whole, body=whole.body[:50], broken=True), Reply(status=503), whole])
    releases.replies[ARCHIVE] = lambda: next(answers)
    assert (await install(mirror, "terraform", V185, tmp_path / "home")).read_bytes() == program("1.8.5")
    assert releases.asked[ARCHIVE] == 3


async def test_a_mirror_that_stays_broken_is_given_up(releases: Releases, mirror: Mirror, tmp_path: Path) -> None:
    releases.replies[ARCHIVE] = Reply(broken=True)
    await refused(mirror, tmp_path / "home", Unavailable, "does not answer")
    assert releases.asked[ARCHIVE] == QUICK.attempts


async def test_a_redirect_within_the_mirror_is_followed_but_not_in_circles(
    releases: Releases, mirror: Mirror, tmp_path: Path
) -> None:
    releases.replies["/cdn/archive"] = releases.replies[ARCHIVE]
    releases.replies[ARCHIVE] = Reply(status=302, headers={"location": "/cdn/archive"})
    with_password = replace(mirror, url=releases.url.replace("//", "//reader:secret@"))
    assert (await install(with_password, "terraform", V185, tmp_path / "home")).is_file()
    releases.replies["/cdn/archive"] = releases.replies[ARCHIVE]
    await refused(with_password, tmp_path / "other", Untrusted, "redirects more than")


async def test_a_redirect_to_another_host_is_not_followed(releases: Releases, mirror: Mirror, tmp_path: Path) -> None:
    with serving(Releases()) as other:
        other.replies[ARCHIVE] = releases.replies[ARCHIVE]
        releases.replies[ARCHIVE] = Reply(status=302, headers={"location": other.url + ARCHIVE})
        await refused(mirror, tmp_path / "home", Untrusted, "only the mirror itself is asked")
        assert not other.asked


async def test_what_an_old_crash_left_is_swept_and_a_running_download_is_not(mirror: Mirror, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in (".partial-old", ".partial-new"):
        (home / name).mkdir(parents=True)
        (home / name / "archive.zip").write_bytes(b"half")
    long_ago = (home / ".partial-old").stat().st_mtime - ABANDONED_AFTER - 1
    os.utime(home / ".partial-old", (long_ago, long_ago))
    await install(mirror, "terraform", V185, home)
    assert sorted(entry.name for entry in home.iterdir()) == [".partial-new", "1.8.5"]


async def test_a_disk_that_is_full_or_cannot_be_written_is_said(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(Unavailable, match="cannot be stored under"):
        await install(mirror, "terraform", V185, tmp_path / "home")
    with pytest.raises(StorageFull, match="No room"), storing(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_the_index_lists_versions_and_what_is_none_is_skipped_or_refused(
    releases: Releases, mirror: Mirror
) -> None:
    releases.index("1.8.5", "1.9.0-rc1", "1.9.0+ent", "v1.7.0", "nightly")
    assert await published(mirror, "terraform") == [V185, Version(1, 9, 0, ("rc1",))]
    releases.replies["/terraform/index.json"] = Reply(b"<html>Please log in</html>")
    with pytest.raises(NotOnMirror, match="no readable index"):
        await published(mirror, "terraform")


async def test_a_mirror_with_a_certificate_of_its_own_is_reached_with_its_ca(mirror: Mirror, tmp_path: Path) -> None:
    certificate, context = self_signed(tmp_path)
    secured = Releases()
    secured.index("1.8.5")
    with serving(secured, context):
        known = replace(mirror, url=secured.url, ca_file=certificate)
        assert await published(known, "terraform") == [V185]
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await published(replace(known, ca_file=None), "terraform")
    with pytest.raises(Unavailable, match="cannot be used"):
        await published(replace(known, ca_file=tmp_path / "missing.pem"), "terraform")


def self_signed(directory: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mirror")])
    now, day = datetime.now().astimezone(), timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "mirror.key").write_bytes(key.private_bytes(pem, *private))
    (directory / "mirror.pem").write_bytes(certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "mirror.pem", directory / "mirror.key")
    return directory / "mirror.pem", context


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), (b"nonsense", "cannot"), (b"", "holds no")])
def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "keys.asc").write_bytes(content)
    with pytest.raises(Untrusted, match=message):
        load_keys(Mirror("https://mirror.example", tmp_path / "keys.asc"), "terraform")


def test_downloading_needs_a_configured_key_and_takes_several(tmp_path: Path) -> None:
    (tmp_path / "keys.asc").write_text(Key().public + Key().public)
    assert len(load_keys(Mirror("https://mirror.example", tmp_path / "keys.asc"), "tofu")) == 2
    with pytest.raises(Untrusted, match="IAC_TERRAFORM_KEY_FILE"):
        load_keys(Mirror("https://mirror.example"), "terraform")


@pytest.mark.parametrize("url", ["mirror.example", "ftp://mirror.example", "https://", ""])
def test_a_mirror_needs_a_url_and_keeps_the_password_in_it_secret(url: str) -> None:
    with pytest.raises(Invalid, match="https://host/path"):
        Mirror(url)
    mirror = Mirror("https://reader:secret@mirror.example:8443/releases/")
    assert (mirror.host, "secret" in repr(mirror)) == ("https://mirror.example:8443", False)
    assert mirror.address("terraform/index.json").path == "/releases/terraform/index.json"
