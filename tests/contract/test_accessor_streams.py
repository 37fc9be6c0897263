"""The promises of DataAccessor about bytes: logs are appended once and in order, states are never thrown away."""

from __future__ import annotations

import hashlib
import random

import pytest

from iac.domain.work import RunTask, StatePush
from iac.errors import BadRequest, Fenced, LogRefused, TooLarge
from tests.contract.platforms import LOG_LIMIT, PlatformUnderTest
from tests.contract.test_accessor_contract import planned, result, state

OTHER_LINEAGE = "99999999-2222-3333-4444-555555555555"


async def logging(platform: PlatformUnderTest) -> RunTask:
    order = await platform.order("plan")
    await platform.accessor.get_task_data(order)
    return order


async def test_log_bytes_are_appended_and_the_offset_to_go_on_at_comes_back(platform: PlatformUnderTest) -> None:
    order = await logging(platform)

    assert await platform.accessor.save_task_log(order, 0, b"one\n") == 4
    assert await platform.accessor.save_task_log(order, 4, b"two\n") == 8
    assert await platform.accessor.save_task_log(order, 8, b"") == 8

    assert await platform.log(order) == (b"one\ntwo\n", "open")


async def test_bytes_that_are_ready_change_nothing_until_they_are_sent(platform: PlatformUnderTest) -> None:
    order = await logging(platform)

    send = await platform.accessor.ready_task_log(order, 0, b"one\n")
    assert (await platform.log(order))[0] == b""

    assert (await send(), await send()) == (4, 4)
    assert (await platform.log(order))[0] == b"one\n"


@pytest.mark.parametrize("offset", [0, 2, 4, 7])
async def test_log_bytes_that_are_there_already_are_not_stored_twice(platform: PlatformUnderTest, offset: int) -> None:
    order = await logging(platform)
    whole = b"one\ntwo\nthree\n"
    await platform.accessor.save_task_log(order, 0, whole[:8])

    assert await platform.accessor.save_task_log(order, offset, whole[offset:]) == len(whole)

    assert (await platform.log(order))[0] == whole


async def test_a_gap_in_a_log_is_refused_and_says_where_to_go_on(platform: PlatformUnderTest) -> None:
    order = await logging(platform)
    await platform.accessor.save_task_log(order, 0, b"one\n")

    with pytest.raises(LogRefused) as refused:
        await platform.accessor.save_task_log(order, 5, b"wo\n")

    assert (refused.value.code, refused.value.extras["next_offset"]) == ("log_gap", 4)
    assert (await platform.log(order))[0] == b"one\n"


async def test_other_bytes_for_a_stored_place_are_refused_and_the_stored_ones_stay(platform: PlatformUnderTest) -> None:
    order = await logging(platform)
    await platform.accessor.save_task_log(order, 0, b"one\ntwo\n")

    with pytest.raises(LogRefused) as refused:
        await platform.accessor.save_task_log(order, 4, b"twO\nthree\n")

    assert (refused.value.code, refused.value.extras["conflict_at"]) == ("log_conflict", 6)
    assert (await platform.log(order))[0] == b"one\ntwo\n"


async def test_a_log_takes_any_bytes(platform: PlatformUnderTest) -> None:
    order = await logging(platform)
    raw = bytes(range(256)) * 300 + b"\x00\xff\xfe"

    await platform.accessor.save_task_log(order, 0, raw)

    assert (await platform.log(order))[0] == raw


async def test_a_log_far_beyond_its_limit_is_refused_and_stays_as_it_is(platform: PlatformUnderTest) -> None:
    order = await logging(platform)
    assert await platform.accessor.save_task_log(order, 0, b"x" * LOG_LIMIT) == LOG_LIMIT

    with pytest.raises(TooLarge):
        await platform.accessor.save_task_log(order, LOG_LIMIT, b"x" * (9 << 20))

    assert len((await platform.log(order))[0]) == LOG_LIMIT


async def test_lost_late_and_doubled_chunks_leave_the_log_whole(platform: PlatformUnderTest) -> None:
    order = await logging(platform)
    chance = random.Random(7)  # noqa: S311 - a schedule, not a secret
    whole = chance.randbytes(4000)
    length = 0
    while length < len(whole):
        low = chance.randint(max(0, length - 150), min(len(whole), length + 50))
        chunk = whole[low : low + chance.randint(0, 500)]
        try:
            after = await platform.accessor.save_task_log(order, low, chunk)
        except LogRefused:
            after = length
        assert after == max(length, low + len(chunk) if low <= length else length)
        length = after

    assert (await platform.log(order))[0] == whole


async def test_each_assignment_has_a_log_of_its_own(platform: PlatformUnderTest) -> None:
    order = await logging(platform)
    await platform.accessor.save_task_log(order, 0, b"the first try\n")
    again = await platform.take_away(order)
    await platform.accessor.get_task_data(again)
    await platform.accessor.save_task_log(again, 0, b"the second try\n")

    with pytest.raises((LogRefused, Fenced)) as refused:
        await platform.accessor.save_task_log(order, 14, b"from the grave\n")

    assert refused.value.code in ("log_closed", "fenced")
    assert await platform.log(order) == (b"the first try\n", "incomplete")
    assert await platform.log(again) == (b"the second try\n", "open")


async def test_the_log_of_a_lost_apply_may_still_come(platform: PlatformUnderTest) -> None:
    order = await applying(platform)
    await platform.accessor.save_task_log(order, 0, b"before\n")
    await platform.lose(order)

    assert await platform.accessor.save_task_log(order, 7, b"after\n") == 13


