"""What is read once for all who ask, and given up when there is no more room."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from iac.web.ui.shelf import Shelf


class Library:
    """Counts how often each document was read; one called "torn" cannot be."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.open = trio.Event()

    async def read(self, name: str, size: int = 10) -> tuple[str, int]:
        self.reads.append(name)
        await self.open.wait()
        if name == "torn":
            raise ValueError(name)
        return name.upper(), size


async def test_all_who_ask_at_once_share_one_reading() -> None:
    library, shelf, got = Library(), Shelf[str](), []

    async def ask() -> None:
        got.append(await shelf.get("a", lambda: library.read("a")))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        library.open.set()
    assert (got, library.reads) == (["A"] * 5, ["a"])


async def test_what_was_not_asked_for_longest_makes_room() -> None:
    library, shelf = Library(), Shelf[str](room=25)
    library.open.set()
    for name in ("a", "b", "a", "c", "a", "b"):
        await shelf.get(name, lambda name=name: library.read(name))  # type: ignore[misc]  # a default binds the name
    assert library.reads == ["a", "b", "c", "b"]


async def test_one_that_is_larger_than_the_room_is_kept_alone() -> None:
    library, shelf = Library(), Shelf[str](room=25)
    library.open.set()
    for name, size in (("a", 10), ("huge", 100), ("huge", 100), ("a", 10)):
        await shelf.get(name, lambda name=name, size=size: library.read(name, size))  # type: ignore[misc]
    assert library.reads == ["a", "huge", "a"]


async def test_what_could_not_be_read_is_tried_anew() -> None:
    library, shelf = Library(), Shelf[str]()
    library.open.set()
    for _ in range(2):
        with pytest.raises(ValueError, match="torn"):
            await shelf.get("torn", lambda: library.read("torn"))
    assert library.reads == ["torn", "torn"]
