"""Serving the web application: hypercorn with our settings, contained connections, an end that waits for no client."""

from __future__ import annotations

import logging
import socket

import hypercorn.trio.run
import trio
from hypercorn.config import Config, Sockets
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, LifespanState
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

from iac.errors import StartFailed
from iac.web.connection import ContainedConnection
from iac.web.connection_limits import ContainedConfig
from iac.web.containment import limits_of

log = logging.getLogger("iac.web.http")

WEBSOCKET_MESSAGE_BYTES = 1024 * 1024
BACKLOG = 4096  # hypercorn's 100 makes a thousand agents that reconnect at once wait for SYN retries
BAD_SETTINGS, UNAVAILABLE = 78, 69


async def serve_http(
    app: QuartTrio,
    *,
    bind: str,
    tls: tuple[str, str] | None = None,
    draining: trio.Event,
    graceful: float,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app`, which `iac.web.containment.install` has prepared, until `draining` is set and the last request is over.

    `bind` is `host:port` (port 0: any), `tls` the files of the certificate chain and its key. Reports the URLs served.
    When `draining` is set, idle connections end at once and requests in flight have `graceful` seconds; what streams
    without end has to watch `draining` itself. Raises `StartFailed` if it cannot listen or the certificate is no good.
    """
    config = _config(app, tls, draining, graceful)
    sockets = _listen(config, bind)
    setattr(hypercorn.trio.run, "TCPServer", _connection)  # noqa: B010 - hypercorn has no other way in

    async def drained() -> None:
        await draining.wait()
        for drain in tuple(config.drains):
            drain()

    await hypercorn.trio.run.worker_serve(
        wrap_app(app, config.wsgi_max_body_size, "asgi"),
        config,
        sockets=sockets,
        shutdown_trigger=drained,
        task_status=task_status,
    )


def _connection(
    app: AppWrapper,
    config: Config,
    context: WorkerContext,
    state: LifespanState,
    stream: trio.SSLStream[trio.SocketStream],
) -> ContainedConnection | TCPServer:
    """What hypercorn calls for each accepted stream; servers that others start in this process keep the stock one."""
    if isinstance(config, ContainedConfig):
        return ContainedConnection(app, config, context, state, stream)
    return TCPServer(app, config, context, state, stream)


def _config(app: QuartTrio, tls: tuple[str, str] | None, draining: trio.Event, graceful: float) -> ContainedConfig:
    config = ContainedConfig()
    config.alpn_protocols = ["http/1.1"]
    config.graceful_timeout = graceful
    config.websocket_max_message_size = WEBSOCKET_MESSAGE_BYTES
    config.include_server_header = False
    config.errorlog = log
    config.limits, config.draining, config.drains = limits_of(app), draining, set()
    config.keep_alive_timeout = config.limits.keep_alive
    if tls is not None:
        config.certfile, config.keyfile = tls
    return config


def _listen(config: ContainedConfig, bind: str) -> Sockets:
    """A socket that accepts, opened here so that what can go wrong is told in one line and not in a group of groups."""
    try:
        config.create_ssl_context()
    except OSError as error:
        raise StartFailed(
            f"IAC_TLS_CERT, IAC_TLS_KEY: cannot use the TLS certificate or its key: {error}", exit_code=BAD_SETTINGS
        ) from error
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise StartFailed(f"IAC_BIND: cannot listen on {bind!r}: write host:port", exit_code=BAD_SETTINGS)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise StartFailed(f"IAC_BIND: cannot listen on {bind}: {error}", exit_code=UNAVAILABLE) from error
    return Sockets([listener], [], []) if config.ssl_enabled else Sockets([], [listener], [])
