"""One connection without a network, and the fleet without a clock of its own: order, bounds, and how things end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio
import trio.testing

from iac.actors.agent_connection import AgentConnection
from iac.actors.fleet import Fleet
from iac.actors.outbox import MOST_CONTROL, MOST_LIVE, Outbox
from iac.domain.agent_session import Times
from iac.domain.messages import (
    Drain,
    FlushLogs,
    FromAgent,
    FromServer,
    Goodbye,
    HeartbeatAck,
    Hello,
    LiveSubscribe,
    RunTaskOrder,
    ServerShutdown,
    Wanted,
    decode_from_server,
    encode,
)
from iac.errors import Conflict, Unavailable
from iac.store.database import Database

HELLO = Hello(agent_id="agent-a", boot_id="boot-1", conn_seq=1)
ORDER = RunTaskOrder(
    task_id=7, workspace_id="ws", action="plan", assignment_id="asg-1", fence=41, attempt=1, task_token="t"
)


class Wire:
    """A WebSocket in memory. `stuck` makes a send wait for ever, as for a peer that does not read."""

    def __init__(self) -> None:
        self.peer, self._frames = trio.open_memory_channel[str | bytes](1000)
        self.sent: list[FromServer] = []
        self.closed: tuple[int, str] | None = None
        self.stuck = False

    async def receive(self) -> str | bytes:
        return await self._frames.receive()

    async def send(self, text: str) -> None:
        if self.stuck:
            await trio.sleep_forever()
        self.sent.append(decode_from_server(text))
        await trio.lowlevel.checkpoint()

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def say(self, message: FromAgent) -> None:
        self.peer.send_nowait(encode(message))


class Heard:
    """What a connection's handler got."""

    def __init__(self, then: Callable[[FromAgent], Awaitable[None]] | None = None) -> None:
        self.messages: list[FromAgent] = []
        self._then = then

    async def __call__(self, _connection: AgentConnection, message: FromAgent) -> None:
        self.messages.append(message)
        if self._then is not None:
            await self._then(message)


def ack(seq: int) -> HeartbeatAck:
    return HeartbeatAck(seq=seq)


def flush(fence: int) -> FlushLogs:
    return FlushLogs(task_id=1, fence=fence)


# The outbox


def test_what_matters_most_goes_first_and_of_acks_only_the_last_one() -> None:
    box = Outbox()
    watch = LiveSubscribe(task_id=1, fence=1, from_offset=0)
    for given in (watch, ack(1), Drain(reason="a"), ack(2), Drain(reason="b")):
        assert box.put(given)
    assert [box.take() for _ in range(4)] == [Drain(reason="a"), Drain(reason="b"), ack(2), watch]
    assert box.take() is None


def test_what_is_for_spectators_is_dropped_and_what_is_not_is_refused() -> None:
    box = Outbox()
    assert all(box.put(flush(number)) for number in range(2 * MOST_LIVE))
    assert all(box.put(Drain(reason=str(number))) for number in range(MOST_CONTROL))
    assert not box.put(Drain(reason="one too many"))
    count = 0
    while box.take() is not None:
        count += 1
    assert count == MOST_CONTROL + MOST_LIVE


async def test_whoever_waits_for_the_outbox_gets_what_is_put_later(autojump_clock: trio.testing.MockClock) -> None:
    box = Outbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        box.put(ack(1))
        assert await box.get() == ack(1)
        put_later = partial(box.put, Drain(reason="x"))
        nursery.start_soon(_later, put_later)
        assert await box.get() == Drain(reason="x")


async def _later(act: Callable[[], object]) -> None:
    await trio.sleep(5)
    act()


# One connection


async def test_last_words_are_said_in_their_order_before_the_end(autojump_clock: trio.testing.MockClock) -> None:
    connection, wire = AgentConnection("agent-a", Times()), Wire()
    for message in (Drain(reason="a"), ServerShutdown(retry_after_s=1)):
        connection.send(message)
    connection.end(1012, "restart")
    connection.end(4403, "too late")
    connection.send(Drain(reason="never said"))
    await connection.run(wire, Heard())
    # The one that the writer was at may come twice.
    assert list(dict.fromkeys(wire.sent)) == [Drain(reason="a"), ServerShutdown(retry_after_s=1)]
    assert wire.closed == (1012, "restart")
    assert connection.left.is_set()


async def test_the_message_that_was_being_sent_is_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    connection, wire = AgentConnection("agent-a", Times()), Wire()
    wire.stuck = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, wire, Heard())
        connection.send(ServerShutdown(retry_after_s=1))
        await trio.testing.wait_all_tasks_blocked()
        wire.stuck = False
        connection.end(1012, "restart")
    assert set(wire.sent) == {ServerShutdown(retry_after_s=1)}


async def test_a_peer_that_does_not_read_cannot_delay_the_end_for_long(autojump_clock: trio.testing.MockClock) -> None:
    connection, wire = AgentConnection("agent-a", Times()), Wire()
    wire.stuck = True
    connection.send(ServerShutdown(retry_after_s=1))
    connection.end(1012, "restart")
    before = trio.current_time()
    await connection.run(wire, Heard())
    assert trio.current_time() - before == pytest.approx(2.0)


async def test_a_peer_that_does_not_read_loses_its_connection(autojump_clock: trio.testing.MockClock) -> None:
    connection, wire = AgentConnection("agent-a", Times()), Wire()
    wire.stuck = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, wire, Heard())
        for number in range(MOST_CONTROL + 2):
            connection.send(Drain(reason=str(number)))
            await trio.lowlevel.checkpoint()
        assert connection.ending


