"""A directory becomes an archive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iac.cli.packing import pack
from iac.domain.archives import ArchiveLimits, read_archive
from iac.errors import Invalid, TooLarge


def fill(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_the_files_arrive_as_they_are(tmp_path: Path) -> None:
    fill(tmp_path, {"main.tf": "a", "modules/m/x.tf": "b", "run.sh": "c"})
    (tmp_path / "run.sh").chmod(0o755)
    files = read_archive(pack(tmp_path).archive, ArchiveLimits()).files
    assert {path: (file.data, file.executable) for path, file in files.items()} == {
        "main.tf": (b"a", False),
        "modules/m/x.tf": (b"b", False),
        "run.sh": (b"c", True),
    }


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", {"main.tf": "a", "b/c.tf": "c"})
    two = fill(tmp_path / "two", {"b/c.tf": "c", "main.tf": "a"})
    os.utime(two / "main.tf", (1, 1))
    assert pack(one).archive == pack(two).archive


def test_what_is_ignored_stays_here(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "main.tf": "",
            ".git/config": "",
            ".terraform/p": "",
            "terraform.tfstate": "",
            "big/a.iso": "",
            "big/keep.tf": "",
            ".terraformignore": "big/\n!big/keep.tf\n",
        },
    )
    assert pack(tmp_path).files == (".terraformignore", "big/keep.tf", "main.tf")


def test_links_that_stay_inside_are_followed(tmp_path: Path) -> None:
    fill(tmp_path, {"shared/x.tf": "x", "main.tf": ""})
    (tmp_path / "module").symlink_to("shared")
    (tmp_path / "copy.tf").symlink_to(tmp_path / "shared" / "x.tf")
    packed = pack(tmp_path)
    assert packed.files == ("copy.tf", "main.tf", "module/x.tf", "shared/x.tf")


@pytest.mark.parametrize("target", ["../outside.tf", "../outside", "/etc/hostname", ".."])
def test_a_link_that_points_outside_is_refused(tmp_path: Path, target: str) -> None:
    fill(tmp_path, {"outside.tf": "secret", "outside/x.tf": "secret"})
    root = fill(tmp_path / "root", {"main.tf": ""})
    (root / "link").symlink_to(target)
    with pytest.raises(Invalid, match=r"link is a link to .*outside"):
        pack(root)


def test_a_link_through_a_directory_that_points_outside_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"outside/x.tf": "secret"})
    root = fill(tmp_path / "root", {"main.tf": ""})
    (root / "a").symlink_to("../outside")
    (root / "b.tf").symlink_to("a/x.tf")
    (root / ".terraformignore").write_text("/a\n")
    with pytest.raises(Invalid, match=r"b\.tf is a link to a/x\.tf, which is outside"):
        pack(root)


def test_a_link_to_nothing_is_refused_unless_it_is_ignored(tmp_path: Path) -> None:
    fill(tmp_path, {"main.tf": ""})
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(Invalid, match="not there"):
        pack(tmp_path)
    (tmp_path / ".terraformignore").write_text("gone\n!keep\n")
    assert pack(tmp_path).files == (".terraformignore", "main.tf")


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"main.tf": ""})
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(Invalid, match="self"):
        pack(tmp_path)


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"a/main.tf": ""})
    (tmp_path / "a" / "up").symlink_to("..")
    with pytest.raises(Invalid, match="a directory that it is in itself"):
        pack(tmp_path)


def test_a_pipe_is_refused_and_not_read(tmp_path: Path) -> None:
    fill(tmp_path, {"main.tf": ""})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Invalid, match="neither a file nor a directory"):
        pack(tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"main.tf": ""})
    with open(os.fsencode(tmp_path) + b"/\xff.tf", "wb"):
        pass
    with pytest.raises(Invalid, match="name"):
        pack(tmp_path)


def test_too_much_says_where_it_is(tmp_path: Path) -> None:
    fill(tmp_path, {"main.tf": "", "cache/a": "x" * 600, "cache/b": "y" * 600})
    with pytest.raises(TooLarge, match=r"over 1,000 bytes.*cache/"):
        pack(tmp_path, ArchiveLimits(unpacked_bytes=1000))
    with pytest.raises(TooLarge, match="over 2 files"):
        pack(tmp_path, ArchiveLimits(members=2))


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="Cannot read"):
        pack(tmp_path / "nowhere")
    with pytest.raises(Invalid, match="is no directory"):
        pack(fill(tmp_path, {"main.tf": ""}) / "main.tf")
