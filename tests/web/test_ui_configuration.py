"""A new workspace and its configuration, given in the browser: uploads, files written, versions used again."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from iac.domain.archives import ArchiveLimits, File, read_archive, write_archive
from tests.web.clients import Served
from tests.web.requests_of import fresh
from tests.web.visitors import Visitor, visitor

MAIN = b'resource "terraform_data" "a" {\n  input = "one"\n}\n'
FORM = {"HX-Trigger": "sheet-form"}


@pytest.fixture(scope="module")
def anna(api: Served) -> Iterator[Visitor]:
    with visitor(api.url) as made:
        yield made


@pytest.fixture
def ws(api: Served) -> str:
    """The name of a workspace that has nothing yet."""
    return api.admin.workspace()


def base_of(api: Served, ws: str) -> str:
    return api.admin.get(f"/workspaces/{ws}")["configuration_id"] or ""


def files_of(api: Served, ws: str) -> dict[str, bytes]:
    return {path: file.data for path, file in tree_of(api, ws).items()}


def tree_of(api: Served, ws: str) -> dict[str, File]:
    found = api.admin.http.get(f"/api/v1/workspaces/{ws}/configurations/{base_of(api, ws)}/download")
    return read_archive(found.content, ArchiveLimits()).files


def upload(api: Served, who: Visitor, ws: str, *files: tuple[str, bytes], **form: str) -> httpx.Response:
    sent = [("files", (name, data, "application/octet-stream")) for name, data in files]
    said = {"base": base_of(api, ws), **form}
    return who.asks(f"/workspaces/{ws}/configuration/upload", data=said, files=sent, headers=FORM)


def write(api: Served, who: Visitor, ws: str, **form: str) -> httpx.Response:
    return who.asks(f"/workspaces/{ws}/configuration/edit", data={"base": base_of(api, ws), **form}, headers=FORM)


def refusal(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.headers["HX-Trigger"])["refused"]
    return found


def zip_of(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return made.getvalue()


# A new workspace


def test_a_workspace_is_made_with_all_that_the_form_asks(api: Served, anna: Visitor) -> None:
    name = fresh("full")
    form = {
        "name": name,
        "engine": "tofu",
        "terraform_version": ">= 1.6",
        "tags": "env=prod\nteam=web",
        "auto_apply": "true",
    }
    answer = anna.asks("/workspaces", data={**form, "working_directory": "live", "description": "d"}, headers=FORM)
    assert answer.headers["HX-Redirect"] == f"/workspaces/{name}"
    made = api.admin.get(f"/workspaces/{name}")
    assert (made["engine"], made["tags"], made["auto_apply"], made["working_directory"], made["execution_mode"]) == (
        "tofu", {"env": "prod", "team": "web"}, True, "live", "local",
    )  # fmt: skip


def test_a_workspace_in_a_pool_is_allowed_there_at_once(api: Served, anna: Visitor) -> None:
    pool, name = api.admin.post("/agent-pools", 201, json={"name": fresh("pool")}), fresh("pooled")
    assert pool["id"] in anna.get("/new-workspace").text
    anna.asks("/workspaces", data={"name": name, "execution_mode": "agent", "pool_id": pool["id"]}, headers=FORM)
    made = api.admin.get(f"/workspaces/{name}")
    assert (made["execution_mode"], made["pool_name"]) == ("agent", pool["name"])
    verbs = {each["verb"] for each in api.admin.get("/audit", params={"subject": pool["id"]})["items"]}
    assert "pool.allow" in verbs


def test_a_pool_is_asked_for_and_an_operator_cannot_allow_one(api: Served, anna: Visitor) -> None:
    pool, name = api.admin.post("/agent-pools", 201, json={"name": fresh("pool")}), fresh("pooled")
    form = {"name": name, "execution_mode": "agent"}
    assert refusal(anna.asks("/workspaces", data=form, headers=FORM))["field"] == "pool_id"
    with visitor(api.url, api.operator.http.headers["Authorization"].removeprefix("Bearer ")) as operator:
        page = operator.get("/new-workspace").text
        assert pool["id"] not in page
        assert "until an admin has allowed a pool" in page
        refused = operator.asks("/workspaces", data={**form, "pool_id": pool["id"]}, headers=FORM)
        assert refused.status_code == 403
    assert not api.admin.get("/workspaces", params={"search": name})["items"]


def test_of_a_workspace_whose_pool_is_not_there_nothing_remains(api: Served, anna: Visitor) -> None:
    name = fresh("pooled")
    refused = anna.asks(
        "/workspaces", data={"name": name, "execution_mode": "agent", "pool_id": "pool-x"}, headers=FORM
    )
    assert refused.status_code == 404
    assert not api.admin.get("/workspaces", params={"search": name})["items"]


def test_a_new_workspace_says_what_comes_next(anna: Visitor, ws: str) -> None:
    for page in ("", "/configuration"):
        html = anna.get(f"/workspaces/{ws}{page}").text
        assert f'href="/workspaces/{ws}/configuration/upload"' in html
        assert f'href="/workspaces/{ws}/configuration/edit"' in html
        assert f"iac run plan -w {ws}" in html


# Uploads


def test_files_become_the_configuration(api: Served, anna: Visitor, ws: str) -> None:
    answer = upload(api, anna, ws, ("main.tf", MAIN), ("vars.tf", b""), message="first")
    assert answer.headers["HX-Redirect"] == f"/workspaces/{ws}/configuration"
    assert files_of(api, ws) == {"main.tf": MAIN, "vars.tf": b""}
    assert api.admin.get(f"/workspaces/{ws}/configurations")["items"][0]["message"] == "first"


@pytest.mark.parametrize(
    "packed", [zip_of({"shop/main.tf": MAIN}), write_archive({"shop/main.tf": File(MAIN)})], ids=["zip", "tar"]
)
def test_an_archive_of_one_directory_is_unpacked(api: Served, anna: Visitor, ws: str, packed: bytes) -> None:
    upload(api, anna, ws, ("shop.bin", packed))
    assert files_of(api, ws) == {"main.tf": MAIN}
    assert api.admin.get(f"/workspaces/{ws}/configurations")["items"][0]["message"] == "Uploaded shop.bin"


def test_an_upload_replaces_what_is_there_or_joins_it(api: Served, anna: Visitor, ws: str) -> None:
    upload(api, anna, ws, ("main.tf", MAIN), ("old.tf", b""))
    upload(api, anna, ws, ("new.tf", b""), keep="true")
    assert set(files_of(api, ws)) == {"main.tf", "new.tf", "old.tf"}
    upload(api, anna, ws, ("main.tf", MAIN))
    assert set(files_of(api, ws)) == {"main.tf"}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "Choose files"),
        ([("main.tf", MAIN), ("a.zip", zip_of({"main.tf": MAIN}))], "send it alone"),
        ([("a.zip", zip_of({"main.tf": MAIN})[:-9])], "cannot be read"),
        ([("notes.txt", b"x")], "There is no .tf"),
        ([("../main.tf", MAIN)], "contains .."),
    ],
    ids=["nothing", "both", "broken", "no-root", "outside"],
)
def test_what_cannot_be_a_configuration_is_refused_in_words(
    api: Served, anna: Visitor, ws: str, files: list[tuple[str, bytes]], says: str
) -> None:
    refused = upload(api, anna, ws, *files)
    assert refused.status_code == 422, refused.headers
    assert says in refusal(refused)["says"]
    assert base_of(api, ws) == ""


def test_an_upload_of_some_megabytes_is_taken_and_a_larger_one_is_refused(api: Served, anna: Visitor, ws: str) -> None:
    noise = bytes(range(256)) * 4 * 1024 * 12
    assert upload(api, anna, ws, ("main.tf", MAIN), ("blob.bin", noise)).status_code == 204
    refused = upload(api, anna, ws, ("main.tf", MAIN), ("blob.bin", bytes(34 * 1024 * 1024)))
    assert refused.status_code == 413
    assert len(files_of(api, ws)["blob.bin"]) == len(noise)


def test_the_commands_for_a_terminal_name_this_server_and_show_no_token(api: Served, anna: Visitor, ws: str) -> None:
    html = anna.get(f"/workspaces/{ws}/configuration/upload").text
    held = api.admin.get(f"/workspaces/{ws}")
    assert f"{api.url}/api/v1/workspaces/{held['id']}/configuration" in html
    assert "$IAC_TOKEN" in html


# Files


def test_the_first_file_is_suggested_and_can_be_planned(api: Served, anna: Visitor, ws: str) -> None:
    html = anna.get(f"/workspaces/{ws}/configuration/edit").text
    assert 'value="main.tf"' in html
    assert "terraform_data" in html
    answer = write(api, anna, ws, path="main.tf", text=MAIN.decode().replace("\n", "\r\n"))
    assert answer.headers["HX-Redirect"] == f"/workspaces/{ws}/configuration?file=main.tf"
    assert files_of(api, ws) == {"main.tf": MAIN}
    assert api.admin.until(api.admin.task(ws, "plan"), "succeeded", "failed")["status"] == "succeeded"


def test_a_file_is_changed_and_renamed_and_what_may_be_executed_stays_so(api: Served, anna: Visitor, ws: str) -> None:
    archive = write_archive({"main.tf": File(MAIN), "run.sh": File(b"x", executable=True)})
    upload(api, anna, ws, ("a.tar.gz", archive))
    edit = anna.get(f"/workspaces/{ws}/configuration/edit?file=run.sh").text
    assert re.search(r"<textarea[^>]*>\nx</textarea>", edit)
    write(api, anna, ws, file="run.sh", path="bin/run.sh", text="y")
    assert tree_of(api, ws)["bin/run.sh"] == File(b"y", executable=True)
    assert set(files_of(api, ws)) == {"bin/run.sh", "main.tf"}


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"path": "main.tf", "text": ""}, (422, "path")),
        ({"path": "../a.tf", "text": ""}, (422, "path")),
        ({"path": "  ", "text": ""}, (422, "path")),
        ({"path": "long.tf", "text": "x" * (1024 * 1024 + 1)}, (422, "text")),
        ({"path": "a.tf", "text": "", "file": "gone.tf"}, (404, "")),
        ({"path": "a.tf", "text": "", "base": "cv-before"}, (409, "")),
        ({"path": "live", "text": "", "file": "main.tf"}, (422, "working_directory")),
    ],
    ids=["there", "outside", "nameless", "long", "gone", "stale", "no-root"],
)
def test_a_file_that_cannot_be_saved_is_refused_with_its_field(
    api: Served, anna: Visitor, ws: str, form: dict[str, str], told: tuple[int, str]
) -> None:
    upload(api, anna, ws, ("main.tf", MAIN))
    refused = write(api, anna, ws, **form)
    assert (refused.status_code, refusal(refused)["field"]) == told
    assert files_of(api, ws) == {"main.tf": MAIN}


def test_who_was_slower_loses_nothing_of_the_other(api: Served, anna: Visitor, ws: str) -> None:
    upload(api, anna, ws, ("main.tf", MAIN))
    seen = base_of(api, ws)
    write(api, anna, ws, file="main.tf", path="main.tf", text="# mine\n")
    refused = write(api, anna, ws, file="main.tf", path="main.tf", text="# yours\n", base=seen)
    assert "Another version" in refusal(refused)["says"]
    assert files_of(api, ws)["main.tf"] == b"# mine\n"


def test_a_binary_file_is_not_offered_for_editing(api: Served, anna: Visitor, ws: str) -> None:
    upload(api, anna, ws, ("main.tf", MAIN), ("logo.png", b"\x89PNG\0\xff"))
    assert "/configuration/edit?" not in anna.get(f"/workspaces/{ws}/configuration?file=logo.png").text
    assert anna.get(f"/workspaces/{ws}/configuration/edit?file=logo.png").status_code == 422
    assert "/configuration/edit?file=main.tf" in anna.get(f"/workspaces/{ws}/configuration").text


def test_a_file_is_removed_and_an_old_version_is_used_again(api: Served, anna: Visitor, ws: str) -> None:
    upload(api, anna, ws, ("main.tf", MAIN), ("extra.tf", b"# extra\n"), message="both")
    before = base_of(api, ws)
    path = f"/workspaces/{ws}/configuration"
    assert "extra.tf" in anna.get(f"{path}/remove?file=extra.tf").text
    anna.asks(f"{path}/remove", data={"file": "extra.tf", "base": before})
    assert set(files_of(api, ws)) == {"main.tf"}
    old = anna.get(f"{path}?{urlencode({'version': before})}").text
    assert "older version" in old
    assert "/configuration/edit?" not in old
    anna.asks(f"{path}/use", data={"version": before, "base": base_of(api, ws)})
    assert set(files_of(api, ws)) == {"extra.tf", "main.tf"}
    assert "both" in api.admin.get(f"/workspaces/{ws}/configurations")["items"][0]["message"]


def test_without_scripts_a_form_is_a_page_and_leads_on(api: Served, anna: Visitor, ws: str) -> None:
    sent = {"files": ("main.tf", MAIN, "text/plain")}
    form = {"csrf": anna.csrf, "base": ""}
    answer = anna.post(f"/workspaces/{ws}/configuration/upload", data=form, files=sent)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/workspaces/{ws}/configuration")
    assert files_of(api, ws) == {"main.tf": MAIN}
