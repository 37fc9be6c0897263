"""What the demo shows: few words, aligned, in colour where there is a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from iac.cli.client import ApiClient, End, LogBytes
from iac.cli.headings import Headings
from iac.cli.sanitising import Sanitiser

PATIENCE = 10.0
"""Seconds without the server, which is on the same machine, after which something is wrong."""


@dataclass(slots=True)
class Screen:
    """One console."""

    console: Console = field(default_factory=lambda: Console(highlight=False, markup=False, emoji=False))

    def title(self, text: str, rest: str = "") -> None:
        self._print(Text("\n").append(text, "bold").append(f"  {rest}" if rest else "", "dim"))

    def act(self, number: int, name: str, what: str) -> None:
        self._print(
            Text("\n").append(f" {number} ", "bold reverse").append(f" {name}", "bold").append(f"  {what}", "dim")
        )

    def done(self, text: str) -> None:
        self._print(Text("  ").append("✓ ", "green").append(text))

    def note(self, text: str) -> None:
        self._print(Text(f"  {text}", "dim"))

    def failed(self, text: str, log: str) -> None:
        self._print(Text("\n").append("✗ ", "bold red").append(text, "bold"))
        if log:
            self._print(Text("\nIts last words:", "dim"))
            self._print(Text(log, "dim"))

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Names and values under each other."""
        pairs = list(facts)
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            self._print(Text("  ").append(f"{name:<{width}}  ", "dim").append(value))

    def follow(self, client: ApiClient, task_id: int, offset: int = 0) -> tuple[End, bytes]:
        """Shows a task's log from `offset` while it is written; how it came to rest, and what was shown."""
        log, seen = _Log(Sanitiser(colours=self.console.is_terminal)), bytearray()
        for event in client.follow_log(task_id, offset, patience=PATIENCE):
            if isinstance(event, LogBytes):
                seen += event.data
                self._log_lines(log.feed(event.data))
            elif isinstance(event, End):
                self._log_lines(log.finish())
                return event, bytes(seen)
        raise RuntimeError("follow_log ends with an End")

    def _log_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._print(Text().append("  │ ", "dim").append_text(Text.from_ansi(line)))

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)


@dataclass(slots=True)
class _Log:
    """Bytes of a log become lines that are safe to show; one that is not complete yet is held back."""

    sanitiser: Sanitiser
    headings: Headings = field(default_factory=Headings)
    rest: str = ""

    def feed(self, data: bytes) -> list[str]:
        *lines, self.rest = (self.rest + self.sanitiser.feed(self.headings.feed(data))).split("\n")
        return lines

    def finish(self) -> list[str]:
        text = self.rest + self.sanitiser.feed(self.headings.finish()) + self.sanitiser.finish()
        self.rest = ""
        return text.splitlines()
