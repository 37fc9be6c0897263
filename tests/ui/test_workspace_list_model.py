"""What the list of workspaces says, and where its links lead."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from iac.domain.glances import LastTask, WorkspaceGlance
from iac.errors import Invalid
from iac.web.ui.models.listing import NoRows, Pages, pages_of
from iac.web.ui.models.workspace_list import PAGE, PATH, Row, Workspaces, WorkspacesQuery, row, workspaces
from iac.web.ui.pages import decoded
from tests.domain.builders import NOW

LAST = LastTask(
    id=12, action="destroy", phase="apply", status="succeeded", outcome="applied", has_changes=True, created_by="anna",
    at=NOW,
)  # fmt: skip


def glance(**facts: Any) -> WorkspaceGlance:
    usual: dict[str, Any] = {
        "id": "ws-1", "name": "shop", "description": "", "execution_mode": "local", "pool_name": None, "tags": {},
        "lock_kind": None, "lock_owner": None, "lock_reason": None, "locked_at": None, "resource_count": None,
        "state_uncertain": False, "condition": "idle", "last": LAST, "changed_at": NOW,
    }  # fmt: skip
    return WorkspaceGlance(**{**usual, **facts})


def shown(query: WorkspacesQuery, *rows: WorkspaceGlance, **counts: int) -> Workspaces:
    known: dict[Any, int] = dict(counts)
    return workspaces(query, rows, known, pools=["a"], tags=["t=1"], may_create=True)


def test_a_row_says_what_was_done_last_and_where() -> None:
    made = row(glance(execution_mode="agent", pool_name="eu", tags={"b": "1", "a": ""}))
    assert (made.badge.word, made.says, made.place, made.tags) == ("Destroyed", "Destroy #12", "eu", ("a", "b=1"))
    assert row(glance(execution_mode="agent")).place == "No pool"


def test_a_workspace_that_was_never_used_says_so() -> None:
    made = row(glance(condition="new", last=None))
    assert (made.badge.word, made.says, made.task) == ("Never run", "", None)


def test_a_lock_is_shown_when_a_person_holds_it() -> None:
    by_hand = {"lock_owner": "anna", "lock_reason": "sale", "locked_at": NOW}
    assert row(glance(lock_kind="user", **by_hand)).locked == "anna: sale"
    assert row(glance(lock_kind="task", **by_hand)).locked == ""


@pytest.mark.parametrize("name", ["a b", "100%", "x?y#z", "a/b", "ä"])
def test_a_name_is_one_segment_of_its_address(name: str) -> None:
    assert row(glance(name=name)).href.count("/") == 2
    assert "?" not in row(glance(name=name)).href


def test_an_address_says_only_what_was_chosen() -> None:
    assert WorkspacesQuery().href() == "/workspaces"
    query = WorkspacesQuery(q="a&b", state="failed", page=3)
    assert query.href(page=4) == "/workspaces?q=a%26b&state=failed&page=4"
    assert query.href(state="") == "/workspaces?q=a%26b", "what is chosen anew begins at the first page"


def test_counters_count_everything_under_the_other_filters_and_lead_to_what_they_count() -> None:
    parts = shown(WorkspacesQuery(state="failed", q="x"), glance(), failed=1, idle=4).counters.parts
    told = {part.id: part.model for part in parts}
    every, failed = structs.asdict(told["counter-all"]), structs.asdict(told["counter-failed"])
    assert (every["number"], every["on"], every["href"]) == (5, False, "/workspaces?q=x")
    assert (failed["number"], failed["on"], failed["href"]) == (1, True, "/workspaces?q=x")
    assert structs.asdict(told["counter-idle"])["href"] == "/workspaces?q=x&state=idle"


def test_a_column_turns_round_when_it_is_chosen_again() -> None:
    def of(sort: Any) -> dict[str, tuple[str, str]]:
        return {column.label: (column.order, column.href) for column in shown(WorkspacesQuery(sort=sort)).columns}

    assert of("name")["Workspace"] == ("ascending", "/workspaces?sort=-name")
    assert of("-name")["Workspace"] == ("descending", "/workspaces")
    assert of("name")["Last change"] == ("none", "/workspaces?sort=-changed")
    assert of("-changed")["Last change"] == ("descending", "/workspaces?sort=changed")
    assert of("name")["Runs on"] == ("none", "")


@pytest.mark.parametrize(
    ("page", "total", "here", "expected"),
    [
        (1, 3, 3, Pages("1–3 of 3 workspaces", "", "")),  # noqa: RUF001 - a range
        (1, 1200, 50, Pages("1–50 of 1,200 workspaces", "", "/workspaces?page=2")),  # noqa: RUF001
        (2, 60, 10, Pages("51–60 of 60 workspaces", "/workspaces", "")),  # noqa: RUF001
        (9, 60, 0, Pages("Page 9 is beyond the end of 60 workspaces", "/workspaces?page=2", "")),
        (1, 0, 0, Pages("Nothing to show", "", "")),
    ],
)
def test_pages_say_where_one_is_and_lead_on(page: int, total: int, here: int, expected: Pages) -> None:
    query = WorkspacesQuery(page=page)
    assert pages_of(PATH, query, "workspace", page=page, size=PAGE, total=total, shown=here) == expected


def test_no_rows_say_whether_a_filter_is_in_the_way() -> None:
    assert shown(WorkspacesQuery()).rows.parts[0].model == NoRows(False, PATH)
    assert shown(WorkspacesQuery(tag="t=1")).rows.parts[0].model == NoRows(True, PATH)


def test_what_is_chosen_can_be_seen_though_nothing_has_it_any_more() -> None:
    made = shown(WorkspacesQuery(pool="gone", tag="old=1"))
    assert (made.pools, made.tags) == (("gone", "a"), ("old=1", "t=1"))
    assert shown(WorkspacesQuery(pool="a")).pools == ("a",)


def test_only_what_stands_in_the_row_makes_it_another() -> None:
    one, same = shown(WorkspacesQuery(), glance()).rows.parts, shown(WorkspacesQuery(), glance()).rows.parts
    assert one[0].digest == same[0].digest
    assert isinstance(one[0].model, Row)


@pytest.mark.parametrize(
    "values", [{"state": "nonsense"}, {"page": "0"}, {"page": "x"}, {"sort": "colour"}, {"locked": "maybe"}]
)
def test_an_address_with_a_value_that_does_not_exist_is_refused_with_its_place(values: dict[str, str]) -> None:
    with pytest.raises(Invalid) as refused:
        decoded(values, WorkspacesQuery)
    assert str(refused.value.extras["path"]).startswith("$")
    assert decoded({"utm": "x", "q": "shop"}, WorkspacesQuery) == WorkspacesQuery(q="shop")
