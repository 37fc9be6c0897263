"""Lists: a page is read with one more than asked for, so that it is known whether there is a next one; and their filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from iac.errors import Invalid

R = TypeVar("R")


def cut(found: Sequence[R], limit: int, cursor: Callable[[R], object]) -> tuple[Sequence[R], str | None]:
    """The page out of up to `limit` + 1 records, and the cursor of the next page if there is one."""
    page = found[:limit]
    return page, str(cursor(page[-1])) if len(found) > limit else None


def several(text: str | None, kind: Any, path: str) -> Any:  # noqa: ANN401 - a tuple of one of the domain's literals
    """The values of a filter, which are separated by commas. Raises Invalid."""
    if text is None:
        return ()
    try:
        return msgspec.convert(tuple(part for part in text.split(",") if part), kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"{path}: {error}", path=f"$.{path}") from None
