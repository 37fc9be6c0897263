"""The part of a log that was read and that the platform does not have for sure yet: what to send next, and when.

Pure: time is an argument. All offsets count the bytes of the log, as the platform does. Its answer is always right: what
it has not got is sent, again if need be, and what it has got is not.
"""

from __future__ import annotations

from collections import deque


class Window:
    """Bytes `begin` to `end` are held here; those from `cut` on were not sent yet.

    `cut` before `begin` means that the platform wants bytes that are not here any more: up to `begin` they have to be made
    again. `acked` is how much it has; bytes before that are dropped as they come.
    """

    def __init__(self, start: int) -> None:
        """`start` bytes are stored already."""
        self.acked = self.cut = start
        self.begin = self.end = 0
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._pressed = 0

    @property
    def held(self) -> int:
        return self.end - self.begin

    @property
    def pending(self) -> int:
        """How many of the bytes here were not sent yet."""
        return max(0, self.end - max(self.cut, self.begin))

    @property
    def missing(self) -> int:
        """How many bytes have to be made again before those here can be sent."""
        return max(0, self.begin - self.cut)

    def put(self, data: bytes, now: float) -> None:
        """What the log goes on with."""
        self.end += len(data)
        if data:
            self._pieces.append((now, data))
            self._drop(self.acked)

    def press(self) -> None:
        """All that is here goes now, however little it is."""
        self._pressed = self.end

    def due(self, now: float, chunk: int, interval: float) -> bool:
        """Whether a chunk should be sent: it is full, or its oldest byte `interval` seconds old, or it was pressed."""
        if self.missing:
            return True
        if not self.pending:
            return False
        return self.pending >= chunk or self.cut < self._pressed or now >= self._oldest() + interval

    def take(self, most: int) -> tuple[int, bytes]:
        """The next chunk, and its offset."""
        start, skip, found, size = self.cut, self.cut - self.begin, [], 0
        for _, piece in self._pieces:
            if skip >= len(piece):
                skip -= len(piece)
                continue
            part = piece[skip : skip + most - size]
            skip = 0
            found.append(part)
            size += len(part)
            if size >= most:
                break
        self.cut += size
        return start, b"".join(found)

    def answered(self, acked: int, cut: int) -> None:
        """The platform goes on at `acked`. What was taken after that, up to `cut`, is still on its way."""
        self.acked, self.cut = acked, cut
        self._drop(acked)

    def _oldest(self) -> float:
        skip = self.cut - self.begin
        for at, piece in self._pieces:
            if skip < len(piece):
                return at
            skip -= len(piece)
        return 0.0

    def _drop(self, until: int) -> None:
        while self._pieces and self.begin + len(self._pieces[0][1]) <= until:
            self.begin += len(self._pieces.popleft()[1])
        if self._pieces and self.begin < until:
            at, piece = self._pieces[0]
            self._pieces[0] = (at, piece[until - self.begin :])
            self.begin = until
