"""States that an agent can never deliver: the platform does not know the assignment any more, because its task ended over
a week ago or is gone. They are kept beside the work directories, in `<data>/undelivered/<task>-<fence>/`, for a human.

So they neither hold up new work nor are offered again at each start, and secrets, providers and logs go with the work
directory. There are at most MOST of them; the oldest goes for a new one, which is told.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from iac.executor.left_state import StateLost, find_state
from iac.executor.workdir import Workdir, read_if_there, write_file

log = logging.getLogger(__name__)

MOST = 64


def place_beside(tasks: Path) -> Path:
    return tasks.parent / "undelivered"


def set_aside(workdir: Workdir, into: Path) -> Path | None:
    """Keeps the state that is in a work directory, and whose it is; None if there is none. Raises OSError."""
    states = _states(workdir)
    if not states:
        return None
    kept = into / workdir.root.name
    for name, data in states.items():
        write_file(kept / name, data, durable=True)
    write_file(kept / workdir.assignment.name, read_if_there(workdir.assignment) or b"", durable=True)
    _keep_few(into)
    return kept


def tell(kept: Path) -> None:
    """At each start, as long as there is something that somebody should look at."""
    if found := _all(kept):
        extra = {"directory": str(kept), "states": len(found), "newest": found[-1].name}
        log.error("states that could never be delivered wait for somebody", extra=extra)


def _states(workdir: Workdir) -> dict[str, bytes]:
    """The usable one, or else whatever there is."""
    try:
        found = find_state(workdir, None)
    except StateLost:
        files = (workdir.state, workdir.errored_state)
        return {file.name: data for file in files if (data := read_if_there(file))}
    return {} if found is None else {workdir.state.name: found.data}


def _all(kept: Path) -> list[Path]:
    """The oldest first."""
    places = [path for path in kept.iterdir() if path.is_dir()] if kept.is_dir() else []
    return sorted(places, key=lambda path: path.stat().st_mtime)


def _keep_few(kept: Path) -> None:
    for oldest in _all(kept)[:-MOST]:
        log.error("a state that could never be delivered is deleted: there are too many", extra={"path": str(oldest)})
        shutil.rmtree(oldest)
