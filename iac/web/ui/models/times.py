"""Times as people say them. `static/ui.js` says the same words, so that nothing jumps when it takes over."""

from __future__ import annotations

from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60, 3600, 86400


def ago(then: datetime, now: datetime) -> str:
    """`just now`, `12 s ago`, `3 min ago`, `5 h ago`, `2 days ago`; the date when it is over a month ago."""
    seconds = int((now - then).total_seconds())
    if seconds < 5:
        return "just now"
    if seconds < MINUTE:
        return f"{seconds} s ago"
    if seconds < HOUR:
        return f"{seconds // MINUTE} min ago"
    if seconds < DAY:
        return f"{seconds // HOUR} h ago"
    if seconds < 30 * DAY:
        days = seconds // DAY
        return "1 day ago" if days == 1 else f"{days} days ago"
    return f"{then.astimezone(UTC):%Y-%m-%d}"


def lasting(seconds: float) -> str:
    """`12 s`, `3 min 05 s`, `5 h 02 min`, `2 d 3 h`."""
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def exact(then: datetime) -> str:
    return f"{then.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
