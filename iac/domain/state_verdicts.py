"""What becomes of a state that is sent: judged purely, so that the store only has to do what the verdict says.

A state that Terraform has written may be the only description of things that exist. So no push is ever refused: it
becomes the current state, or is kept apart for a human (quarantined) or for a rainy day (checkpoint), or is known
already. Only a user's upload can be refused, because the user still has the file.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from iac.domain.states import StateHeader, inspect, with_serial
from iac.errors import Conflict

Outcome: TypeAlias = Literal["current", "duplicate", "checkpoint", "quarantined"]
Reason: TypeAlias = Literal[
    "state_invalid", "fenced", "revoked", "newer_apply_wrote", "lineage_differs", "serial_too_low", "serial_taken"
]


class Current(msgspec.Struct, frozen=True):
    """A workspace's current state; `state_fence` is the fence of the apply that wrote it, 0 if no apply did."""

    serial: int
    lineage: str
    sha256: str
    state_fence: int = 0


class Push(msgspec.Struct, frozen=True):
    """A state that an executor sends for a task.

    `task_fence` is the fence the task has now, `assignment_fence` the one the sender was given. `header` is None if
    `inspect` refused the bytes. `known_hashes` are the whole states already stored for this task with any verdict,
    `checkpoint_hashes` its checkpoints: the last checkpoint and the final state are often the same bytes, and the one
    must not make the other look like a repetition. `newest_serial` is the highest that this very assignment has sent in a
    readable state. `revoked`: the sender's token is good for quarantine only.
    """

    task_fence: int
    assignment_fence: int
    sha256: str
    header: StateHeader | None
    known_hashes: frozenset[str] = frozenset()
    checkpoint_hashes: frozenset[str] = frozenset()
    newest_serial: int | None = None
    partial: bool = False
    revoked: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """`reason` and `message` say why a state was quarantined; both are None otherwise."""

    outcome: Outcome
    reason: Reason | None = None
    message: str | None = None

    @property
    def stores(self) -> bool:
        """Whether the bytes must be written: always, unless they are there already."""
        return self.outcome != "duplicate"

    @property
    def alerts(self) -> bool:
        """Whether a human must look at it."""
        return self.outcome == "quarantined"


class Upload(msgspec.Struct, frozen=True):
    """How to store a user's upload: not at all if `duplicate`, otherwise under `serial` (see `with_serial`)."""

    duplicate: bool
    serial: int


def judge(current: Current | None, push: Push) -> Verdict:
    """The verdict on a push, to be reached under the workspace's row lock. `current` is None before the first state.

    For how long after its end a task may still push is a matter of its token, not of this function.
    """
    if _is_repeated(current, push) or _is_overtaken(push):
        return Verdict("duplicate")
    return _from_stranger(current, push) or _in_line(current, push)


def _is_repeated(current: Current | None, push: Push) -> bool:
    known = push.known_hashes | push.checkpoint_hashes if push.partial else push.known_hashes
    return push.sha256 in known or (current is not None and push.sha256 == current.sha256)


def _is_overtaken(push: Push) -> bool:
    """A checkpoint whose copy on the wire was slower than a newer state of the same apply, which has all that it has."""
    return (
        push.partial
        and push.header is not None
        and push.newest_serial is not None
        and push.header.serial < push.newest_serial
    )


def _from_stranger(current: Current | None, push: Push) -> Verdict | None:
    """Quarantine, if the sender has no say in this workspace's state any more."""
    if push.assignment_fence != push.task_fence:
        return _quarantined(
            "fenced",
            f"State from an abandoned apply: it was sent under fence {push.assignment_fence}, "
            f"the task has {push.task_fence} since it was resolved or handed out anew.",
        )
    if push.revoked:
        return _quarantined("revoked", "The sender's access was revoked before it sent this state.")
    if current is not None and push.assignment_fence < current.state_fence:
        return _quarantined(
            "newer_apply_wrote",
            f"State from an abandoned apply: it has fence {push.assignment_fence}, "
            f"the current state was written under {current.state_fence}.",
        )
    return None


