"""The server's side of live logs: who watches which task, and the newest bytes of those that are watched.

Agents tell them while somebody watches, and nothing of it is ever stored or acknowledged: a viewer takes them where the
stored log ends. Stored bytes win: if they turn out to be others, viewers are sent back to the first one that differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

import trio

from iac.actors.bell import Bell
from iac.domain.live import LiveStream
from iac.domain.messages import FlushLogs, LiveLog, LiveSubscribe, LiveUnsubscribe
from iac.domain.rates import Rate, Rates
from iac.domain.records import LogStream, Task
from iac.errors import RateLimited

MOST_VIEWERS = 50
ROOM = 256 * 1024
"""Bytes in memory for each watched task."""
RENEW = 10.0
FLUSH = Rate(0.5, 1.0)
LIVELY = 5.0
"""Seconds after which an agent that told nothing may be one that cannot."""
_UNDER_WAY = frozenset({"assigned", "running", "cancelling"})

Hear = Callable[[LiveSubscribe | LiveUnsubscribe | FlushLogs], None]
Tell = Callable[[str, LiveSubscribe | LiveUnsubscribe | FlushLogs], None]


@dataclass(slots=True)
class _Watched:
    task_id: int
    viewers: int = 0
    stream: LiveStream | None = None
    resets: list[int] = field(default_factory=list)
    heard_at: float = -inf


class Watch:
    """One viewer's look at the live log of a task."""

    def __init__(self, hub: LiveLogs, watched: _Watched) -> None:
        self._hub, self._watched = hub, watched
        self._resets = len(watched.resets)

    @property
    def stream(self) -> LiveStream | None:
        return self._watched.stream

    def follow(self, task: Task, streams: list[LogStream]) -> None:
        """What the rows say now: which assignment's log is growing."""
        self._hub.follow(self._watched, task, streams)

    def reset(self) -> int | None:
        """The lowest offset to which viewers were sent back since the last call."""
        new = self._watched.resets[self._resets :]
        self._resets = len(self._watched.resets)
        return min(new, default=None)

    def flush(self) -> float:
        """Has the missing bytes stored, so that they can be read. Returns the seconds after which to ask again."""
        watched, stream = self._watched, self._watched.stream
        wait = 0.0 if stream is None else self._hub.flush(watched.task_id, stream.fence, stream.agent_id)
        return wait or FLUSH.burst / FLUSH.per_second


class LiveLogs:
    """All watched tasks. What is sync happens at once; `run` is the actor that keeps agents telling."""

    def __init__(self, tell: Tell) -> None:
        """`tell` reaches an agent if it can be reached."""
        self.grew = Bell[int]()
        """Rings for a task with new live bytes."""
        self._others = tell
        self._here: dict[str, Hear] = {}
        self._watched: dict[int, _Watched] = {}
        self._flushes = Rates(FLUSH)

    def reached_here(self, agent_id: str, hear: Hear) -> None:
        """A runner in this very process."""
        self._here[agent_id] = hear

    @contextmanager
    def watch(self, task_id: int) -> Iterator[Watch]:
        """Raises RateLimited when a task has too many viewers."""
        self.refuse_crowd(task_id)
        watched = self._watched.setdefault(task_id, _Watched(task_id))
        watched.viewers += 1
        try:
            yield Watch(self, watched)
        finally:
            watched.viewers -= 1
            if not watched.viewers:
                del self._watched[task_id]
                self._leave(watched)
                self.grew.ring(task_id)  # nobody is there, and the bell forgets the task

    def refuse_crowd(self, task_id: int) -> None:
        """Raises RateLimited when a task has as many viewers as it may have."""
        watched = self._watched.get(task_id)
        if watched is not None and watched.viewers >= MOST_VIEWERS:
            raise RateLimited(f"Task {task_id} has {MOST_VIEWERS} viewers already.", retry_after_s=RENEW)

    def is_lively(self, task_id: int) -> bool:
        """Whether somebody watches the task and gets live bytes."""
        watched = self._watched.get(task_id)
        return watched is not None and trio.current_time() - watched.heard_at < LIVELY

    # What agents tell

    def heard(self, agent_id: str, frame: LiveLog) -> None:
        """Live bytes. Those that nobody watches, or from an agent that has not got the task any more, are dropped."""
        watched = self._watched.get(frame.task_id)
        stream = None if watched is None else watched.stream
        if watched is None or stream is None or (stream.fence, stream.agent_id) != (frame.fence, agent_id):
            return
        watched.heard_at = trio.current_time()
        if frame.offset >= 0 and stream.told(frame.offset, frame.data):
            self.grew.ring(frame.task_id)

    def heard_here(self, agent_id: str, frame: LiveLog) -> bool:
        """As `heard`, from a runner in this process; there is always room."""
        self.heard(agent_id, frame)
        return True

    def appended(self, task_id: int, fence: int, offset: int, data: bytes) -> None:
        """These bytes of a stream are stored now."""
        watched = self._watched.get(task_id)
        stream = None if watched is None else watched.stream
        if watched is None or stream is None or stream.fence != fence:
            return
        wrong_from = stream.appended(offset, data)
        if wrong_from is not None:
            watched.resets.append(wrong_from)

    def flush(self, task_id: int, fence: int, agent_id: str) -> float:
        """Has the runner send what it has of the log; at most once in two seconds. Returns the seconds left until then."""
        wait = self._flushes.take(task_id, trio.current_time())
        if not wait:
            self._tell(agent_id, FlushLogs(task_id=task_id, fence=fence))
        return wait

    # Who is to tell

    async def run(self) -> None:
        """Agents stop telling when they are not asked again; never returns."""
        while True:
            await trio.sleep(RENEW)
            for watched in self._watched.values():
                self._ask(watched)

    def follow(self, watched: _Watched, task: Task, streams: list[LogStream]) -> None:
        """Which assignment's log of a watched task is growing, according to the rows."""
        under_way = task.status in _UNDER_WAY and task.agent_id is not None
        own = next((row for row in streams if row.fence == task.fence), None)
        stream = watched.stream
        if stream is not None and stream.fence > task.fence:
            return  # another viewer has looked later
        if not under_way or own is None:
            self._leave(watched)
            if stream is not None:
                # What was told live and is not stored by now may never be.
                watched.resets.append(sum(row.length for row in streams))
            watched.stream = None
            return
        if stream is not None and stream.fence == task.fence:
            stream.stored = max(stream.stored, own.length)
            return
        base = sum(row.length for row in streams if row.fence < task.fence)
        self._leave(watched)
        if stream is not None:
            watched.resets.append(base)
        watched.stream = LiveStream(task.fence, task.agent_id or "", base=base, stored=own.length, room=ROOM)
        self._ask(watched)

    def _ask(self, watched: _Watched) -> None:
        if (stream := watched.stream) is not None:
            asked = LiveSubscribe(task_id=watched.task_id, fence=stream.fence, from_offset=stream.due)
            self._tell(stream.agent_id, asked)

    def _leave(self, watched: _Watched) -> None:
        if (stream := watched.stream) is not None:
            self._tell(stream.agent_id, LiveUnsubscribe(task_id=watched.task_id, fence=stream.fence))

    def _tell(self, agent_id: str, message: LiveSubscribe | LiveUnsubscribe | FlushLogs) -> None:
        if hear := self._here.get(agent_id):
            hear(message)
        else:
            self._others(agent_id, message)
