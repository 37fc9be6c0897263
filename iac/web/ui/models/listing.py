"""What all long lists have: addresses that say what is shown, counters that filter, and ways to what is not on the page."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from iac.web.ui.models.parts import Part, Parts
from iac.web.ui.models.words import Badge, many

FILE = "lists.html"
LAST_PAGE = 100_000
Q = TypeVar("Q", bound=msgspec.Struct)


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """A counter that filters, or stops filtering when it is on."""

    label: str
    badge: Badge | None = None
    number: int
    href: str
    on: bool


class Pages(msgspec.Struct, frozen=True):
    """Where one is, and where one can go; empty addresses lead nowhere."""

    words: str
    before: str
    after: str


class Ways(msgspec.Struct, frozen=True):
    """Where older entries are, and the newest; empty where there are none."""

    older: str
    newest: str


class NoRows(msgspec.Struct, frozen=True):
    """Instead of rows. `narrowed`: filters are in the way; `path` is the list without them."""

    narrowed: bool
    path: str


def address(base: str, query: Q, **changes: object) -> str:
    """The list's address with this changed; what is as usual is not said."""
    changed = msgspec.structs.replace(query, **changes)
    said = {name: str(value) for name, value in msgspec.to_builtins(changed).items()}
    return f"{base}?{urlencode(said)}" if said else base


def require_page(page: int) -> None:
    """Raises ValueError."""
    if not 1 <= page <= LAST_PAGE:
        raise ValueError("`page` is not a page's number")


def pages_of(base: str, query: Q, noun: str, *, page: int, size: int, total: int, shown: int) -> Pages:
    """Of a list in pages of `size`, of which the query's `page` has `shown` entries."""
    first = (page - 1) * size + 1
    if not shown:
        text = "Nothing to show" if not total else f"Page {page} is beyond the end of {many(total, noun)}"
    else:
        text = f"{first:,}–{first + shown - 1:,} of {many(total, noun)}"  # noqa: RUF001 - a range
    before = address(base, query, page=min(page - 1, -(-total // size) or 1)) if page > 1 else ""
    return Pages(text, before, address(base, query, page=page + 1) if first + size - 1 < total else "")


def pages_part(pages: Pages) -> Parts:
    return Parts("pages", (Part("pages-shown", f"{FILE}:pages", pages),))


def ways_part(ways: Ways) -> Parts:
    return Parts("ways", (Part("ways-shown", f"{FILE}:ways", ways),))


def counter_part(name: str, counter: Counter) -> Part:
    return Part(f"counter-{name}", f"{FILE}:counter", counter)
