"""`python -m tests.harness.dying_server`: tests.harness.scaled_server, which kills itself between writing log bytes to its
disk and committing them, as soon as the file DIE_AT_COMMIT exists.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import trio

from iac.store import logs
from iac.store.database import Connection
from tests.harness.scaled import times_in
from tests.harness.scaled_server import serve

commit = logs.grow


async def deadly(c: Connection, task_id: int, fence: int, before: int, after: int) -> bool:
    if Path(os.environ["DIE_AT_COMMIT"]).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return await commit(c, task_id, fence, before, after)


if __name__ == "__main__":
    logs.grow = deadly
    environment = dict(os.environ)
    trio.run(serve, environment, times_in(environment), strict_exception_groups=True)
