"""Thousands of clients that do what no test thought of."""

from __future__ import annotations

import random
from collections.abc import Iterator

import trio

from iac.web.connection_limits import Limits
from tests.web.hostile import (
    GET,
    KIB,
    LAST_GET,
    Client,
    Footprint,
    Server,
    chunked,
    eventually,
    frame,
    post,
    serving,
    upgrade,
)

CLIENTS, AT_ONCE = 5_000, 100
GOOD = (
    GET,
    LAST_GET,
    GET * 3,
    b"HEAD /json HTTP/1.0\r\n\r\n",
    b"GET /slow?seconds=0.01 HTTP/1.1\r\nHost: x\r\n\r\n" + GET,
    b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n",
    post("/echo", b"hello" * 100),
    post("/echo", b"hello", headers="Expect: 100-continue\r\n"),
    post("/upload", bytes(200 * KIB), length=1024 * KIB),
    post("/upload", bytes(8 * KIB), length=2048 * KIB),
    chunked("/upload", b"a" * 10, b"b" * 5000) + b"0\r\n\r\n",
    upgrade(),
    upgrade() + frame(1, b"early"),
    upgrade("/ws?check=0.02"),
    upgrade("/flood", headers=b"Sec-WebSocket-Protocol: a, b\r\n"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
)
FRAMES = (frame(1, b"text"), frame(2, bytes(300)), frame(8, b"\x03\xe8"), frame(9, b"ping"), frame(0, b"x"), frame(5))


def mutated(dice: random.Random, packet: bytes) -> bytes:
    """`packet` with a few bytes changed, dropped, doubled or put in."""
    changed = bytearray(packet[: 4 * KIB])
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed))
        match dice.randrange(4):
            case 0:
                changed[at] = dice.randrange(256)
            case 1:
                del changed[at : at + dice.randint(1, 20)]
                changed += b"\r\n"
            case 2:
                changed[at:at] = changed[at : at + 20]
            case 3:
                changed[at:at] = dice.choice(
                    [b"\x00", b"\xff\xfe", b"\r\n", b"\n", b":", b" ", b"Connection: Upgrade\r\n"]
                )
    return bytes(changed)


def packets(dice: random.Random) -> Iterator[bytes]:
    """What one client sends, piece by piece."""
    good = dice.choice(GOOD)
    match dice.randrange(5):
        case 0:
            yield dice.randbytes(dice.randint(1, 600)) + dice.choice([b"", b"\r\n\r\n"])
        case 1:
            yield good[: dice.randrange(len(good))]
        case 2:
            yield mutated(dice, good)
        case 3:
            cut = dice.randrange(len(good))
            yield good[:cut]
            yield good[cut:] + dice.choice([b"", b"\r\n", GET])
        case 4:
            yield upgrade(dice.choice(["/ws", "/flood", "/json", "/nowhere"]))
            yield from (mutated(dice, f) if dice.random() < 0.3 else f for f in dice.choices(FRAMES, k=5))


async def misbehave(server: Server, dice: random.Random) -> None:
    """One connection of a client that does not care."""
    client = await server.connect()
    try:
        for packet in packets(dice):
            await client.send(packet)
            with trio.move_on_after(dice.choice([0, 0, 0.01])):
                await client.receive()
        with trio.move_on_after(dice.choice([0, 0.02, 0.1])):
            await client.rest()
    finally:
        await leave(client, dice)
        server.clients.remove(client)


async def leave(client: Client, dice: random.Random) -> None:
    if dice.random() < 0.5:
        await client.reset()
    else:
        await client.close()


async def test_five_thousand_random_clients_leave_no_trace() -> None:
    async with serving(Limits(headers_within=2.0)) as server:
        before = Footprint.now()
        seeds = iter(range(CLIENTS))

        async def one_after_the_other() -> None:
            for seed in seeds:
                await misbehave(server, random.Random(seed))  # noqa: S311 - only has to be repeatable

        with trio.fail_after(30):
            async with trio.open_nursery() as crowd:
                for _ in range(AT_ONCE):
                    crowd.start_soon(one_after_the_other)
        assert await server.answers()
        await before.regained()
        await eventually(lambda: server.busy == set())
        assert server.errors == []
        assert await server.stop() < 1.0
