"""What may be deleted of logs, and when a copy is as good as what it was made of. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from iac.domain.records import LogStream


def sound(stream: LogStream, *, on_disk: str | None, read_back: str | None) -> bool:
    """Whether the database's copy of a stream that has ended is the stream; both are sha256, None for what is not there.

    The sender's own sha256 counts for a stream that was found to be complete by it.
    """
    if read_back is None:
        return False
    if stream.state == "complete" and read_back != stream.sha256:
        return False
    return on_disk is None or on_disk == read_back


def removable(stream: LogStream | None, *, modified: datetime, now: datetime, keep: timedelta) -> bool:
    """Whether a file of the cache may go. `stream` is its row, None when its task was deleted; `modified` is the file's.

    The only copy of a log is never deleted, unless the log itself was: by its retention, or with its task.
    """
    if stream is None:
        return now - modified >= keep
    if stream.expired_at is not None:
        return True
    if stream.state == "open" or stream.closed_at is None:
        return False
    return stream.persisted == stream.length and stream.verified is True and now - stream.closed_at >= keep
