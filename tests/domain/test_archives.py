"""Uploaded archives: what comes back, and what hostile ones get."""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import tarfile
import tracemalloc
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.archives import (
    ArchiveLimits,
    File,
    checked_path,
    digest,
    read_archive,
    read_files,
    require_root_module,
    write_archive,
)
from iac.errors import BadRequest, Invalid, TooLarge

LIMITS = ArchiveLimits(compressed_bytes=64_000, unpacked_bytes=256_000, members=50, path_bytes=300)
END = bytes(1024)


def header(name: bytes, *, size: int = 0, kind: bytes = b"0", mode: int = 0o644, **fields: bytes) -> bytes:
    """A tar header made by hand, with a right checksum."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108] = b"%07o\0" % mode
    block[124:136] = fields.get("size_field", b"%011o\0" % size)
    block[156:157] = kind
    block[257:265] = fields.get("magic", b"ustar\x0000")
    prefix = fields.get("prefix", b"")
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def entry(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    return header(name, size=len(data), **fields) + data + bytes(-len(data) % 512)  # type: ignore[arg-type]


def pax(**records: str) -> bytes:
    """A pax header for the entry behind it."""
    return entry(b"pax", pax_records(records), kind=b"x")


def pax_records(records: Mapping[str, str]) -> bytes:
    out = b""
    for key, value in records.items():
        body = f" {key}={value}\n".encode()
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length += 1
        out += str(length).encode() + body
    return out


def packed(*entries: bytes, end: bytes = END) -> bytes:
    return gzip.compress(b"".join(entries) + end)


def names(*entries: bytes) -> list[str]:
    return list(read_archive(packed(*entries), LIMITS).files)


# -- what comes back ------------------------------------------------------------------------------------------------

COMPONENT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=12
).filter(lambda part: part not in {".", "..", ".git", ".terraform", "crash.log"} and ".tfstate" not in part)
TREES = st.dictionaries(
    st.lists(COMPONENT, min_size=1, max_size=4).map("/".join),
    st.builds(File, st.binary(max_size=600), st.booleans()),
    max_size=8,
)


def without_clashes(files: Mapping[str, File]) -> dict[str, File]:
    return {path: file for path, file in files.items() if not any(other.startswith(f"{path}/") for other in files)}


@given(TREES)
def test_what_is_written_is_read_back(files: dict[str, File]) -> None:
    files = without_clashes(files)
    unpacked = read_archive(write_archive(files), ArchiveLimits())
    assert unpacked.files == files
    assert list(unpacked.files) == sorted(files)
    assert unpacked.left_out == ()


@given(TREES)
def test_the_same_files_are_the_same_bytes(files: dict[str, File]) -> None:
    files = without_clashes(files)
    assert write_archive(files) == write_archive(dict(reversed(files.items())))


@given(TREES, st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_the_librarys_writer_and_this_reader_agree(files: dict[str, File], form: int) -> None:
    files = without_clashes(files)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=form) as writer:
        for path, file in files.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size, member.mode = len(file.data), 0o4755 if file.executable else 0o600
            writer.addfile(member, io.BytesIO(file.data))
    assert read_archive(gzip.compress(tar.getvalue()), ArchiveLimits()).files == files


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "posix", "oldgnu"])
def test_what_the_tar_command_packs_is_read(tmp_path: Path, form: str) -> None:
    deep = tmp_path / "modules" / ("m" * 90) / "ü"
    deep.mkdir(parents=True)
    (tmp_path / "main.tf").write_text("# main\n")
    (deep / "run.sh").write_text("#!/bin/sh\n")
    (deep / "run.sh").chmod(0o755)
    done = subprocess.run(["tar", "czf", "-", f"--format={form}", "."], cwd=tmp_path, capture_output=True, check=True)
    assert read_archive(done.stdout, LIMITS).files == {
        "main.tf": File(b"# main\n"),
        f"modules/{'m' * 90}/ü/run.sh": File(b"#!/bin/sh\n", executable=True),
    }


def test_an_archive_has_no_time_and_no_owner() -> None:
    data = write_archive({"b.tf": File(b"b"), "a.tf": File(b"a", executable=True)})
    assert data[4:8] == bytes(4)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(m.name, m.mode, m.mtime, m.uid, m.gid, m.uname) for m in tar]
    assert members == [("a.tf", 0o755, 0, 0, 0, ""), ("b.tf", 0o644, 0, 0, 0, "")]


def test_a_digest_is_the_sha256() -> None:
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_of_the_mode_only_the_owners_right_to_execute_is_kept() -> None:
    unpacked = read_archive(packed(entry(b"a", mode=0o4755), entry(b"b", mode=0o6644), entry(b"c", mode=0o655)), LIMITS)
    assert unpacked.files == {"a": File(b"", True), "b": File(b"", False), "c": File(b"", False)}


def test_ways_to_write_a_name_are_put_right() -> None:
    assert names(
        entry(b"./", kind=b"5"), entry(b"./a//b/./c.tf"), entry(b"d/", kind=b"5"), entry(b"old/", kind=b"\0")
    ) == ["a/b/c.tf"]


def test_a_prefix_counts_in_ustar_and_not_in_gnu() -> None:
    assert names(entry(b"c.tf", prefix=b"a/b")) == ["a/b/c.tf"]
    assert names(entry(b"c.tf", prefix=b"12345", magic=b"ustar  \0")) == ["c.tf"]


def test_long_names_of_either_kind_are_read() -> None:
    long = "d/" * 70 + "x.tf"
    assert names(entry(b"././@LongLink", long.encode() + b"\0", kind=b"L"), entry(b"cut")) == [long]
    assert names(pax(path=long, mtime="1.5", comment="a=b"), entry(b"cut"), entry(b"z")) == [long, "z"]


def test_global_records_that_name_no_file_are_passed_over() -> None:
    assert names(entry(b"g", pax_records({"comment": "commit id"}), kind=b"g"), entry(b"a.tf")) == ["a.tf"]


def test_what_terraform_makes_itself_is_left_out_and_named() -> None:
    entries = [
        entry(b".terraform/", kind=b"5"), entry(b".terraform/providers/aws", kind=b"2"), entry(b"m/a/.terraform/x"),
        entry(b".git/HEAD"), entry(b"terraform.tfstate"), entry(b"envs/terraform.tfstate.backup"),
        entry(b"terraform.tfstate.1700000000.backup"), entry(b".terraform.tfstate.lock.info"), entry(b"crash.log"),
        entry(b".terraform.lock.hcl"), entry(b"main.tf"), entry(b"x.tfstate/", kind=b"5"), entry(b"x.tfstate/in.tf"),
    ]  # fmt: skip
    unpacked = read_archive(packed(*entries), LIMITS)
    assert list(unpacked.files) == [".terraform.lock.hcl", "main.tf", "x.tfstate/in.tf"]
    assert unpacked.left_out == (
        ".git", ".terraform", ".terraform.tfstate.lock.info", "crash.log", "envs/terraform.tfstate.backup",
        "m/a/.terraform", "terraform.tfstate", "terraform.tfstate.1700000000.backup",
    )  # fmt: skip


def test_what_is_left_out_must_still_have_a_safe_name() -> None:
    with pytest.raises(Invalid, match=r"contains \.\."):
        names(entry(b".terraform/../../etc/passwd"))


# -- hostile archives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"/etc/passwd", "is absolute"), (b"//etc/passwd", "is absolute"), (b"../x", r"contains \.\."),
        (b"a/../../x", r"contains \.\."), (b"a/..", r"contains \.\."), (b"./..", r"contains \.\."),
        (b"..\\x", "backslash"), (b"C:\\x", "backslash"), (b"a\nb", "control character"),
        (b"a\x1b[2J", "control character"), (b"\xc2\x9bx", "control character"), (b"\xff.tf", "not UTF-8"),
        (b"\xed\xa0\x80", "not UTF-8"), (b"\xc0\xae\xc0\xae/x", "not UTF-8"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [b"0", b"5", b"2"])
def test_a_dangerous_name_is_refused(name: bytes, why: str, kind: bytes) -> None:
    with pytest.raises(Invalid, match=why):
        names(entry(name, kind=kind))


@pytest.mark.parametrize(
    ("path", "why"), [("../x", r"\.\."), ("/x", "absolute"), ("a\0b", "control"), ("a\\b", "backslash")]
)
def test_a_dangerous_name_in_pax_records_is_refused(path: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        names(pax(path=path), entry(b"harmless"))


def test_a_dangerous_name_given_as_a_long_name_is_refused() -> None:
    with pytest.raises(Invalid, match=r"contains \.\."):
        names(entry(b"L", b"../x\0", kind=b"L"), entry(b"harmless"))
    with pytest.raises(Invalid, match="control character"):
        names(entry(b"L", b"a\0b\0", kind=b"L"), entry(b"harmless"))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (b"1", "a hard link"), (b"2", "a symbolic link"), (b"3", "a character device"), (b"4", "a block device"),
        (b"6", "a named pipe"), (b"S", "a sparse file"), (b"D", "the unknown kind"), (b"Z", "the unknown kind"),
    ],
)  # fmt: skip
def test_anything_but_a_file_or_directory_is_refused_by_name(kind: bytes, what: str) -> None:
    with pytest.raises(Invalid, match=f"'modules/evil' is .*{what}") as refusal:
        names(entry(b"a.tf"), entry(b"modules/evil", kind=kind))
    assert refusal.value.extras["path"] == "modules/evil"


@pytest.mark.parametrize(
    "entries",
    [
        (entry(b"a"), entry(b"./a")), (entry(b"a"), entry(b"a/", kind=b"5")), (entry(b"a", kind=b"5"), entry(b"a")),
        (entry(b"a"), entry(b"a.b"), entry(b"a/c")), (entry(b"a/b/c"), entry(b"a/b-"), entry(b"a")),
        (entry(b"a"), entry(b"a/b/", kind=b"5")),
    ],
)  # fmt: skip
def test_a_name_that_is_two_things_is_refused(entries: tuple[bytes, ...]) -> None:
    with pytest.raises(Invalid, match="'a' is there twice, or is a file as well as a directory"):
        names(*entries)


def test_a_file_named_like_a_directory_is_refused() -> None:
    with pytest.raises(Invalid, match="a directory's name"):
        names(entry(b"a/", b"data"))
    with pytest.raises(Invalid, match="a directory's name"):
        names(entry(b".", b"data"))


def test_names_are_bounded() -> None:
    assert checked_path("é" * 100, 200) == "é" * 100
    with pytest.raises(Invalid, match="longer than 200 bytes"):
        checked_path("é" * 100 + "x", 200)
    with pytest.raises(Invalid, match="part that is longer than 255"):
        checked_path("a/" + "x" * 256, 1000)


def test_the_number_of_members_is_bounded_and_what_is_left_out_counts() -> None:
    entries = [entry(b".git/%d" % number) for number in range(LIMITS.members)]
    assert read_archive(packed(*entries), LIMITS).left_out == (".git",)
    with pytest.raises(TooLarge, match="over 50 files"):
        read_archive(packed(*entries, entry(b"a.tf")), LIMITS)


def test_a_large_upload_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(TooLarge, match="over 64000 bytes"):
        read_archive(b"x" * 64_001, LIMITS)


def test_a_bomb_is_never_inflated_beyond_the_limit() -> None:
    squeezer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([squeezer.compress(bytes(1_000_000)) for _ in range(50)]) + squeezer.flush()
    assert len(bomb) < LIMITS.compressed_bytes
    tracemalloc.start()
    with pytest.raises(TooLarge, match="over 256000 bytes when uncompressed"):
        read_archive(bomb, LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


def test_the_limit_itself_is_allowed() -> None:
    exact = entry(b"a", bytes(LIMITS.unpacked_bytes - 512 - 1024 - LIMITS.unpacked_bytes % 512))
    padding = bytes(LIMITS.unpacked_bytes - len(exact))
    assert list(read_archive(packed(exact, end=padding), LIMITS).files) == ["a"]
    with pytest.raises(TooLarge):
        read_archive(packed(exact, end=padding + b"\0"), LIMITS)


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


A, B = entry(b"a.tf", b"a"), entry(b"b.tf", b"b")
GOOD = packed(A, B)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"PK\x03\x04 a zip", b"".join([A, B, END]), gzip.compress(b"not a tar" * 100), gzip.compress(b""),
        GOOD[:-1], GOOD[: len(GOOD) // 2], damaged(GOOD, -5), GOOD + b"trailing", GOOD + GOOD, GOOD + b"\0",
        packed(A, END, B), packed(A, B, end=END + b"x"), packed(A, damaged(B, 3)),
        packed(A, B, end=b""), packed(A, B[:512], end=b""), packed(A, B[:700], end=b""),
        packed(header(b"a", size=10_000_000), END),
        packed(header(b"a", size_field=b"\x80" + bytes(10) + b"\x05"), END),
        packed(header(b"a", size_field=b"\xff" * 10 + b"\xfe\x00"), END),
        packed(header(b"a", size_field=b"-0000000777\0"), END),
        packed(header(b"a", size_field=b"0000 000001\0"), bytes(512)),
        packed(entry(b"d", b"x", kind=b"5")), packed(entry(b"l", b"x", kind=b"2")),
        packed(pax(path="a"), pax(path="b"), A), packed(pax(path="a"), entry(b"L", b"b\0", kind=b"L"), A),
        packed(pax(size="2"), A), packed(pax(size="9" * 5000), A), packed(pax(**{"GNU.sparse.major": "1"}), A),
        packed(pax(path="a")), packed(entry(b"g", pax_records({"path": "x"}), kind=b"g"), A),
        packed(entry(b"x", b"99 path=a\n", kind=b"x"), A), packed(entry(b"x", b"0 path=a\n", kind=b"x"), A),
        packed(entry(b"x", b"-9 path=a\n", kind=b"x"), A), packed(entry(b"x", b"9 path=ab", kind=b"x"), A),
        packed(entry(b"x", b"10 pathab\n", kind=b"x"), A),
        packed(entry(b"x", pax_records({"path": "a"}) * 2, kind=b"x"), A),
    ],
    ids=lambda _: "case",  # the bytes hold the time
)  # fmt: skip
def test_what_is_damaged_or_ambiguous_is_not_an_archive(data: bytes) -> None:
    with pytest.raises(BadRequest, match=r"Send a gzip-compressed tar, e\.g\. `tar czf") as refusal:
        read_archive(data, LIMITS)
    assert refusal.value.code == "not_an_archive"


@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for upload in (data, gzip.compress(data), packed(A, data), packed(entry(b"x", data, kind=b"x"), A)):
        try:
            read_archive(upload, LIMITS)
        except (BadRequest, Invalid, TooLarge) as refusal:
            assert refusal.status in {400, 413, 422}  # noqa: PT017  (either outcome is right, a crash is not)


@given(st.integers(0, 1535), st.integers(0, 255))
def test_one_changed_byte_never_loses_a_file_unnoticed(at: int, value: int) -> None:
    tar = bytearray(A[:512] + A[512:] + B[:512])
    tar[at % len(tar)] = value
    try:
        files = read_archive(packed(bytes(tar), B[512:]), LIMITS).files
    except (BadRequest, Invalid):
        return
    assert len(files) == 2


def test_texts_are_the_same_tree() -> None:
    unpacked = read_files({"./main.tf": "# é", "terraform.tfstate": "{}"}, LIMITS)
    assert unpacked.files == {"main.tf": File("# é".encode())}
    assert unpacked.left_out == ("terraform.tfstate",)


@pytest.mark.parametrize("name", ["../x", "/x", "a\\b", "a\0", "", ".", "a/", "\ud800"])
def test_a_text_with_a_dangerous_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        read_files({name: "text"}, LIMITS)


def test_texts_have_the_same_limits() -> None:
    with pytest.raises(TooLarge, match="256000"):
        read_files({"a": "x" * 200_000, "b": "x" * 60_000}, LIMITS)
    with pytest.raises(TooLarge, match="50 files"):
        read_files({str(number): "" for number in range(51)}, LIMITS)
    with pytest.raises(Invalid, match="surrogate"):
        read_files({"a": "\udc80"}, LIMITS)


@pytest.mark.parametrize("path", ["main.tf", "x.tf.json", "envs/prod/main.tf"])
def test_a_root_module_is_found(path: str) -> None:
    for spelling in (path.rpartition("/")[0], f"./{path.rpartition('/')[0]}/."):
        require_root_module({path: File(b"")}, spelling)


@pytest.mark.parametrize(
    "path", ["README.md", "._main.tf", "main.tf~", "#main.tf#", "sub/main.tf", "tf", "main.tfvars"]
)
def test_what_terraform_would_not_read_makes_no_root_module(path: str) -> None:
    with pytest.raises(Invalid, match=r"no \.tf or \.tf\.json file at the top") as refusal:
        require_root_module({path: File(b"")}, "")
    assert refusal.value.code == "no_root_module"


def test_a_missing_root_module_is_looked_for_elsewhere() -> None:
    with pytest.raises(Invalid, match=re.escape("in the working directory 'prod'; there are some in 'envs/prod'")):
        require_root_module({"envs/prod/main.tf": File(b"")}, "prod")
    with pytest.raises(Invalid, match="nor anywhere else"):
        require_root_module({}, "")
    with pytest.raises(Invalid, match=r"contains \.\."):
        require_root_module({"main.tf": File(b"")}, "../x")
