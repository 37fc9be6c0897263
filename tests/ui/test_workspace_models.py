"""The models behind a workspace's page: words, addresses, filters, and what somebody sent as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.archives import File
from iac.domain.records import Configuration, Lock, StateVersion, Task, Variable, Workspace
from iac.domain.scheduling import Wait
from iac.domain.work import PlanFacts
from iac.errors import Invalid
from iac.web.ui.models.configuration_view import (
    MOST_SHOWN,
    ConfigurationQuery,
    WorkspaceConfiguration,
    chosen_file,
    file_view,
    workspace_configuration,
)
from iac.web.ui.models.highlighting import LONGEST, highlighted
from iac.web.ui.models.parts import shape_of
from iac.web.ui.models.task_rows import Beside, task_rows
from iac.web.ui.models.workspace import Facts, Rights, head_of, size_of, workspace_overview
from iac.web.ui.models.workspace_inputs import WorkspaceVariables, workspace_variables
from iac.web.ui.models.workspace_settings import lines_of, seal_of, seconds_of, span, tags_of
from iac.web.ui.models.workspace_state import version_shown
from iac.web.ui.models.workspace_tasks import PAGE, TasksQuery, workspace_tasks
from tests.domain import builders

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ALL = Rights(True, True, True, True, True)
NONE = Rights(False, False, False, False, False)


def a_workspace(**fields: Any) -> Workspace:
    return builders.a_workspace(**{"id": "ws-1", "name": "shop prod", **fields})


def a_configuration(**fields: Any) -> Configuration:
    known: dict[str, Any] = {
        "id": "cv-1", "workspace_id": "ws-1", "kind": "files", "digest": "d", "size": 900, "files": ("main.tf",),
        "message": "", "created_by": "anna", "created_at": NOW,
    }  # fmt: skip
    return Configuration(**{**known, **fields})


def task(number: int, status: str, **fields: Any) -> Task:
    return msgspec.structs.replace(builders.a_task(), id=number, status=status, **fields)


def test_a_lock_says_who_holds_it_and_which_task_if_one_does() -> None:
    by_task = Lock(kind="task", owner="12", token="t", reason="its plan waits", since=NOW)
    by_anna = Lock(kind="user", owner="12", token="t", reason="", since=NOW)
    shown = head_of(a_workspace(lock=by_task), ALL).lock
    assert shown is not None
    assert (shown.task, shown.reason) == (12, "its plan waits")
    held = head_of(a_workspace(lock=by_anna), ALL).lock
    assert held is not None
    assert (held.task, held.owner) == (None, "12")
    assert "token" not in str(msgspec.to_builtins(shown))


def test_a_names_address_is_safe_in_a_path() -> None:
    assert head_of(a_workspace(name="a b/c?d#e%"), ALL).path == "/workspaces/a%20b%2Fc%3Fd%23e%25"


def facts(**fields: Any) -> Facts:
    known: dict[str, Any] = {
        "workspace": a_workspace(), "latest": [], "open": [], "plans": {}, "names": {}, "state": None,
        "configuration": None, "variables": 0, "total": 0,
    }  # fmt: skip
    return Facts(**{**known, **fields})


def test_what_goes_on_and_what_is_over_are_told_apart() -> None:
    going, over = task(3, "planned", planned_at=NOW), task(2, "succeeded", outcome="applied", finished_at=NOW)
    shown = workspace_overview(facts(open=[going], latest=[going, over]), {}, ALL)
    assert shape_of([shown.latest]).lists == {"latest": ("task-2",)}
    (now,) = shown.now.parts
    assert [row.id for row in now.model.rows] == [3]  # type: ignore[attr-defined]  # a NowShown


def test_a_page_does_not_change_while_only_time_passes() -> None:
    one = workspace_overview(facts(open=[task(3, "running", started_at=NOW)]), {}, ALL)
    other = workspace_overview(facts(open=[task(3, "running", started_at=NOW)]), {}, ALL)
    assert shape_of(one.lists) == shape_of(other.lists)


def test_a_row_says_why_it_waits_how_long_it_took_and_what_went_wrong() -> None:
    wait = Wait(code="workspace_locked", message="Anna holds the workspace.")
    rows = task_rows(
        [
            task(1, "pending", created_at=NOW),
            task(2, "failed", exit_code=3, started_at=NOW, finished_at=NOW + timedelta(seconds=62)),
            task(3, "failed", detail="The disk is full.", exit_code=1, finished_at=NOW),
            task(4, "running", started_at=NOW),
        ],
        Beside(plans={}, waits={1: wait, 2: wait}, names={}),
    )
    assert [row.note for row in rows] == [
        "Anna holds the workspace.", "Terraform ended with exit code 3.", "The disk is full.", "",
    ]  # fmt: skip
    assert [row.lasted for row in rows] == ["", "1 min 02 s", "", ""]
    assert rows[3].running_since == NOW


def test_counts_are_shown_for_plans_with_changes_only() -> None:
    def plan(*, changes: bool) -> PlanFacts:
        return PlanFacts(
            digest="d", bundle_digest="d", serial=1, lineage="l", terraform_version="1", has_changes=changes,
            summary={"add": 2, "change": 0, "destroy": 1},
        )  # fmt: skip

    beside = Beside(plans={1: plan(changes=True), 2: plan(changes=False)}, waits={}, names={})
    some, none = task_rows([task(1, "planned"), task(2, "succeeded")], beside)
    assert some.counts is not None
    assert (some.counts.add, some.counts.destroy, none.counts) == (2, 1, None)


def tasks_page(query: TasksQuery, number: int, counts: dict[str, int]) -> Any:
    found = [task(1000 - n, "succeeded", finished_at=NOW) for n in range(number)]
    return workspace_tasks(a_workspace(), query, found, counts, Beside(plans={}, waits={}, names={}), rights=ALL)


def test_tasks_are_counted_by_what_they_need_and_counters_switch_off() -> None:
    counts = {"planned": 1, "lost": 2, "running": 3, "queued": 1, "succeeded": 40, "failed": 5}
    shown = tasks_page(TasksQuery(state="asks"), 1, counts)
    numbers = [part.model.number for part in shown.groups.parts]
    assert numbers == [52, 3, 4, 5, 40, 0]
    asks = shown.groups.parts[1].model
    assert (asks.on, asks.href) == (True, "/workspaces/shop%20prod/tasks")


def test_pages_of_tasks_lead_on_and_back() -> None:
    first = tasks_page(TasksQuery(q="x"), PAGE + 1, {}).ways.parts[0].model
    assert (first.older, first.newest) == (f"/workspaces/shop%20prod/tasks?q=x&before={1000 - PAGE + 1}", "")
    later = tasks_page(TasksQuery(q="x", before=500), 3, {}).ways.parts[0].model
    assert (later.older, later.newest) == ("", "/workspaces/shop%20prod/tasks?q=x")


@pytest.mark.parametrize("before", [-1, 2**63])
def test_a_page_that_cannot_be_is_refused(before: int) -> None:
    with pytest.raises(ValueError, match="before"):
        TasksQuery(before=before)


def variables(*found: Variable, rights: Rights = ALL) -> WorkspaceVariables:
    return workspace_variables(a_workspace(), found, rights)


def a_variable(**fields: Any) -> Variable:
    known: dict[str, Any] = {
        "id": "var-1", "workspace_id": "ws-1", "key": "k", "category": "terraform", "hcl": False, "sensitive": False,
        "value": "v", "description": "", "version": 1, "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Variable(**{**known, **fields})


def test_a_variables_value_is_shown_in_part_and_a_sensitive_one_not_at_all() -> None:
    shown = variables(a_variable(value="x" * 5000), a_variable(id="var-2", sensitive=True, value=None))
    long, secret = (part.model for part in shown.rows.parts)
    assert (len(long.value), long.cut, secret.value) == (400, True, None)  # type: ignore[attr-defined]
    assert (shown.number, shown.number_secret) == (2, 1)


def test_who_may_not_change_has_no_way_to() -> None:
    assert not variables(a_variable(), rights=NONE).rows.parts[0].model.may_change  # type: ignore[attr-defined]


def files(**found: bytes) -> dict[str, File]:
    return {name.replace("__", "/").replace("_", "."): File(data) for name, data in found.items()}


def configured(query: ConfigurationQuery, found: dict[str, File]) -> WorkspaceConfiguration:
    held, version = a_workspace(configuration_id="cv-1"), a_configuration()
    chosen = chosen_file(query.file, found)
    file = None if chosen is None else file_view(chosen, found[chosen])
    return workspace_configuration(held, query, [version], version, found, file=file, rights=ALL)


def test_the_first_file_is_the_main_one_and_directories_come_after_the_top() -> None:
    shown = configured(ConfigurationQuery(), files(a_tf=b"x", m__a_tf=b"y", main_tf=b'x = "1"\n', z_tf=b""))
    assert shown.file is not None
    assert (shown.file.path, len(shown.file.lines)) == ("main.tf", 1)
    assert [(entry.directory, entry.name) for entry in shown.files] == [
        ("", "a.tf"), ("", "main.tf"), ("", "z.tf"), ("m", "a.tf"),
    ]  # fmt: skip
    assert shown.files[0].href == "/workspaces/shop%20prod/configuration?file=a.tf"


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"\x7fELF\0\0", "not a text"), (b"\xff\xfe", "UTF-8"), (b"x" * (MOST_SHOWN + 1), "too large")],
)
def test_what_cannot_be_shown_says_why(data: bytes, says: str) -> None:
    shown = configured(ConfigurationQuery(file="main.tf"), files(main_tf=data)).file
    assert shown is not None
    assert (shown.lines, says in shown.why_not) == ((), True)


@pytest.mark.parametrize("path", ["a.tf", "a.json", "a.yaml", "a.sh", "a.unknown", "Makefile"])
@given(text=st.text(max_size=200) | st.sampled_from(['<script>"', 'x = "${a}</pre>"', "<<EOT\n<b>\nEOT\n"]))
def test_no_text_becomes_html_and_none_is_lost(path: str, text: str) -> None:
    lines = highlighted(path, text)
    drawn = "\n".join(lines)
    assert set(_tags(drawn)) <= {"span", "/span"}
    for line in lines:  # each stands for itself: none leaves an element open
        assert line.count("<span") == line.count("</span>")


def _tags(html: str) -> list[str]:
    return [piece.split(">")[0].split(" ")[0] for piece in html.split("<")[1:]]


def test_a_very_long_file_is_shown_plain() -> None:
    assert "<span" not in "".join(highlighted("a.tf", 'x = "1"\n' * (LONGEST // 8 + 1)))


@given(st.dictionaries(st.text("abc-", min_size=1, max_size=5), st.text("xyz=", max_size=5).map(str.strip), max_size=5))
def test_tags_are_the_same_after_being_written_as_lines(tags: dict[str, str]) -> None:
    assert tags_of(lines_of(tags)) == tags


@pytest.mark.parametrize("text", ["=x", "a=1\na=2", "k" * 61, "a=" + "v" * 201, "\n".join(f"t{n}" for n in range(51))])
def test_tags_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        tags_of(text)
    assert refused.value.extras["path"] == "$.tags"


@given(st.integers(1, 30 * 86400))
def test_a_time_is_the_same_after_being_written(seconds: int) -> None:
    assert seconds_of(span(seconds), "f", 30 * 86400) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("", None), (" ", None), ("90", 90), ("2H", 7200), ("1 d", 86400), ("5m", 300)]
)
def test_times_are_understood_as_people_write_them(text: str, seconds: int | None) -> None:
    assert seconds_of(text, "f", 86400) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "1.5 h", "soon", "99999999999", "2 d", "1 h 30 min", "٣ h"])
def test_times_that_cannot_be_are_refused_at_their_field(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        seconds_of(text, "plan_grace_s", 86400)
    assert refused.value.extras["path"] == "$.plan_grace_s"


def test_only_a_change_of_settings_makes_a_form_stale() -> None:
    held = a_workspace()
    lock = Lock(kind="user", owner="a", token="t", reason="", since=NOW)
    for later in (a_workspace(lock=lock), a_workspace(current_serial=9, lineage="l"), a_workspace(updated_at=NOW)):
        assert seal_of(later) == seal_of(held)
    for later in (a_workspace(name="x"), a_workspace(tags={"a": ""}), a_workspace(auto_apply=True)):
        assert seal_of(later) != seal_of(held)


def a_state(**fields: Any) -> StateVersion:
    known: dict[str, Any] = {
        "id": "sv-1", "workspace_id": "ws-1", "serial": 3, "lineage": "l", "sha256": "s", "size": 10, "verdict": "current",
        "reason": None, "task_id": 7, "fence": 1, "partial": False, "rollback_of": None, "promotion_of": None,
        "promoted_at": None, "terraform_version": "1.11.4", "resource_count": 2, "created_by": "task 7", "created_at": NOW,
    }  # fmt: skip
    return StateVersion(**{**known, **fields})


@pytest.mark.parametrize(
    ("fields", "ways"),
    [
        ({}, (False, False, False)),
        ({"verdict": "superseded"}, (True, True, False)),
        ({"verdict": "quarantined"}, (True, False, True)),
        ({"verdict": "quarantined", "promoted_at": NOW}, (True, False, False)),
        ({"verdict": "quarantined", "serial": -1}, (False, False, False)),
    ],
)
def test_what_can_be_done_with_a_version_is_what_the_store_would_do(
    fields: dict[str, Any], ways: tuple[bool, ...]
) -> None:
    shown = version_shown(a_workspace(), a_state(**fields))
    assert (bool(shown.compare), bool(shown.rollback), bool(shown.promote)) == ways


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 1024**3, "5.0 GiB")]
)
def test_sizes_in_words(number: int, words: str) -> None:
    assert size_of(number) == words
