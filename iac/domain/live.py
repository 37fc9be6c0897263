"""Log bytes while somebody watches: the newest ones in memory, and how many of them may be told. Pure."""

from __future__ import annotations


class Ring:
    """The newest `limit` bytes of a log, by their offsets in it. Holds one piece without a hole."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.start = 0

    @property
    def end(self) -> int:
        return self.start + len(self._data)

    def put(self, offset: int, data: bytes) -> int:
        """Goes on with `data`; what is here already stays as it is. Returns how many bytes are new.

        Behind a hole it begins anew.
        """
        if offset + len(data) <= self.end:
            return 0
        if offset > self.end or offset < self.start:
            self.restart(offset)
        before = self.end
        self._data += data[self.end - offset :]
        added = self.end - before
        if len(self._data) > self._limit:
            gone = len(self._data) - self._limit
            del self._data[:gone]
            self.start += gone
        return added

    def has(self, offset: int) -> bool:
        """Whether the byte at this offset is here."""
        return self.start <= offset < self.end

    def get(self, offset: int, most: int) -> bytes:
        """Up to `most` bytes from `offset`; none if that byte is not here."""
        if not self.has(offset):
            return b""
        return bytes(self._data[offset - self.start : offset - self.start + most])

    def differs(self, offset: int, data: bytes) -> int | None:
        """The offset of the first byte that is here and is another one in `data`."""
        low, high = max(offset, self.start), min(offset + len(data), self.end)
        if low >= high:
            return None
        ours, theirs = self._data[low - self.start : high - self.start], data[low - offset : high - offset]
        if ours == theirs:
            return None
        return low + next(at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)

    def restart(self, offset: int) -> None:
        """Empty, and goes on at `offset`."""
        self.start = offset
        self._data.clear()
