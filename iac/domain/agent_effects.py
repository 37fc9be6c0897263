"""What an agent's state wants done; its shell does it, in the order given."""

from __future__ import annotations

from dataclasses import dataclass

from iac.domain.messages import FromAgent
from iac.domain.work import RunTask


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the server, if it can be told just now."""

    message: FromAgent


@dataclass(frozen=True, slots=True)
class Start:
    """Hand the order to the worker."""

    order: RunTask


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel what runs under this fence; `force` does not wait for Terraform to finish what it is doing."""

    task_id: int
    fence: int
    force: bool


@dataclass(frozen=True, slots=True)
class Flush:
    """Send at once what has gathered of this log."""

    fence: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A slot changed: the next heartbeat is due now."""


Effect = Say | Start | Stop | Flush | Beat
