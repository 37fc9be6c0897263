"""Pages: one more than asked for is read, so that it is known whether there is a next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

R = TypeVar("R")


def cut(found: Sequence[R], limit: int, cursor: Callable[[R], object]) -> tuple[Sequence[R], str | None]:
    """The page out of up to `limit` + 1 records, and the cursor of the next page if there is one."""
    page = found[:limit]
    return page, str(cursor(page[-1])) if len(found) > limit else None
