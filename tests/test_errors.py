"""The error tree: what programs outside rely on."""

from __future__ import annotations

import inspect

import pytest

from iac import errors
from iac.errors import Conflict, IacError, Invalid, StartFailed

ALL = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, IacError)]


def test_the_stable_words_are_what_they_were() -> None:
    assert {each.__name__: (each.status, each.code, each.retryable) for each in ALL} == {
        "IacError": (500, "internal", False),
        "BadRequest": (400, "bad_request", False),
        "Unauthenticated": (401, "unauthenticated", False),
        "Forbidden": (403, "forbidden", False),
        "NotFound": (404, "not_found", False),
        "NotAllowedHere": (405, "method_not_allowed", False),
        "Conflict": (409, "conflict", False),
        "IllegalTransition": (409, "illegal_transition", False),
        "AlreadyFinal": (409, "already_final", False),
        "Fenced": (409, "fenced", False),
        "PlanStale": (409, "plan_stale", False),
        "WorkspaceLocked": (409, "workspace_locked", False),
        "LogRefused": (409, "log_gap", False),
        "Gone": (410, "gone", False),
        "UpgradeRequired": (426, "upgrade_required", False),
        "RateLimited": (429, "rate_limited", True),
        "TooLarge": (413, "too_large", False),
        "WrongContentType": (415, "wrong_content_type", False),
        "Invalid": (422, "invalid", False),
        "Unavailable": (503, "unavailable", True),
        "StorageFull": (507, "storage_full", True),
        "StartFailed": (500, "start_failed", False),
    }


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_explained_and_in_the_tree_of_the_modules_docstring(kind: type[IacError]) -> None:
    assert kind.__doc__
    assert kind.__name__ in (errors.__doc__ or "")


def test_an_error_may_have_a_finer_code_without_touching_its_class() -> None:
    finer = Conflict("There is one already.", code="name_in_use", name="x")
    assert (finer.code, finer.message, str(finer), finer.extras) == (
        "name_in_use",
        "There is one already.",
        "There is one already.",
        {"name": "x"},
    )
    assert Conflict("x").code == "conflict"
    assert Invalid("x", path="$.a").extras == {"path": "$.a"}


def test_a_failed_start_has_an_exit_code() -> None:
    assert StartFailed("x", exit_code=78).exit_code == 78
