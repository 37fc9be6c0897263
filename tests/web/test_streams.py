"""Several that talk in one stream: turns, pauses, ids, and their end."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from iac.web.sse import STILL_HERE, Event, Pause, Talker, told


async def says(*steps: Event | Pause | bytes, closed: list[str] | None = None, name: str = "") -> Talker:
    try:
        for step in steps:
            yield step
    finally:
        if closed is not None:
            closed.append(name)


async def all_of(*talkers: Talker, ids: tuple[str, ...] | None = None) -> list[str]:
    """What comes, until the first of them ends."""
    found = told(*talkers, ids=ids or ("",) * len(talkers))
    return [each.decode().replace("\ndata: {}\n\n", "").removeprefix("event: ") async for each in found]


def event(name: str, event_id: str = "") -> Event:
    return Event(name, {}, event_id)


async def test_each_has_its_turn_and_nobody_waits_until_another_has_told_all() -> None:
    assert await all_of(says(event("a"), event("b"), event("c")), says(event("1"), event("2"), event("3"))) == [
        "a", "1", "b", "2", "c", "3",
    ]  # fmt: skip


async def test_an_id_says_where_each_of_them_is() -> None:
    first, second = says(event("a", "7.1"), event("b"), event("c", "7.2")), says(event("1", "100"), event("2", "200:3"))
    assert await all_of(first, second, ids=("7.0", "50")) == [
        "id: 7.1~50\nevent: a",
        "id: 7.1~100\nevent: 1",
        "b",
        "id: 7.1~200:3\nevent: 2",
        "id: 7.2~200:3\nevent: c",
    ]


async def test_who_pauses_holds_up_nobody(autojump_clock: MockClock) -> None:
    never = trio.Event()
    first = says(Pause.of(never, within=10), event("late"))
    assert await all_of(first, says(event("1"), STILL_HERE, event("2"))) == ["1", ": still here\n\n", "2", "late"]
    assert trio.current_time() >= 10


async def test_a_pause_is_over_when_its_bell_rings_and_for_others_it_goes_on(autojump_clock: MockClock) -> None:
    bell, never = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:

        async def ring() -> None:
            await trio.sleep(3)
            bell.set()

        nursery.start_soon(ring)
        first = says(Pause.of(bell, within=100), event("rung"), Pause.of(never, within=20), event("end"))
        assert await all_of(first, says(Pause.of(never, within=10), event("1"))) == ["rung", "1", "end"]


async def test_the_first_ones_end_is_the_end_and_all_are_closed() -> None:
    closed: list[str] = []
    first = says(event("a"), closed=closed, name="first")
    second = says(event("1"), event("2"), closed=closed, name="second")
    assert await all_of(first, second) == ["a", "1"]
    assert closed == ["first", "second"]


async def test_another_ones_end_is_not() -> None:
    assert await all_of(says(event("a"), event("b"), event("c")), says(event("1"))) == ["a", "1", "b", "c"]


async def test_who_stops_listening_closes_all() -> None:
    closed: list[str] = []
    stream = told(
        says(event("a"), closed=closed, name="first"), says(event("1"), closed=closed, name="second"), ids=("", "")
    )
    await anext(stream)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert closed == ["first", "second"]
