"""Every error the product raises on purpose.

    IacError
    ├── BadRequest            400  what was sent cannot be understood
    ├── Unauthenticated       401  no, unknown, expired or revoked token
    ├── Forbidden             403  the token may not do this
    ├── NotFound              404  no such thing, or not visible to this token
    ├── NotAllowedHere        405  the path exists, the method does not
    ├── Conflict              409  the thing is not in a state that allows this
    │   ├── IllegalTransition      a task's lifecycle forbids the move
    │   ├── AlreadyFinal           the task is over; nothing changes any more
    │   ├── Fenced                 the caller holds an assignment that was taken away
    │   ├── PlanStale              the plan no longer matches what it was made from
    │   ├── WorkspaceLocked        somebody holds the workspace's lock
    │   └── LogRefused             a log chunk does not fit the stream (gap, conflict, closed)
    ├── Gone                  410  it was there, and is not given out any more
    ├── TooLarge              413  over a limit that the message names
    ├── WrongContentType      415  the body is of a kind the route does not take
    ├── Invalid               422  well-formed, but a value is not acceptable; `path` says which
    ├── UpgradeRequired       426  the caller speaks no version of the protocol that we speak
    ├── RateLimited           429  too much at once; `retry_after_s` says when to go on
    ├── Unavailable           503  try again later (database away, server stopping)
    ├── StorageFull           507  the disk has no room; nothing was acknowledged
    └── StartFailed                a program cannot start; `exit_code` says why (sysexits)

One class is one thing that a caller does differently; `code` is the stable word for programs, the message is for people
and says what to do. The HTTP status lives here, once; iac.web.errors only reads it.
"""

from __future__ import annotations

from typing import ClassVar


class IacError(Exception):
    """Base of all; never raised itself."""

    status: ClassVar[int] = 500
    code: str = "internal"
    retryable: bool = False

    def __init__(self, message: str, *, code: str | None = None, **extras: object) -> None:
        super().__init__(message)
        self.message = message
        self.extras = extras
        if code is not None:
            self.code = code


class BadRequest(IacError):
    """What was sent cannot be understood."""

    status = 400
    code = "bad_request"


class Unauthenticated(IacError):
    """No token, or one that is unknown, expired or revoked: the answer does not tell which."""

    status = 401
    code = "unauthenticated"


class Forbidden(IacError):
    """The token is good but may not do this."""

    status = 403
    code = "forbidden"


class NotFound(IacError):
    """No such thing, or not visible to this caller."""

    status = 404
    code = "not_found"


class NotAllowedHere(IacError):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class Conflict(IacError):
    """The thing is not in a state that allows this; reading it again tells why."""

    status = 409
    code = "conflict"


class IllegalTransition(Conflict):
    """The task's lifecycle has no such move from where it stands."""

    code = "illegal_transition"


class AlreadyFinal(Conflict):
    """The task is over."""

    code = "already_final"


class Fenced(Conflict):
    """The caller's assignment was taken away; whatever it does now has no effect."""

    code = "fenced"


class PlanStale(Conflict):
    """State, configuration or version moved since the plan was made; plan again."""

    code = "plan_stale"


class WorkspaceLocked(Conflict):
    """Somebody holds the workspace's lock; `extras` name the holder."""

    code = "workspace_locked"


class LogRefused(Conflict):
    """A log chunk does not fit its stream; `next_offset` in the extras is where to go on."""

    code = "log_gap"


class Gone(IacError):
    """It was there, and is not given out any more."""

    status = 410
    code = "gone"


class TooLarge(IacError):
    """Over a limit that the message names."""

    status = 413
    code = "too_large"


class WrongContentType(IacError):
    """The body's content type is not one that this route takes."""

    status = 415
    code = "wrong_content_type"


class Invalid(IacError):
    """Well-formed, but a value is not acceptable."""

    status = 422
    code = "invalid"


class UpgradeRequired(IacError):
    """The caller speaks no version of the protocol that this server speaks; `min` and `max` name those."""

    status = 426
    code = "upgrade_required"


class RateLimited(IacError):
    """Too much at once; `retry_after_s` in the extras says when to go on."""

    status = 429
    code = "rate_limited"
    retryable = True


class Unavailable(IacError):
    """Not now: the database is away or the server is stopping. The same call may succeed later."""

    status = 503
    code = "unavailable"
    retryable = True


class StorageFull(IacError):
    """The disk has no room; nothing was acknowledged and nothing was lost."""

    status = 507
    code = "storage_full"
    retryable = True


class StartFailed(IacError):
    """A program cannot start. `exit_code` follows sysexits: 78 settings, 69 unavailable, 70 our own fault."""

    code = "start_failed"

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
