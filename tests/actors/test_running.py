"""What runs here, and the race between an order and its cancellation, which come on two channels."""

from iac.actors.running import REMEMBERED, Running
from tests.actors.orders import order


async def test_an_order_has_one_seat() -> None:
    running = Running()

    seat = running.admit(order(1))

    assert seat is not None
    assert running.admit(order(1)) is None
    assert running.orders == (order(1),)
    assert running.fences == frozenset({1})
    running.forget(1)
    assert running.fences == frozenset()


async def test_a_cancel_after_the_order_cancels_its_scope_only() -> None:
    running = Running()
    first, second = running.admit(order(1)), running.admit(order(2))

    running.cancel(1, force=False)

    assert first is not None
    assert second is not None
    assert (first.scope.cancel_called, first.hurry.is_set()) == (True, False)
    assert not second.scope.cancel_called


async def test_a_cancel_before_the_order_dooms_it() -> None:
    running = Running()

    running.cancel(1, force=True)
    seat = running.admit(order(1))

    assert seat is not None
    assert (seat.scope.cancel_called, seat.hurry.is_set()) == (True, True)


async def test_a_doom_is_used_once() -> None:
    running = Running()
    running.cancel(1, force=False)
    running.admit(order(1))
    running.forget(1)

    again = running.admit(order(1))

    assert again is not None
    assert not again.scope.cancel_called


async def test_a_second_cancel_may_hurry_and_never_takes_hurry_back() -> None:
    running = Running()
    seat = running.admit(order(1))
    assert seat is not None

    running.cancel(1, force=False)
    assert not seat.hurry.is_set()
    running.cancel(1, force=True)
    running.cancel(1, force=False)

    assert seat.hurry.is_set()


async def test_force_of_an_early_cancel_is_not_taken_back_either() -> None:
    running = Running()
    running.cancel(1, force=True)
    running.cancel(1, force=False)

    seat = running.admit(order(1))

    assert seat is not None
    assert seat.hurry.is_set()


async def test_cancellations_of_what_never_comes_do_not_pile_up() -> None:
    running = Running()
    for fence in range(REMEMBERED + 10):
        running.cancel(fence, force=False)

    forgotten, kept = running.admit(order(0)), running.admit(order(REMEMBERED + 9))

    assert forgotten is not None
    assert kept is not None
    assert (forgotten.scope.cancel_called, kept.scope.cancel_called) == (False, True)
