"""Spans of time as people write and read them: `90d`, `3 s ago`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_FORM = re.compile(r"(\d{1,9})([smhdw]?)")


class Span(click.ParamType[int]):
    """A whole number with a unit (s, m, h, d, w), or of seconds; becomes seconds. `least` and `most` are seconds."""

    name = "span"

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _FORM.fullmatch(str(value).strip().lower())
        if found is None:
            self.fail(
                f"{value!r} is no span of time; give for example 90d, 12h, 30m, or a number of seconds.", param, ctx
            )
        seconds = int(found[1]) * _SECONDS[found[2] or "s"]
        if not self.least <= seconds <= self.most:
            self.fail(f"{value} is not between {spelled(self.least)} and {spelled(self.most)}.", param, ctx)
        return seconds


class Limit(Span):
    """A span, or `default`, which becomes 0: what the server says."""

    name = "limit"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return 0 if str(value).strip().lower() == "default" else super().convert(value, param, ctx)


def countdown(seconds: float) -> str:
    """As exact as somebody who waits for it wants it: `4 min 12 s`."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def spelled(seconds: float) -> str:
    """In the largest unit of which there are at least two: `90 s`, `36 h`."""
    for unit in ("d", "h", "m"):
        if seconds >= 2 * _SECONDS[unit]:
            return f"{int(seconds // _SECONDS[unit])} {'min' if unit == 'm' else unit}"
    return f"{max(0, int(seconds))} s"


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """How long ago by this machine's clock; a moment that is still to come was just now."""
    if at is None:
        return "never"
    return f"{spelled(((now or datetime.now(UTC)) - at) / timedelta(seconds=1))} ago"
