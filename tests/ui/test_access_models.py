"""API tokens and the audit trail, as their pages say them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from iac.domain.records import ApiToken, AuditEntry
from iac.web.ui.models.access import PAGE, AuditQuery, api_tokens, audit, audit_row, page_of
from iac.web.ui.models.sheets import TokenMade
from tests.domain.builders import NOW


def a_token(id: str, **given: Any) -> ApiToken:
    known: dict[str, Any] = {
        "name": id, "role": "operator", "created_by": "admin", "created_at": NOW, "expires_at": None, "revoked_at": None,
        "last_used_at": None,
    }  # fmt: skip
    return ApiToken(id=id, **{**known, **given})


def an_entry(id: int, **given: Any) -> AuditEntry:
    known: dict[str, Any] = {"at": NOW, "actor": "anna", "verb": "task.create", "subject": "task-7", "facts": {}}
    return AuditEntry(id=id, **{**known, **given})


def test_tokens_that_are_good_come_first_and_the_others_cannot_be_revoked_again() -> None:
    dead = a_token("tok-r", revoked_at=NOW, created_at=NOW + timedelta(days=1))
    old = a_token("tok-x", expires_at=NOW)
    page = api_tokens(
        [a_token("tok-a"), dead, old, a_token("tok-b", created_at=NOW + timedelta(1))], own="tok-a", now=NOW
    )
    rows: list[Any] = [part.model for part in page.tokens.parts]
    assert [row.id for row in rows] == ["tok-b", "tok-a", "tok-r", "tok-x"]
    assert [row.badge.word for row in rows] == ["Good", "Good", "Revoked", "Expired"]
    assert [bool(row.revoke) for row in rows] == [True, True, False, False]
    assert [row.own for row in rows] == [False, True, False, False]


@pytest.mark.parametrize(
    ("subject", "page"),
    [("task-12", "/tasks/12"), ("task-x", ""), ("agent-a1", "/agents/agent-a1"), ("pool-a", "/agents/pools/pool-a"),
     ("ws-1", "/workspaces/ws-1"), ("tok-1", ""), ("many", ""), ("ws-", ""), ("ws-../x", "/workspaces/ws-..%2Fx")],
)  # fmt: skip
def test_what_has_a_page_is_linked(subject: str, page: str) -> None:
    assert page_of(subject) == page


def test_facts_are_told_shortly_and_empty_ones_not_at_all() -> None:
    row = audit_row(
        an_entry(1, facts={"reason": "", "force": False, "fields": ["a", "b"], "long": "x" * 999, "none": None})
    )
    told = {fact.name: fact.value for fact in row.facts}
    assert (told["force"], told["fields"], len(told["long"])) == ("false", '["a","b"]', 201)
    assert set(told) == {"force", "fields", "long"}


def test_older_entries_are_a_link_away_and_the_subject_stays() -> None:
    query = AuditQuery(subject="task-7", before=900)
    shown = audit(query, [an_entry(500 - n) for n in range(PAGE + 1)])
    ways: Any = shown.ways.parts[0].model
    assert ways.older == f"/audit?subject=task-7&before={500 - PAGE + 1}"
    assert ways.newest == "/audit?subject=task-7"
    assert len(shown.rows.parts) == PAGE
    empty: Any = audit(query, []).rows.parts[0].model
    assert empty.subject == "task-7"


def test_a_token_that_was_made_is_not_in_what_is_logged_of_it() -> None:
    made = TokenMade(title="t", token="iacp_secret", says="", back="/", bare=True)
    assert "secret" not in repr(made)
