"""Uploading a workspace's configuration, over HTTP."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Any

import pytest

from iac.domain.archives import ArchiveLimits, read_archive
from tests.web.clients import PLAIN, Json, Served

GZIP = {"Content-Type": "application/gzip"}
MAIN = 'resource "terraform_data" "a" {}\n'


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.type, header.size, header.linkname = kind, len(data), link
    return header, data


def packed(*members: tuple[tarfile.TarInfo, bytes], mtime: int = 0) -> bytes:
    """A tar.gz like one that a careless or a hostile client sends."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        for header, data in members:
            header.mtime = mtime
            tar.addfile(header, io.BytesIO(data))
    return out.getvalue()


def put(api: Served, ws: str, data: bytes, status: int = 200, **more: Json) -> Json:
    return api.operator.put(f"/workspaces/{ws}/configuration", status, content=data, headers=GZIP, **more)


def test_put_configuration_200_an_archive(api: Served) -> None:
    ws = api.admin.workspace()
    junk = member(".terraform/providers/x", b"x"), member("terraform.tfstate", b"{}"), member(".git/HEAD", b"ref")
    archive = packed(member("main.tf", MAIN.encode()), member("sub/mod.tf", b""), *junk)
    made = put(api, ws, archive, params={"message": "from CI"})
    assert (made["kind"], made["message"], made["created_by"]) == ("archive", "from CI", "operator")
    assert made["files"] == ["main.tf", "sub/mod.tf"]
    assert set(made["left_out"]) >= {".terraform", ".git"}
    assert made["size"] > 0
    assert api.viewer.get(f"/workspaces/{ws}")["configuration_id"] == made["id"]


@pytest.mark.parametrize(
    "kind", ["application/gzip", "application/x-gzip", "application/x-tar", "application/octet-stream"]
)
def test_put_configuration_200_under_each_name_for_an_archive(api: Served, kind: str) -> None:
    ws = api.admin.workspace()
    api.operator.put(
        f"/workspaces/{ws}/configuration",
        content=packed(member("main.tf", b"")),
        headers={"Content-Type": kind},
    )


def test_put_configuration_200_files(api: Served) -> None:
    ws = api.admin.workspace()
    body = {"files": {"main.tf": MAIN, "modules/a/main.tf.json": "{}"}, "message": "by hand"}
    made = api.operator.put(f"/workspaces/{ws}/configuration", json=body)
    assert (made["kind"], made["files"], made["left_out"]) == ("files", ["main.tf", "modules/a/main.tf.json"], [])
    assert made["message"] == "by hand"


def test_put_configuration_200_tf_code(api: Served) -> None:
    ws = api.admin.workspace(terraform_version=PLAIN)
    tf_code = {"resource": {"terraform_data": {"a": {"input": "${1 + 1}"}}}, "locals": {}}
    made = api.operator.put(f"/workspaces/{ws}/configuration", json={"tf_code": tf_code})
    assert (made["kind"], made["files"]) == ("tf_code", ["main.tf.json"])
    api.operator.until(api.operator.task(ws, "plan"), "succeeded")


def test_the_same_upload_twice_is_the_same_version(api: Served) -> None:
    ws = api.admin.workspace()
    members = [member("main.tf", MAIN.encode()), member("b.tf", b"")]
    first = put(api, ws, packed(*members))
    # Another order and other times: what counts are the files.
    assert put(api, ws, packed(*reversed(members), mtime=1_700_000_000))["id"] == first["id"]
    assert len(api.viewer.get(f"/workspaces/{ws}/configurations")["items"]) == 1
    assert put(api, ws, packed(member("main.tf", b"# new"), members[1]))["id"] != first["id"]
    # Back to what it was is a new version: the newest is the one that counts.
    assert put(api, ws, packed(*members))["id"] != first["id"]
    assert len(api.viewer.get(f"/workspaces/{ws}/configurations")["items"]) == 3


