"""Where output goes: results to stdout, talk to stderr; pretty on a terminal, plain elsewhere, JSON where asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

import msgspec
from rich.console import Console, RenderableType
from rich.status import Status
from rich.table import Table
from rich.text import Text

from iac.cli.sanitising import escaped, one_line

STYLES = {
    "succeeded": "green",
    "failed": "red",
    "lost": "bold red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "planned": "cyan",
    "running": "blue",
    "locked": "yellow",
    "online": "green",
    "offline": "red",
    "draining": "yellow",
    "waiting for approval": "yellow",
    "shut out": "red",
    "retired": "dim",
}


class Terminal:
    """stdin, stdout and stderr of one call. `json` keeps stdout for one JSON document, or one for each line."""

    def __init__(self, *, json: bool, no_color: bool, env: Mapping[str, str]) -> None:
        plain = no_color or bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
        self.json = json
        self.out, self.err = sys.stdout, sys.stderr
        self.out_is_tty, self.err_is_tty = self.out.isatty(), self.err.isatty()
        self.colours_out = self.out_is_tty and not plain
        self.colours_err = self.err_is_tty and not plain
        self._out, self._err = _console(self.out, self.colours_out), _console(self.err, self.colours_err)

    @property
    def can_ask(self) -> bool:
        return not self.json and sys.stdin.isatty() and self.err_is_tty

    def print(self, text: str = "") -> None:
        """One line of the result."""
        self.out.write(f"{text}\n")
        self.out.flush()

    def raw(self, data: bytes) -> None:
        """Bytes of the result, as they are."""
        self.out.flush()
        self.out.buffer.write(data)
        self.out.buffer.flush()

    def document(self, value: object) -> None:
        """The result as JSON, on one line unless somebody looks at it."""
        encoded = msgspec.json.encode(value)
        self.print(self._json(msgspec.json.format(encoded, indent=2) if self.out_is_tty else encoded))

    def line(self, value: object) -> None:
        """One of many JSON documents, each on a line."""
        self.print(self._json(msgspec.json.encode(value)))

    def _json(self, encoded: bytes) -> str:
        text = encoded.decode()
        return escaped(text) if self.out_is_tty else text

    def note(self, text: str, style: str = "") -> None:
        """A line of talk."""
        self.out.flush()
        self._err.print(Text(one_line(text), style), soft_wrap=True)

    def error(self, text: str) -> None:
        self.out.flush()
        lines = text.split("\n")
        self._err.print(Text.assemble(("Error: ", "bold red"), one_line(lines[0])), soft_wrap=True)
        for line in lines[1:]:
            self._err.print(Text(one_line(line)), soft_wrap=True)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
        """Rows for people; `empty` is said on stderr when there are none."""
        cells = [[one_line("" if cell is None else cell) for cell in row] for row in rows]
        if not cells:
            self.note(empty)
        elif self.out_is_tty:
            self._pretty(headers, cells)
        else:
            self._plain([[header.upper() for header in headers], *cells])

    def _pretty(self, headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        last = len(headers) - 1
        # On a narrow terminal the widest columns give way first; never the first, which says what a row is called.
        for at, header in enumerate(headers):
            table.add_column(Text(header, no_wrap=True, overflow="ellipsis"), no_wrap=at == 0)
        for row in cells:
            table.add_row(
                *(
                    Text(cell, STYLES.get(cell, ""), no_wrap=at < last, overflow="ellipsis" if at < last else "fold")
                    for at, cell in enumerate(row)
                )
            )
        self._out.print(table)

    def _plain(self, lines: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.out.write(f"{padded.rstrip()}\n")

    def facts(self, facts: Mapping[str, object]) -> None:
        """Names and values under each other; what is None or empty is left out."""
        shown = {name: one_line(value) for name, value in facts.items() if value not in (None, "", (), {})}
        width = max(map(len, shown), default=0)
        for name, value in shown.items():
            line = Text.assemble((f"{name}:".ljust(width + 2), "bold"), (value, STYLES.get(value, "")))
            self._out.print(line, soft_wrap=True)

    def spinner(self, shown: RenderableType) -> Status | None:
        """Something that turns on stderr; None where nobody would see it."""
        if not self.err_is_tty or self.json:
            return None
        return Status(shown, console=self._err)

    def ask(self, question: str) -> str | None:
        """The answer, without blanks around it; None at the end of input."""
        self.out.flush()
        self.err.write(f"{question} ")
        self.err.flush()
        answer = sys.stdin.readline()
        if not answer:
            self.err.write("\n")
        return answer.strip() if answer else None

    def confirmed(self, question: str) -> bool:
        return (self.ask(f"{question} [y/N]") or "").lower() in ("y", "yes")


def _console(stream: IO[str], colours: bool) -> Console:
    return Console(
        file=stream,
        no_color=not colours,
        highlight=False,
        markup=False,
        emoji=False,
        color_system="auto" if colours else None,
    )
