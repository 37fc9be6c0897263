"""What the demo shows: few words, aligned, in colour where there is a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from iac.cli.client import ApiClient, End, LogBytes
from iac.cli.sanitising import Sanitiser
from iac.domain.bodies import ChangeView

MARKER = "── iac: stage "
VERBS: Mapping[str, tuple[str, str]] = {
    "create": ("+", "green"),
    "delete": ("-", "red"),
    "update": ("~", "yellow"),
    "read": ("·", "dim"),
}


@dataclass(slots=True)
class Screen:
    """One console; a log line that is not complete yet is held back."""

    console: Console = field(default_factory=lambda: Console(highlight=False, markup=False, emoji=False))
    _rest: str = ""

    def title(self, text: str, rest: str = "") -> None:
        self._print(Text("\n").append(text, "bold").append(f"  {rest}" if rest else "", "dim"))

    def act(self, number: int, name: str, what: str) -> None:
        self._print(Text("\n").append(f" {number} ", "bold reverse").append(f" {name}", "bold").append(f"  {what}", "dim"))

    def done(self, text: str) -> None:
        self._print(Text("  ").append("✓ ", "green").append(text))

    def note(self, text: str) -> None:
        self._print(Text(f"  {text}", "dim"))

    def failed(self, text: str, log: str) -> None:
        self._print(Text("\n").append("✗ ", "bold red").append(text, "bold"))
        if log:
            self._print(Text("\nThe server's last words:", "dim"))
            self._print(Text(log, "dim"))

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Names and values under each other."""
        pairs = list(facts)
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            self._print(Text("  ").append(f"{name:<{width}}  ", "dim").append(value))

    def changes(self, changes: Sequence[ChangeView]) -> None:
        for change in changes:
            sign, style = VERBS.get(change.action, ("±", "yellow"))
            self._print(Text("  ").append(f"{sign} {change.address}", style))

    def follow(self, client: ApiClient, task_id: int, offset: int = 0) -> tuple[End, bytes]:
        """Shows a task's log while it is written; how it ended, and the bytes that were shown."""
        sanitiser, seen = Sanitiser(colours=self.console.is_terminal), bytearray()
        for event in client.follow_log(task_id, offset, patience=10.0):
            if isinstance(event, LogBytes):
                seen += event.data
                self._lines(sanitiser.feed(event.data))
            elif isinstance(event, End):
                self._lines(sanitiser.finish() + "\n" * bool(self._rest))
                return event, bytes(seen)
        raise RuntimeError("a log ends with End")  # follow_log promises it

    def _lines(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            # The marks between the stages are for programs.
            if MARKER not in line:
                self._print(Text("  │ ", "dim").append_text(Text.from_ansi(line)))

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)
