"""The bodies of what humans decide about states that were kept apart, and about applies whose end nobody saw."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from iac.domain.bodies import Input, StateVersionView, Text, View
from iac.domain.records import Status
from iac.domain.work import ResourceProgress


class ResolveRequest(Input, frozen=True, kw_only=True):
    """Declares a lost apply over, after a look at what is known of it."""

    comment: Text = ""
    unlock: bool = False
    checkpoint: Annotated[
        Literal["quarantine", "adopt"],
        Meta(
            description="What becomes of the newest state that came while it ran, if there is one. `quarantine` keeps it "
            "apart; it can be promoted later. `adopt` makes it the current state, if it continues that; the workspace's "
            "state stays marked as uncertain."
        ),
    ] = "quarantine"


class PromoteRequest(Input, frozen=True, kw_only=True):
    """Makes a state that was kept apart the current one."""

    force: bool = False
    """Takes another lineage than the current one: then the two describe different things."""
    expected_serial: int | None = None
    """The current serial that was looked at; refused if it is another one by now."""
    lock_token: str | None = None


class CheckpointView(View, frozen=True, kw_only=True):
    version: StateVersionView
    not_adoptable: str | None
    """Why it cannot become the current state; None if it can."""


class KnownView(View, frozen=True, kw_only=True):
    """What is known of a task whose end nobody saw."""

    task_id: int
    status: Status
    reason: str | None
    detail: str | None
    last_heard_at: datetime | None
    """When its agent was heard for the last time; None for the server itself."""
    state_serial: int | None
    """The workspace's current state."""
    state_lineage: str | None
    state_uncertain: bool
    checkpoint: CheckpointView | None
    """The newest state that came while the apply ran, as long as nobody has decided about it."""
    states: list[StateVersionView]
    """What else it has stored, newest first."""
    progress: list[ResourceProgress]
    log_length: int
    log_lines: list[str]
    """The last lines of its log."""
