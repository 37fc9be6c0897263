"""What a benchmark found, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One measured value. `aim` says in words what it should be; None where nothing was promised.

    A row that could not be measured has no value; `missing` says why.
    """

    name: str
    value: float | None
    unit: str
    aim: str | None = None
    ok: bool | None = None
    missing: str | None = None


def at_most(limit: float, name: str, value: float, unit: str) -> Row:
    return Row(name, round(value, 3), unit, f"≤ {limit:g}", value <= limit)


def at_least(limit: float, name: str, value: float, unit: str) -> Row:
    return Row(name, round(value, 3), unit, f"≥ {limit:g}", value >= limit)


def noted(name: str, value: float, unit: str) -> Row:
    """A value without an aim, to make sense of the ones beside it."""
    return Row(name, round(value, 3), unit)


def missed(limit: float, name: str, unit: str, why: str) -> Row:
    """A row that this machine cannot measure."""
    return Row(name, None, unit, f"≤ {limit:g}", missing=why)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    verdicts = {None: "", True: "ok", False: "MISSED"}
    cells = [("what", "value", "unit", "aim", "")]
    cells += [(row.name, _number(row.value), row.unit, row.aim or "", row.missing or verdicts[row.ok]) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {value:>{widths[1]}} {unit:<{widths[2]}}  {aim:<{widths[3]}}  {verdict}".rstrip()
        for name, value, unit, aim, verdict in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _number(value: float | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - nothing, in a table
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(path: Path, rows: Sequence[Row]) -> None:
    """Writes the rows as a JSON list, one object a line."""
    lines = ",\n ".join(msgspec.json.encode(row).decode() for row in rows)
    path.write_text(f"[{lines}]\n", encoding="utf-8")
