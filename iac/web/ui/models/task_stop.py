"""How far the stop of a task is: the rungs of the ladder that were taken, and when the next ones come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal

import msgspec

from iac.domain.cancel_bodies import CancelView
from iac.domain.ladder import StopStage

_DONE: Mapping[StopStage, str] = {
    "received": "Its runner has heard of it",
    "sigterm": "Terraform was asked to end",
    "sigterm2": "Terraform was asked once more",
    "sigkill": "Everything that it started was killed",
    "exited": "Nothing of it runs any more",
    "not_running": "Nothing of it was running",
}


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """`done` ones were at that time, the others come then."""

    state: Literal["done", "next"]
    words: str
    at: datetime | None


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    by: str
    forced: bool
    rungs: tuple[Rung, ...]
    overdue_at: datetime | None


def stop(cancel: CancelView) -> Stop:
    return Stop(by=cancel.by, forced=cancel.force, rungs=tuple(_rungs(cancel)), overdue_at=cancel.overdue_at)


def _rungs(cancel: CancelView) -> Iterator[Rung]:
    yield Rung(state="done", words=f"{cancel.by or 'Somebody'} asked to stop it", at=cancel.requested_at)
    for step in cancel.steps:
        yield Rung(state="done", words=_DONE[step.stage], at=step.at)
    if cancel.stage in ("exited", "not_running"):
        yield Rung(state="next", words="Its state, log and result are brought home", at=None)
        return
    if not cancel.steps:
        yield Rung(state="next", words="Its runner hears of it", at=None)
    if cancel.next_step_at is not None and cancel.next_step_at != cancel.kill_at:
        yield Rung(state="next", words="Terraform is asked once more", at=cancel.next_step_at)
    if cancel.kill_at is not None:
        yield Rung(state="next", words="Everything that it started is killed", at=cancel.kill_at)
