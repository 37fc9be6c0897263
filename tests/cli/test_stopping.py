"""What is told of a stop, and the options for how long things may take."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from iac.cli.stopping import Stopping, stopping
from iac.cli.times import countdown
from iac.domain.cancel_bodies import CancelView
from tests.cli.running import CommandLine
from tests.harness.server import running_server

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def a_cancel(**facts: Any) -> CancelView:
    known: dict[str, Any] = {"id": "can-1", "reason": "user", "by": "ann", "force": False, "requested_at": NOW}
    return CancelView(**{**known, **facts})


@pytest.mark.parametrize(
    ("facts", "later", "told"),
    [
        ({}, 0, "its runner has not heard of the stop yet"),
        (
            {"stage": "sigterm", "kill_in_s": 310.0, "force_in_s": 10.0},
            0,
            "Terraform was asked to stop; killed in 5 min 10 s; `iac task cancel 7 --force` in 10 s to hurry",
        ),
        (
            {"stage": "sigterm", "kill_in_s": 310.0, "force_in_s": 10.0},
            58,
            "Terraform was asked to stop; killed in 4 min 12 s; `iac task cancel 7 --force` to hurry",
        ),
        (
            {"stage": "sigterm2", "kill_in_s": 3.0, "force_in_s": 0.0},
            4,
            "Terraform was asked a second time; killed now",
        ),
        (
            {"stage": "sigkill", "overdue_at": NOW},
            0,
            "Terraform and everything it had started was killed; this should be over by now: look at its runner",
        ),
    ],
)
def test_a_stop_says_how_far_it_is_what_comes_and_how_to_hurry(facts: dict[str, Any], later: float, told: str) -> None:
    stop = Stopping(7, a_cancel(**facts), told_at=100.0, clock=lambda: 100.0 + later)
    assert stop.text() == f"Task 7: {told}"


@pytest.mark.parametrize("status", ["running", "cancelled", "succeeded"])
def test_what_is_not_being_stopped_counts_down_to_nothing(status: str) -> None:
    assert stopping(7, status, a_cancel(stage="exited")) is None
    assert stopping(7, "cancelling", None) is None


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (59.6, "1 min 0 s"), (252, "4 min 12 s"), (7260, "2 h 1 min")]
)
def test_a_countdown_is_exact(seconds: float, told: str) -> None:
    assert countdown(seconds) == told


async def test_time_limits_are_set_shown_and_given_up(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        made = await iac("workspace", "create", "shop", "--plan-timeout", "90m", "--apply-grace", "600", "--json")
        assert (made.json["plan_timeout_s"], made.json["apply_grace_s"], made.json["plan_grace_s"]) == (5400, 600, None)
        changed = await iac("workspace", "set", "shop", "--plan-timeout", "default", "--apply-timeout", "3h")
        assert "at most 3 h, 10 min to stop when it is cancelled" in changed.out
        assert (await iac("workspace", "show", "shop", "--json")).json["plan_timeout_s"] is None
        refused = await iac("workspace", "set", "shop", "--apply-grace", "2h", expect=2)
        assert "is not between 1 s and 60 min" in refused.err