# States


async def applying(platform: PlatformUnderTest) -> RunTask:
    order = await platform.confirm(await planned(platform))
    await platform.accessor.get_task_data(order)
    return order


def push(data: bytes, *, partial: bool = False) -> StatePush:
    return StatePush(data=data, sha256=hashlib.sha256(data).hexdigest(), partial=partial)


async def test_a_state_becomes_the_current_one_byte_for_byte(platform: PlatformUnderTest) -> None:
    order = await applying(platform)
    odd = state(1).replace(b'"outputs": {}', b'"outputs":   {"n": {"value": 1.10e400, "type": "number"}}')

    receipt = await platform.accessor.save_state_version(order, push(odd))

    assert (receipt.verdict, receipt.serial) == ("current", 1)
    assert await platform.states() == [("current", 1, odd)]


async def test_the_same_state_of_the_same_task_again_is_a_duplicate(platform: PlatformUnderTest) -> None:
    order = await applying(platform)
    await platform.accessor.save_state_version(order, push(state(1)))

    receipt = await platform.accessor.save_state_version(order, push(state(1)))

    assert (receipt.verdict, receipt.serial) == ("duplicate", 1)
    assert len(await platform.states()) == 1


async def test_a_checkpoint_is_kept_and_does_not_hide_the_final_state(platform: PlatformUnderTest) -> None:
    order = await applying(platform)

    verdicts = [
        (await platform.accessor.save_state_version(order, push(state(1), partial=partial))).verdict
        for partial in (True, True, False, True)
    ]

    assert verdicts == ["checkpoint", "duplicate", "current", "duplicate"]
    assert ("current", 1, state(1)) in await platform.states()


async def test_of_the_checkpoints_only_the_newest_is_kept_and_a_late_copy_changes_nothing(
    platform: PlatformUnderTest,
) -> None:
    order = await applying(platform)
    save = platform.accessor.save_state_version

    verdicts = [(await save(order, push(state(serial), partial=True))).verdict for serial in (1, 3, 2)]

    assert verdicts == ["checkpoint", "checkpoint", "duplicate"]
    assert await platform.checkpoints() == [("checkpoint", 3, state(3))]
    assert (await save(order, push(state(4)))).verdict == "current"
    assert (await save(order, push(state(3), partial=True))).verdict == "duplicate"
    assert await platform.checkpoints() == []
    assert await platform.states() == [("current", 4, state(4))]


async def test_a_last_state_that_nobody_can_read_leaves_the_checkpoint(platform: PlatformUnderTest) -> None:
    order = await applying(platform)
    await platform.accessor.save_state_version(order, push(state(1), partial=True))

    assert (await platform.accessor.save_state_version(order, push(b"{"))).verdict == "quarantined"

    assert await platform.checkpoints() == [("checkpoint", 1, state(1))]


async def test_checkpoints_of_an_abandoned_apply_are_kept_apart_the_newest_of_them(platform: PlatformUnderTest) -> None:
    order = await applying(platform)
    await platform.lose(order)
    await platform.resolve(order.task_id)

    for serial in (1, 2):
        receipt = await platform.accessor.save_state_version(order, push(state(serial), partial=True))
        assert receipt.verdict == "quarantined"
    assert await platform.checkpoints() == [("quarantined", 2, state(2))]
    assert (await platform.accessor.save_state_version(order, push(state(2)))).verdict == "quarantined"
    assert await platform.checkpoints() == []


@pytest.mark.parametrize(
    ("sent", "serial", "why"),
    [
        (state(2, OTHER_LINEAGE), 2, "lineage"),
        (state(4), 4, "serial"),
        (state(5).replace(b'"outputs": {}', b'"outputs":{}'), 5, "already taken"),
        (b"{", None, "not a usable"),
        (b"", None, "not a usable"),
    ],
)
async def test_a_state_that_does_not_continue_the_current_one_is_kept_apart(
    platform: PlatformUnderTest, sent: bytes, serial: int | None, why: str
) -> None:
    await platform.upload_state(state(5))
    order = await applying(platform)

    receipt = await platform.accessor.save_state_version(order, push(sent))

    assert (receipt.verdict, receipt.serial) == ("quarantined", serial)
    assert receipt.reason is not None
    assert why in receipt.reason
    assert ("quarantined", sent) in [(verdict, data) for verdict, _, data in await platform.states()]
    again = await platform.accessor.save_state_version(order, push(sent))
    assert again.verdict == "duplicate"


async def test_a_state_from_an_abandoned_apply_is_kept_apart_never_refused(platform: PlatformUnderTest) -> None:
    order = await applying(platform)
    await platform.lose(order)
    await platform.resolve(order.task_id)

    receipt = await platform.accessor.save_state_version(order, push(state(1)))

    assert receipt.verdict == "quarantined"
    assert receipt.reason is not None
    assert "abandoned" in receipt.reason


async def test_a_state_after_the_end_of_its_task_is_taken(platform: PlatformUnderTest) -> None:
    order = await applying(platform)
    await platform.accessor.update_task(order, result(order, "failed"))

    assert (await platform.accessor.save_state_version(order, push(state(1)))).verdict == "current"


async def test_bytes_that_do_not_have_their_checksum_are_refused(platform: PlatformUnderTest) -> None:
    order = await applying(platform)

    with pytest.raises(BadRequest) as refused:
        await platform.accessor.save_state_version(order, StatePush(data=state(1), sha256="0" * 64))

    assert refused.value.code == "checksum_mismatch"
    assert await platform.states() == []
