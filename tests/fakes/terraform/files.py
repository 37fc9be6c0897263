"""Files that others wait for, and the ledger."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False  # that of `typing` costs an import of its own at each start
if TYPE_CHECKING:
    from typing import Any


def entries(ledger: str) -> list[dict[str, Any]]:
    """The events of a ledger so far; none if it does not exist yet. A line that is just being written is not one yet."""
    text = read(ledger) if os.path.exists(ledger) else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def touch(path: str | None) -> None:
    if path:
        publish(path, "")


def publish(path: str, text: str) -> None:
    """Write so that whoever sees the file sees all of it."""
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w") as file:
        file.write(text)
    os.replace(draft, path)
