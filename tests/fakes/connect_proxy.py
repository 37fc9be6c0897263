"""An HTTP proxy that only knows CONNECT."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio


@asynccontextmanager
async def a_proxy(status: str = "200 Connection established") -> AsyncIterator[tuple[str, list[str]]]:
    """Its address, and the heads of the requests that it got."""
    asked: list[str] = []

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await sink.send_all(data)
            await sink.send_eof()

    async def serve(client: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await client.receive_some(4096)
        asked.append(head.decode())
        await client.send_all(f"HTTP/1.1 {status}\r\nServer: p\r\n\r\n".encode())
        if not status.startswith("200"):
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        async with await trio.open_tcp_stream(host.strip("[]"), int(port)) as server, trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, server)
            nursery.start_soon(pump, server, client)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        try:
            yield f"localhost:{port}", asked
        finally:
            nursery.cancel_scope.cancel()