async def test_the_hello_has_ten_seconds_and_silence_sixty(autojump_clock: trio.testing.MockClock) -> None:
    connection, wire = AgentConnection("agent-a", Times()), Wire()
    await connection.run(wire, Heard())
    assert (wire.closed, trio.current_time()) == ((4408, "no hello"), 10.0)
    connection, wire = AgentConnection("agent-a", Times()), Wire()
    wire.say(HELLO)
    await connection.run(wire, Heard())
    assert (wire.closed, trio.current_time()) == ((4408, "silent for too long"), 70.0)


async def test_every_frame_puts_the_silence_off(autojump_clock: trio.testing.MockClock) -> None:
    connection, wire = AgentConnection("agent-a", Times()), Wire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, wire, Heard())
        wire.say(HELLO)
        for _ in range(5):
            await trio.sleep(59)
            wire.say(Goodbye(reason="not yet"))
        assert not connection.ending
        await trio.sleep(61)
        assert connection.ending


async def test_a_fault_of_ours_costs_this_connection_only(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fault(_message: FromAgent) -> None:
        raise ValueError("a bug")

    connection, wire = AgentConnection("agent-a", Times()), Wire()
    wire.say(HELLO)
    await connection.run(wire, Heard(fault))
    assert wire.closed == (1011, "a fault of the server")
    assert "a message could not be handled" in caplog.text


async def test_a_handler_that_is_slow_does_not_keep_the_reader_from_reading(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(_message: FromAgent) -> None:
        await trio.sleep(30)

    connection, wire, heard = AgentConnection("agent-a", Times()), Wire(), Heard(slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, wire, heard)
        wire.say(HELLO)
        for number in range(300):
            wire.say(Goodbye(reason=str(number)))
            await trio.sleep(0.05)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.closed == (4429, "more messages than can be handled")
    assert len(heard.messages) < 5


# The fleet


def a_fleet(database: Database) -> Fleet:
    return Fleet(database, Times(), changed=lambda _task: None, wake=lambda: None)


def introduced(fleet: Fleet, agent_id: str = "agent-a", boot: str = "boot-1") -> AgentConnection:
    """A connection that has said hello."""
    connection = fleet.open(agent_id)
    connection.boot_id = boot
    member = fleet.member(agent_id)
    member.session.hello(Hello(agent_id=agent_id, boot_id=boot, conn_seq=1), {}, trio.current_time())
    fleet.join(member, connection)
    return connection


async def test_nothing_is_delivered_to_whom_nobody_knows_or_hears(database: Database) -> None:
    fleet = a_fleet(database)
    assert not fleet.deliver("agent-a", ORDER)
    connection = introduced(fleet)
    assert fleet.deliver("agent-a", ORDER)
    fleet.leave(connection)
    assert not fleet.deliver("agent-a", ORDER)


async def test_a_connection_that_was_replaced_does_not_take_the_new_one_along(database: Database) -> None:
    fleet = a_fleet(database)
    old = introduced(fleet)
    new = introduced(fleet)
    assert old.ending
    fleet.leave(old)
    assert fleet.member("agent-a").connection is new


async def test_an_agent_that_asks_over_http_is_there_as_well(database: Database) -> None:
    fleet = a_fleet(database)
    member = fleet.member("agent-a")
    member.session.hello(HELLO, {}, trio.current_time())
    assert not fleet.deliver("agent-a", ORDER)
    fleet.pending("agent-a")
    assert fleet.deliver("agent-a", ORDER)
    assert fleet.pending("agent-a").tasks == (ORDER,)
    fleet.cancel("agent-a", Wanted(task_id=7, fence=41, cancel_id="can-1"), reason="user")
    assert [each.cancel_id for each in fleet.pending("agent-a").cancel] == ["can-1"]
    assert fleet.pending("agent-a").tasks == ()


async def test_another_process_is_refused_only_while_the_first_was_just_heard(database: Database) -> None:
    fleet = a_fleet(database)
    connection, now = introduced(fleet), trio.current_time()
    fleet.refuse_second("agent-a", "boot-1", now)
    fleet.refuse_second("agent-b", "boot-2", now)
    with pytest.raises(Conflict) as caught:
        fleet.refuse_second("agent-a", "boot-2", now + 20)
    assert caught.value.code == "session_conflict"
    fleet.refuse_second("agent-a", "boot-2", now + 26)
    connection.end(1000, "")
    fleet.refuse_second("agent-a", "boot-2", now)


async def test_a_shutdown_says_goodbye_to_everybody_and_lets_nobody_in(database: Database) -> None:
    fleet = a_fleet(database)
    wires = [Wire() for _ in range(20)]
    async with trio.open_nursery() as nursery:
        async with AsyncExitStack() as stack:
            for number, wire in enumerate(wires):
                connection = introduced(fleet, f"agent-{number}")
                stack.callback(fleet.leave, connection)
                nursery.start_soon(connection.run, wire, Heard())
            with trio.fail_after(5):
                await fleet.shutdown(within=4)
    assert {wire.closed for wire in wires} == {(1012, "the server restarts")}
    assert all(isinstance(wire.sent[-1], ServerShutdown) for wire in wires)
    with pytest.raises(Unavailable):
        fleet.open("agent-1")


async def test_who_has_just_begun_to_speak_is_not_forgotten(database: Database) -> None:
    fleet = a_fleet(database)
    member, now = fleet.member("agent-a"), trio.current_time()
    assert member.gone_for(now + 1) == pytest.approx(1, abs=0.1)
    connection = introduced(fleet)
    assert member.gone_for(now + 500) == 0
    fleet.leave(connection)
    assert member.gone_for(now + 500) == pytest.approx(500, abs=1)
