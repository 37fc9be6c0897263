"""What viewers of long logs ask for: the index of rows, a search, the whole log as a file."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest

from iac.store import log_files
from iac.store.log_reading import STEP
from tests.web.clients import PLAIN, Served

MAIN = {"main.tf": 'resource "terraform_data" "a" { input = "x" }\n'}
LONG = b"".join(b"\x1b[1mline %d\x1b[0m is here\n" % n for n in range(60_000))


def with_log(api: Served, log: bytes) -> int:
    """A task that is over and has this log; its bytes are put where the server keeps them."""
    task = api.operator.task(api.admin.workspace(MAIN, execution_mode="agent"), "plan")
    api.operator.post(f"/tasks/{task}/cancel")
    add_stream(api, task, log)
    return task


def add_stream(api: Served, task: int, log: bytes) -> Path:
    """What one more assignment wrote; where its bytes lie."""
    made = api.rows(
        """INSERT INTO log_stream (task_id, fence, phase, length, state, sha256, persisted, verified, closed_at)
           VALUES ($1, nextval('fence'), 'plan', $2, 'complete', $3, $2, true, now()) RETURNING fence, created_at""",
        task,
        len(log),
        hashlib.sha256(log).hexdigest(),
    )[0]
    root = api.running.settings.data_dir / "logs"
    path = log_files.path_of(root, log_files.Key(task, made["fence"]), made["created_at"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log)
    return path


@pytest.fixture(scope="module")
def long(api: Served) -> int:
    return with_log(api, LONG)


@pytest.fixture
def expired(api: Served) -> int:
    task = with_log(api, b"old\n")
    api.sql("UPDATE log_stream SET expired_at = now() WHERE task_id = $1", task)
    return task


def indexed(api: Served, task: int, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = api.viewer.get(f"/tasks/{task}/logs/index", params=params)
    return found


def test_index_log_200_tells_where_pages_begin(api: Served, long: int) -> None:
    index = indexed(api, long)
    assert (index["length"], index["total"], index["row_count"], index["line_count"]) == (len(LONG),) * 2 + (
        60_000,
    ) * 2
    assert index["offsets"][0] == index["rows"][0] == index["lines"][0] == 0
    for offset, row in zip(index["offsets"][1:], index["rows"][1:], strict=True):
        assert LONG[:offset].count(b"\n") == row
        assert LONG[offset - 1 : offset] == b"\n"
    assert len(index["offsets"]) > 20
    assert index["continued"] == []


def test_index_log_200_tells_only_what_is_not_known_yet(api: Served, long: int) -> None:
    whole = indexed(api, long)["offsets"]
    assert indexed(api, long, after=whole[7])["offsets"] == whole[8:]


def test_index_log_200_has_stages_and_the_first_error_of_a_real_task(api: Served) -> None:
    ws = api.admin.workspace(MAIN, terraform_version=PLAIN)
    task = api.operator.task(ws, "plan")
    api.operator.until(task, "succeeded")
    index, log = indexed(api, task), api.viewer.log(task)
    stages = [(each["stage"], each["edge"]) for each in index["stages"]]
    assert ("planning", "begin") in stages
    assert ("planning", "end") in stages
    for each in index["stages"]:
        assert log[each["offset"] :].startswith(b"\x1b[2m" + "──".encode())
        assert log[: each["offset"]].count(b"\n") == each["line"] == each["row"]
    assert index["first_error"] is None


def test_index_log_200_of_a_log_that_has_not_begun(api: Served) -> None:
    index = indexed(api, with_log(api, b""))
    assert (index["length"], index["offsets"], index["row_count"]) == (0, [0], 0)


def test_index_log_200_goes_on_with_the_log_and_begins_anew_when_bytes_were_lost(api: Served) -> None:
    task = with_log(api, LONG)
    api.sql("UPDATE log_stream SET length = 1000, persisted = 0 WHERE task_id = $1", task)
    assert indexed(api, task)["line_count"] == LONG[:1000].count(b"\n") + 1
    api.sql("UPDATE log_stream SET length = $2 WHERE task_id = $1", task, len(LONG))
    assert indexed(api, task)["line_count"] == 60_000
    api.sql("UPDATE log_stream SET length = 500, persisted = 0 WHERE task_id = $1", task)
    assert indexed(api, task)["line_count"] == LONG[:500].count(b"\n") + 1


def test_index_log_410_for_a_log_that_was_deleted_because_it_was_old(api: Served, expired: int) -> None:
    api.viewer.get(f"/tasks/{expired}/logs/index", 410, code="log_expired")


def searched(api: Served, task: int, text: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = api.viewer.get(f"/tasks/{task}/logs/search", params={"text": text, **params})
    return found


def test_search_log_200_finds_what_people_see(api: Served, long: int) -> None:
    found = searched(api, long, "LINE 31415 is")
    assert found == {"matches": [LONG.index(b"line 31415")], "next_offset": None, "total": len(LONG)}
    assert searched(api, long, "line 60000")["matches"] == []


def test_search_log_200_goes_on_piece_by_piece(api: Served, long: int) -> None:
    found: dict[str, Any] = {"next_offset": 0}
    matches, asked = list[int](), 0
    while found["next_offset"] is not None:
        found = searched(api, long, "7 is", offset=found["next_offset"], span=300_000)
        matches, asked = matches + found["matches"], asked + 1
    assert asked > 3
    assert len(matches) == 6000
    assert matches == sorted(set(matches))
    assert all(LONG[at:].startswith(b"7\x1b[0m is") for at in matches)


def test_search_log_200_tells_what_it_has_found_before_it_has_read_the_rest(api: Served) -> None:
    log = b"hay\n" * 1000 + b"needle one\n" + b"hay\n" * (STEP // 2) + b"needle two\n"
    task = with_log(api, log)
    first = searched(api, task, "needle")
    assert first["matches"] == [log.index(b"needle")]
    rest = searched(api, task, "needle", offset=first["next_offset"])
    assert (rest["matches"], rest["next_offset"]) == ([log.rindex(b"needle")], None)


@pytest.mark.parametrize("gone", [(), (0,), (1,), (0, 1, 2)], ids=str)
def test_a_log_of_several_assignments_is_one_wherever_its_bytes_lie(api: Served, gone: tuple[int, ...]) -> None:
    streams = [LONG[:700_000], b"the nee", b"dle is here\n" + LONG[:900_000] + b"\n"]
    task = with_log(api, streams[0])
    [root] = {add_stream(api, task, stream).parent for stream in streams[1:]}
    fences = [row["fence"] for row in api.rows("SELECT fence FROM log_stream WHERE task_id = $1 ORDER BY fence", task)]
    for n in gone:
        api.sql("INSERT INTO log_chunk (task_id, fence, start, length, data) VALUES ($1, $2, 0, $3, $4)",
                task, fences[n], len(streams[n]), gzip.compress(streams[n]))  # fmt: skip
        (root / f"{task}-{fences[n]}.log").unlink()
    whole = b"".join(streams)
    index = indexed(api, task)
    assert (index["length"], index["line_count"]) == (len(whole), whole.count(b"\n"))
    assert searched(api, task, "the needle") == {
        "matches": [whole.index(b"the needle")], "next_offset": None, "total": len(whole)}  # fmt: skip


@pytest.mark.parametrize("params", [{}, {"text": ""}, {"text": "a\nb"}, {"text": "a", "span": 0}, {"text": "x" * 501}])
def test_search_log_422_for_what_cannot_be_searched(api: Served, long: int, params: dict[str, Any]) -> None:
    api.viewer.get(f"/tasks/{long}/logs/search", 422, params=params)


def test_search_log_410_for_a_log_that_was_deleted_because_it_was_old(api: Served, expired: int) -> None:
    api.viewer.get(f"/tasks/{expired}/logs/search", 410, code="log_expired", params={"text": "a"})


def test_download_log_200_is_the_whole_log_as_a_file_that_no_browser_shows(api: Served, long: int) -> None:
    answer = api.viewer.send("GET", f"/tasks/{long}/logs/raw")
    assert answer.content == LONG
    assert answer.headers["Content-Disposition"] == f'attachment; filename="task-{long}.log"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_download_log_410_for_a_log_that_was_deleted_because_it_was_old(api: Served, expired: int) -> None:
    api.viewer.get(f"/tasks/{expired}/logs/raw", 410, code="log_expired")
