"""Listen, read, wait: nothing is missed."""

import trio

from iac.actors.bell import Bell
from iac.actors.news import News


def test_a_ring_after_listening_is_heard() -> None:
    bell = Bell[int]()
    heard, other = bell.listen(1), bell.listen(2)

    bell.ring(1)

    assert (heard.is_set(), other.is_set()) == (True, False)


def test_a_ring_before_listening_is_not_heard() -> None:
    bell = Bell[int]()
    bell.ring(1)

    assert not bell.listen(1).is_set()


def test_all_who_listen_to_one_thing_hear_the_same_ring() -> None:
    bell = Bell[int]()
    assert bell.listen(1) is bell.listen(1)


def test_the_end_of_the_program_rings_for_everybody() -> None:
    bell = Bell[int]()
    events = [bell.listen(number) for number in range(3)]

    bell.ring_all()

    assert all(event.is_set() for event in events)


def test_a_bell_forgets_what_it_rang() -> None:
    bell = Bell[int]()
    for number in range(1000):
        bell.listen(number)
        bell.ring(number)

    assert bell._events == {}


async def test_a_reader_that_listens_first_misses_no_change() -> None:
    bell, changes, seen = Bell[int](), 0, 0

    async def change() -> None:
        nonlocal changes
        for _ in range(100):
            changes += 1
            bell.ring(1)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        with trio.fail_after(60):
            while seen < 100:
                event = bell.listen(1)
                if changes == seen:
                    await event.wait()
                seen = changes


async def test_who_overhears_is_told_of_each_ring_whether_anybody_listens_or_not() -> None:
    overheard: list[int] = []
    bell = Bell(overheard.append)
    bell.ring(1)
    event = bell.listen(2)
    bell.ring(2)
    assert (overheard, event.is_set()) == ([1, 2], True)


async def test_a_task_that_moves_is_news_of_its_own_and_of_all_tasks() -> None:
    news = News()
    own, others, tasks, agents = (news.listen(topic) for topic in ("task-7", "task-8", "tasks", "agents"))
    news.task(7)
    assert [event.is_set() for event in (own, others, tasks, agents)] == [True, False, True, False]
