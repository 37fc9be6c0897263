"""How long a phase may take, and how long Terraform may take to stop: the server's settings, a workspace's own over them.

They hold from the moment in which a phase is handed out and are no part of the frozen inputs: they change nothing about what
Terraform does, and whoever raises one wants it to count for what is waiting already. Pure.
"""

from __future__ import annotations

import msgspec

from iac.domain.records import Phase

LONGEST_TIMEOUT = 30 * 86400
LONGEST_GRACE = 3600
"""Seconds that may be set."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one phase, in seconds: from its claim to the first SIGTERM, and from there to the second one."""

    timeout_s: float
    grace_s: float


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """The server's, where a workspace has none of its own."""

    plan: Limits = Limits(timeout_s=2 * 3600, grace_s=30)
    apply: Limits = Limits(timeout_s=24 * 3600, grace_s=300)

    def of(self, phase: Phase) -> Limits:
        return self.apply if phase == "apply" else self.plan


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace's, in seconds; None where it has none."""

    plan_timeout_s: int | None = None
    apply_timeout_s: int | None = None
    plan_grace_s: int | None = None
    apply_grace_s: int | None = None

    def over(self, defaults: Defaults, phase: Phase) -> Limits:
        """What holds for a phase."""
        usual = defaults.of(phase)
        timeout, grace = (
            (self.apply_timeout_s, self.apply_grace_s) if phase == "apply" else (self.plan_timeout_s, self.plan_grace_s)
        )
        return Limits(
            timeout_s=usual.timeout_s if timeout is None else timeout,
            grace_s=usual.grace_s if grace is None else grace,
        )
