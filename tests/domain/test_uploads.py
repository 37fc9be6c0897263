"""Files that come by a form: what becomes of archives and names, and what hostile ones get."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import pytest

from iac.domain.archives import ArchiveLimits, File, lifted, write_archive
from iac.domain.uploads import Upload, read_uploads
from iac.errors import BadRequest, IacError, Invalid, TooLarge

LIMITS = ArchiveLimits(compressed_bytes=64_000, unpacked_bytes=256_000, members=20, path_bytes=300)
MAIN = File(b'resource "terraform_data" "a" {}\n')


def zipped(
    files: Mapping[str, bytes], *, mode: int = 0o644, flags: int = 0, method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as packed:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            packed.writestr(info, data)
    if not flags:
        return made.getvalue()
    marked = bytearray(made.getvalue())
    for at in (6, marked.index(b"PK\x01\x02") + 8):
        marked[at] |= flags
    return bytes(marked)


def read(*uploads: tuple[str, bytes]) -> Mapping[str, File]:
    return read_uploads([Upload(name, data) for name, data in uploads], LIMITS).files


def test_files_keep_their_names_and_what_is_never_kept_is_left_out() -> None:
    found = read_uploads(
        [Upload("shop/main.tf", MAIN.data), Upload("shop/.terraform/x", b"x"), Upload("shop/a.tfstate", b"{}")], LIMITS
    )
    assert found.files == {"shop/main.tf": MAIN}
    assert found.left_out == ("shop/.terraform", "shop/a.tfstate")


def test_an_archive_is_told_by_its_first_bytes_and_not_by_its_name() -> None:
    assert read(("whatever", write_archive({"main.tf": MAIN}))) == {"main.tf": MAIN}
    assert read(("main.tf", zipped({"main.tf": MAIN.data}))) == {"main.tf": MAIN}


def test_a_zip_keeps_what_may_be_executed_and_leaves_out_what_macos_adds() -> None:
    found = read(("a.zip", zipped({"run.sh": b"#!/bin/sh\n", "__MACOSX/._run.sh": b"x", "empty/": b""}, mode=0o755)))
    assert found == {"run.sh": File(b"#!/bin/sh\n", executable=True)}


def test_an_archive_comes_alone() -> None:
    with pytest.raises(Invalid, match="send it alone"):
        read(("a.zip", zipped({"main.tf": b""})), ("main.tf", b""))


@pytest.mark.parametrize(
    ("data", "refusal", "says"),
    [
        (zipped({"../main.tf": b""}), Invalid, "contains .."),
        (zipped({"/main.tf": b""}), Invalid, "is absolute"),
        (zipped({"main.tf": b"main2.tf"}, mode=0o120777), Invalid, "symbolic link"),
        (zipped({"main.tf": b"x"}, flags=1), Invalid, "encrypted"),
        (zipped({"main.tf": b"x"}, method=zipfile.ZIP_BZIP2), Invalid, "use deflate"),
        (zipped({"main.tf": b"x"})[:-8], BadRequest, "cannot be read"),
        (b"PK\x03\x04" + bytes(40), BadRequest, "cannot be read"),
        (zipped({f"{n}.tf": b"" for n in range(21)}), TooLarge, "20 files"),
        (zipped({"main.tf": bytes(300_000)}), TooLarge, "256000 bytes"),
        (zipped({"a.tf": bytes(200_000), "b.tf": bytes(200_000)}), TooLarge, "256000 bytes"),
        (zipped({"main.tf": bytes(70_000)}, method=zipfile.ZIP_STORED), TooLarge, "64000 bytes"),
    ],
    ids=["dots", "absolute", "link", "encrypted", "bzip2", "cut", "garbage", "many", "large", "together", "packed"],
)
def test_a_zip_that_is_hostile_or_broken_is_refused_with_the_reason(
    data: bytes, refusal: type[IacError], says: str
) -> None:
    with pytest.raises(refusal, match=says):
        read(("a.zip", data))


def test_a_byte_that_was_damaged_on_the_way_is_noticed() -> None:
    data = bytearray(zipped({"main.tf": MAIN.data}, method=zipfile.ZIP_STORED))
    data[data.index(MAIN.data) + 3] ^= 1
    with pytest.raises(BadRequest, match="cannot be read"):
        read(("a.zip", bytes(data)))


@pytest.mark.parametrize(
    ("paths", "directory", "expected"),
    [
        (["shop/main.tf", "shop/files/a.txt"], "", ["main.tf", "files/a.txt"]),
        (["shop/live/main.tf"], "live", ["live/main.tf"]),
        (["main.tf", "shop/a.txt"], "", ["main.tf", "shop/a.txt"]),
        (["a/main.tf", "b/main.tf"], "", ["a/main.tf", "b/main.tf"]),
        (["live/main.tf"], "live", ["live/main.tf"]),
    ],
)
def test_the_one_directory_that_everything_is_in_is_taken_off_where_it_is_in_the_way(
    paths: list[str], directory: str, expected: list[str]
) -> None:
    assert list(lifted(dict.fromkeys(paths, MAIN), directory)) == expected
