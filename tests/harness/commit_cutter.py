"""A network between the server and PostgreSQL that breaks exactly at a COMMIT: nobody can tell whether it was carried out.

    async with commit_cutter(database_url) as cutter:
        ... a server with the database cutter.url ...
        cutter.cut("claimed_at = ", committed=True)     # PostgreSQL has committed; the answer never comes
        cutter.cut("claimed_at = ", committed=False)    # the connection breaks before PostgreSQL hears of the COMMIT

It reads as much of the frontend/backend protocol as it needs: which statements a transaction had, and where its end is. A
statement outside of any transaction is one by itself.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import trio

READ = 64 * 1024
READY = b"Z"
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass
class Cut:
    """One break to come. `part` is text of a statement in the transaction that it is for."""

    part: str
    committed: bool
    done: trio.Event = field(default_factory=trio.Event)


class CommitCutter:
    """`url` leads through it; `cuts` are those that have not happened yet."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.{parts.port or 5432}"
        self._name = f"{parts.username or 'postgres'}:@127.0.0.1:%d{parts.path}?sslmode=disable"
        self.url = ""
        self.cuts: list[Cut] = []

    def cut(self, part: str, *, committed: bool) -> Cut:
        """The next transaction with such a statement in it."""
        self.cuts.append(Cut(part, committed))
        return self.cuts[-1]

    def due(self, statements: list[str]) -> Cut | None:
        for cut in self.cuts:
            if any(cut.part in statement for statement in statements):
                self.cuts.remove(cut)
                return cut
        return None

    def listens_on(self, port: int) -> None:
        self.url = f"postgresql://{self._name % port}"

    async def serve(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_unix_socket(self._socket)
        except OSError:
            await trio.aclose_forcefully(client)
            return
        async with client, server, trio.open_nursery() as nursery:
            connection = _Connection(self, client, server)
            nursery.start_soon(connection.down)
            with suppress(*_BROKEN):
                await connection.up()
            nursery.cancel_scope.cancel()


@dataclass
class _Connection:
    cutter: CommitCutter
    client: trio.SocketStream
    server: trio.SocketStream
    cutting: Cut | None = None
    prepared: dict[bytes, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    in_transaction: bool = False

    async def up(self) -> None:
        """Returns when the connection is to break, or has ended."""
        buffer, begun = bytearray(), False
        while data := await self.client.receive_some(READ):
            buffer += data
            if not begun:
                [size] = struct.unpack("!i", buffer[:4])
                await self.server.send_all(buffer[:size])
                del buffer[:size]
                begun = True
            for kind, body in _messages(buffer):
                self.cutting = self.cutting or self._ends(kind, body)
                if self.cutting is not None and not self.cutting.committed:
                    self.cutting.done.set()
                    return
                await self.server.send_all(kind + struct.pack("!i", len(body) + 4) + body)

    def _ends(self, kind: bytes, body: bytes) -> Cut | None:
        """Notes what passes; at the end of a transaction that somebody waits for, how it is to be cut."""
        if kind == b"P":
            name, text, *_ = body.split(b"\0")
            self.prepared[name] = text.decode()
        elif kind == b"B":
            _portal, name, *_ = body.split(b"\0")
            self.statements.append(self.prepared.get(name, ""))
            if not self.in_transaction:
                alone, self.statements = self.statements, []
                return self.cutter.due(alone)
        elif kind == b"Q":
            command = body.rstrip(b"\0; ").upper()
            if command.startswith(b"BEGIN"):
                self.in_transaction, self.statements = True, []
            elif command in (b"COMMIT", b"ROLLBACK"):
                statements, self.statements, self.in_transaction = self.statements, [], False
                return self.cutter.due(statements) if command == b"COMMIT" else None
        return None

    async def down(self) -> None:
        buffer = bytearray()
        with suppress(*_BROKEN):
            while data := await self.server.receive_some(READ):
                if self.cutting is None:
                    await self.client.send_all(data)
                    continue
                buffer += data
                # Whatever came before belongs to older questions, which were answered: nothing is sent ahead of a COMMIT.
                if any(kind == READY for kind, _ in _messages(buffer)):
                    self.cutting.done.set()
                    break
        await trio.aclose_forcefully(self.client)


def _messages(buffer: bytearray) -> Iterator[tuple[bytes, bytes]]:
    """The whole messages at its beginning, which are taken out of it."""
    while len(buffer) >= 5:
        [size] = struct.unpack("!i", buffer[1:5])
        if len(buffer) < size + 1:
            return
        kind, body = bytes(buffer[:1]), bytes(buffer[5 : size + 1])
        del buffer[: size + 1]
        yield kind, body


@asynccontextmanager
async def commit_cutter(database_url: str) -> AsyncIterator[CommitCutter]:
    """In front of the database of this URL, which names a socket's directory."""
    cutter = CommitCutter(database_url)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        cutter.listens_on(listeners[0].socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, cutter.serve, listeners)
        yield cutter
        nursery.cancel_scope.cancel()
