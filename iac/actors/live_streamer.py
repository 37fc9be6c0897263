"""Tells the newest bytes of logs while somebody watches them: best effort, never more than the link can bear.

The same actor in an agent, where the messages go over the control channel behind everything else, and in the server for
its own tasks. What is told is masked; what is not told live comes with the stored log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from iac.domain.live import FRAME
from iac.domain.messages import FlushLogs, LiveLog, LiveSubscribe, LiveUnsubscribe
from iac.executor.log_spool import LogSpool

EVERY = 0.1
"""Seconds between two looks at the logs that are watched."""


class Budget(Protocol):
    """How much may be told now."""

    def take(self, fence: int, size: int, now: float) -> int: ...

    def give_back(self, size: int) -> None: ...


class Unbounded:
    """For who need not cross a link."""

    def take(self, fence: int, size: int, now: float) -> int:
        return min(size, FRAME)

    def give_back(self, size: int) -> None: ...


@dataclass(slots=True)
class _Watched:
    task_id: int
    next_offset: int
    until: float


class LiveStreamer:
    """`hear` is for anybody, at any time; `run` is the actor."""

    def __init__(
        self, spool_of: Callable[[int], LogSpool | None], post: Callable[[LiveLog], bool], budget: Budget
    ) -> None:
        """`post` says whether it took the message; one that it did not take is told again later, or not at all."""
        self._spool_of, self._post, self._budget = spool_of, post, budget
        self._watched: dict[int, _Watched] = {}
        self._wanted = trio.Event()

    def hear(self, message: LiveSubscribe | LiveUnsubscribe | FlushLogs) -> None:
        match message:
            case LiveSubscribe(task_id=task_id, fence=fence, from_offset=offset, ttl_s=ttl):
                self._watched[fence] = _Watched(task_id, offset, trio.current_time() + ttl)
                self._wanted.set()
            case LiveUnsubscribe(fence=fence):
                self._watched.pop(fence, None)
            case FlushLogs(fence=fence):
                if spool := self._spool_of(fence):
                    spool.flush()

    async def run(self) -> None:
        """Until it is cancelled; does nothing while nobody watches."""
        while True:
            await self._wanted.wait()
            self._tell(trio.current_time())
            if not self._watched:
                self._wanted = trio.Event()
            await trio.sleep(EVERY)

    def _tell(self, now: float) -> None:
        for fence, watched in list(self._watched.items()):
            if now >= watched.until:
                del self._watched[fence]
                continue
            if (spool := self._spool_of(fence)) is not None:
                self._tell_one(fence, watched, spool, now)
            # Whoever was first comes last in the next round.
            self._watched[fence] = self._watched.pop(fence)

    def _tell_one(self, fence: int, watched: _Watched, spool: LogSpool, now: float) -> None:
        recent = spool.recent
        watched.next_offset = max(watched.next_offset, recent.start)
        while (size := recent.end - watched.next_offset) > 0 and (fits := self._budget.take(fence, size, now)):
            data = recent.get(watched.next_offset, fits)
            if not self._post(LiveLog(task_id=watched.task_id, fence=fence, offset=watched.next_offset, data=data)):
                self._budget.give_back(len(data))
                return
            watched.next_offset += len(data)