def _in_line(current: Current | None, push: Push) -> Verdict:
    """Whether the state itself continues the current one."""
    header = push.header
    if header is None:
        return _quarantined("state_invalid", "The bytes are not a usable Terraform state; they are kept as they came.")
    if push.partial:
        return Verdict("checkpoint")
    if current is None:
        return Verdict("current")
    if header.lineage != current.lineage:
        return _quarantined(
            "lineage_differs", f"Its lineage is {header.lineage}, the workspace's is {current.lineage}."
        )
    if header.serial < current.serial:
        return _quarantined("serial_too_low", f"Its serial is {header.serial}, the current one {current.serial}.")
    if header.serial == current.serial:
        return _quarantined("serial_taken", f"Serial {header.serial} is already taken by a state with other content.")
    return Verdict("current")


def _quarantined(reason: Reason, message: str) -> Verdict:
    return Verdict("quarantined", reason, message)


def adoption(current: Current | None, fence: int, sha256: str, header: StateHeader) -> Verdict:
    """What a checkpoint of the assignment `fence` would be if it were the last word of its apply, as a human may decide.

    By the usual rules, so only "current" lets it be adopted; of any other verdict `message` says why not.
    """
    verdict = judge(current, Push(task_fence=fence, assignment_fence=fence, sha256=sha256, header=header))
    if verdict.outcome == "duplicate":
        return Verdict("duplicate", message="It is the current state already.")
    return verdict


def promotion(current: Current | None, header: StateHeader, sha256: str, *, force: bool) -> Upload:
    """How a state that was kept apart becomes the current one, as an admin wants it.

    A serial that is not above the current one is raised, as `rollback` does. Raises Conflict ("state_lineage_differs") for
    another lineage, unless `force`.
    """
    if current is None:
        return Upload(duplicate=False, serial=header.serial)
    if sha256 == current.sha256:
        return Upload(duplicate=True, serial=current.serial)
    if not force:
        _refuse_other_lineage(current, header, "compare both, and promote it with force if it is really to replace")
    return Upload(duplicate=False, serial=max(header.serial, current.serial + 1))


def check_upload(current: Current | None, header: StateHeader, sha256: str, *, force: bool) -> Upload:
    """Whether a user's state may become the current one, and under which serial.

    The very bytes of the current state are a duplicate. Raises Conflict ("state_lineage_differs" or
    "state_serial_too_low") unless `force`; a forced state is renumbered past the current one, for a workspace's serial
    never goes back: Terraform would take every copy it has for newer.
    """
    if current is None:
        return Upload(duplicate=False, serial=header.serial)
    if sha256 == current.sha256:
        return Upload(duplicate=True, serial=current.serial)
    if not force:
        _refuse_other_lineage(current, header, "check that this is the right workspace, or force the upload to replace")
        _refuse_low_serial(current, header)
    return Upload(duplicate=False, serial=max(header.serial, current.serial + 1))


def rollback(current: Current, old_data: bytes) -> bytes:
    """The old state as the successor of the current one: its bytes, with the serial after the current.

    Raises Invalid ("state_invalid") if the old bytes are no state, Conflict ("state_lineage_differs") if they belong to
    another history than the current state.
    """
    _refuse_other_lineage(current, inspect(old_data), "upload it with force if it is really to replace")
    return with_serial(old_data, current.serial + 1)


def _refuse_other_lineage(current: Current, header: StateHeader, remedy: str) -> None:
    if header.lineage != current.lineage:
        raise Conflict(
            f"This state has the lineage {header.lineage}, the workspace's state has {current.lineage}: they describe "
            f"different things. Please {remedy} the current state.",
            code="state_lineage_differs",
            lineage=header.lineage,
            current_lineage=current.lineage,
        )


def _refuse_low_serial(current: Current, header: StateHeader) -> None:
    if header.serial <= current.serial:
        raise Conflict(
            f"This state has serial {header.serial}, the workspace is at {current.serial} already. Pull the current "
            "state and make the change there, or force the upload to replace it.",
            code="state_serial_too_low",
            serial=header.serial,
            current_serial=current.serial,
        )
