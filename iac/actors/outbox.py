"""What waits to be sent to one agent: what matters most goes first, and nothing waits without a bound."""

from __future__ import annotations

import trio

from iac.domain.messages import FlushLogs, FromServer, HeartbeatAck, LiveSubscribe, LiveUnsubscribe

MOST_CONTROL, MOST_LIVE = 256, 64
_LIVE = (LiveSubscribe, LiveUnsubscribe, FlushLogs)


class Outbox:
    """Control messages, then the latest heartbeat's answer, then what is only for spectators. Puts never block."""

    def __init__(self) -> None:
        # Lists, because an empty deque takes ten times as much, there are thousands of them, and they are short.
        self._control: list[FromServer] = []
        self._ack: HeartbeatAck | None = None
        self._live: list[FromServer] = []
        self._filled = trio.Event()

    def put(self, message: FromServer) -> bool:
        """False when it is full of things that must not be dropped: the connection is of no use any more."""
        if isinstance(message, HeartbeatAck):
            self._ack = message  # an older answer says nothing that this one does not
        elif not isinstance(message, _LIVE):
            if len(self._control) >= MOST_CONTROL:
                return False
            self._control.append(message)
        elif len(self._live) < MOST_LIVE:
            self._live.append(message)
        self._filled.set()
        return True

    def take(self) -> FromServer | None:
        """The next one to send; None when there is none."""
        if self._control:
            return self._control.pop(0)
        if self._ack is not None:
            ack, self._ack = self._ack, None
            return ack
        return self._live.pop(0) if self._live else None

    async def get(self) -> FromServer:
        """The next one to send, as soon as there is one."""
        while (message := self.take()) is None:
            self._filled = trio.Event()
            await self._filled.wait()
        return message