def test_tf_code_that_differs_only_in_the_order_of_its_keys_is_the_same_version(api: Served) -> None:
    ws = api.admin.workspace()
    path = f"/workspaces/{ws}/configuration"
    first = api.operator.put(path, json={"tf_code": {"locals": {"a": 1, "b": 2}}})
    assert api.operator.put(path, json={"tf_code": {"locals": {"b": 2, "a": 1}}})["id"] == first["id"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_an_archive"),
        (b"not a tar", "not_an_archive"),
        (gzip.compress(b"not a tar inside"), "not_an_archive"),
        (packed(member("main.tf", b"x" * 5000))[:-40], "not_an_archive"),
        (packed(member("main.tf")) + b"more", "not_an_archive"),
    ],
    ids=["empty", "text", "gzip-of-text", "cut-short", "trailer"],
)
def test_put_configuration_400_for_bytes_that_are_no_archive(api: Served, data: bytes, code: str) -> None:
    error = put(api, api.admin.workspace(), data, 400)
    assert error["code"] == code
    assert len(error["message"]) > 20


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (member("../evil.tf", b"x"), "../evil.tf"),
        (member("a/../../evil.tf", b"x"), "a/../../evil.tf"),
        (member("/etc/evil.tf", b"x"), "/etc/evil.tf"),
        (member("link", kind=tarfile.SYMTYPE, link="/etc/passwd"), "link"),
        (member("hard", kind=tarfile.LNKTYPE, link="main.tf"), "hard"),
        (member("dev", kind=tarfile.CHRTYPE), "dev"),
        (member("blk", kind=tarfile.BLKTYPE), "blk"),
        (member("pipe", kind=tarfile.FIFOTYPE), "pipe"),
        (member("main.tf", b"twice"), "main.tf"),
        (member("main.tf/below", b"x"), "main.tf"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_put_configuration_422_names_the_member_that_is_not_taken(
    api: Served, bad: tuple[tarfile.TarInfo, bytes], named: str
) -> None:
    ws = api.admin.workspace()
    error = put(api, ws, packed(member("main.tf", b""), bad), 422)
    assert named in error["path"] or named in error["message"]
    assert api.viewer.get(f"/workspaces/{ws}")["configuration_id"] is None


@pytest.mark.parametrize("name", ["../evil.tf", "/abs.tf", "a\\b.tf", "a\nb.tf", "x/../../y.tf", "a" * 256 + ".tf", ""])
def test_put_configuration_422_names_the_file_that_is_not_taken(api: Served, name: str) -> None:
    ws = api.admin.workspace()
    error = api.operator.put(f"/workspaces/{ws}/configuration", 422, json={"files": {"main.tf": "", name: ""}})
    assert error["code"] == "invalid"
    assert error["path"]


def test_put_configuration_422_without_a_tf_file(api: Served) -> None:
    ws = api.admin.workspace()
    assert put(api, ws, packed(member("README.md", b"x")), 422)["code"] == "no_root_module"
    put_json(api, ws, {"files": {"README.md": ""}}, "no_root_module")
    put_json(api, ws, {"files": {}}, "no_root_module")


def test_put_configuration_422_without_a_tf_file_in_the_working_directory(api: Served) -> None:
    ws = api.admin.workspace(working_directory="live/eu")
    error = put_json(api, ws, {"files": {"main.tf": "", "live/us/main.tf": ""}}, "no_root_module")
    assert "live/eu" in error["message"]
    assert "live/us" in error["message"]
    api.operator.put(f"/workspaces/{ws}/configuration", json={"files": {"live/eu/main.tf": ""}})


def test_put_configuration_422_for_files_and_tf_code_together_or_neither(api: Served) -> None:
    ws = api.admin.workspace()
    put_json(api, ws, {"files": {"main.tf": ""}, "tf_code": {"locals": {}}}, "invalid")
    put_json(api, ws, {}, "invalid")
    put_json(api, ws, {"message": "nothing"}, "invalid")


def test_put_configuration_422_names_the_place_in_tf_code(api: Served) -> None:
    ws = api.admin.workspace()
    assert put_json(api, ws, {"tf_code": {"resource": {"terraform_data": "text"}}}, "invalid")["path"].startswith(
        "$.tf_code.resource"
    )


def put_json(api: Served, ws: str, body: dict[str, Any], code: str) -> Json:
    error = api.operator.put(f"/workspaces/{ws}/configuration", 422, json=body)
    assert error["code"] == code, error
    return error


def test_put_configuration_413_for_an_archive_that_is_larger_inside(api: Served) -> None:
    limit = ArchiveLimits().unpacked_bytes
    # A gzip of zeros, made without ever holding the zeros: 256 MiB and a little more.
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as zipped:
        for _ in range(limit // (1 << 20) + 1):
            zipped.write(bytes(1 << 20))
    error = put(api, api.admin.workspace(), out.getvalue(), 413)
    assert (error["code"], error["limit"]) == ("too_large", limit)


def test_list_configurations_200_pages_newest_first(api: Served) -> None:
    ws = api.admin.workspace()
    made = [
        api.operator.put(f"/workspaces/{ws}/configuration", json={"files": {"main.tf": f"# {n}"}})["id"]
        for n in range(7)
    ]
    pages = list(api.viewer.pages(f"/workspaces/{ws}/configurations", limit=3))
    assert [len(page["items"]) for page in pages] == [3, 3, 1]
    assert [item["id"] for page in pages for item in page["items"]] == made[::-1]


def test_download_configuration_200_is_what_was_sent(api: Served) -> None:
    files = {"main.tf": MAIN, "m/a.tf": "# in a directory\n"}
    ws = api.admin.workspace(files)
    version = api.viewer.get(f"/workspaces/{ws}")["configuration_id"]
    answer = api.viewer.send("GET", f"/workspaces/{ws}/configurations/{version}/download")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].endswith(f'{version}.tar.gz"')
    unpacked = read_archive(answer.content, ArchiveLimits()).files
    assert {path: file.data.decode() for path, file in unpacked.items()} == files


def test_download_configuration_200_for_tf_code_is_the_files_that_it_becomes(api: Served) -> None:
    ws = api.admin.workspace()
    code = {"resource": {"terraform_data": {"a": {"input": 1}}}}
    version = api.admin.put(f"/workspaces/{ws}/configuration", json={"tf_code": code})["id"]
    answer = api.viewer.send("GET", f"/workspaces/{ws}/configurations/{version}/download")
    assert list(read_archive(answer.content, ArchiveLimits()).files) == ["main.tf.json"]


def test_download_configuration_404_for_one_of_another_workspace(api: Served) -> None:
    one, other = api.admin.workspace({"main.tf": ""}), api.admin.workspace({"main.tf": ""})
    version = api.admin.get(f"/workspaces/{one}")["configuration_id"]
    api.viewer.get(f"/workspaces/{other}/configurations/{version}/download", 404)


def test_a_cursor_of_another_workspace_is_refused(api: Served) -> None:
    one, other = api.admin.workspace({"main.tf": ""}), api.admin.workspace({"main.tf": ""})
    cursor = api.admin.get(f"/workspaces/{one}")["configuration_id"]
    error = api.viewer.get(f"/workspaces/{other}/configurations", 422, params={"cursor": cursor})
    assert error["path"] == "$.cursor"


def test_a_task_uses_the_configuration_that_was_there_when_it_was_created(api: Served) -> None:
    ws = api.admin.workspace({"main.tf": MAIN})
    api.admin.post(f"/workspaces/{ws}/lock")
    task = api.operator.task(ws, "plan_and_apply")
    other = {"main.tf": 'resource "terraform_data" "other" {}'}
    api.operator.put(f"/workspaces/{ws}/configuration", json={"files": other})
    api.admin.post(f"/workspaces/{ws}/unlock")
    api.operator.until(task, "planned")
    changes = api.viewer.get(f"/tasks/{task}/changes")["items"]
    assert [change["address"] for change in changes] == ["terraform_data.a"]
    api.operator.post(f"/tasks/{task}/discard")
