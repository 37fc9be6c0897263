"""The agent of the demo: another process with a directory of its own, which knows nothing but an address and a token."""

from __future__ import annotations

import fcntl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.processes import LOOK_EVERY, DemoFailed, environment, private, start, stop
from demo.server import Place, Server
from iac.cli.client import ApiClient
from iac.domain.pool_bodies import AgentView, PoolCreate, PoolTokenCreate, PoolTokenRotate, PoolTokenView

POOL, NAME = "demo", "demo-agent"
ONLINE_WITHIN = 75.0
"""Seconds; an agent whose name or identity another process still has is let in after a minute."""
LEAVES_WITHIN = 120.0
"""Seconds that an agent may need to stop what it runs and to report it."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that is connected. `known`: it is the one of an earlier demo."""

    view: AgentView
    known: bool
    process: subprocess.Popen[bytes]


@contextmanager
def running_agent(place: Place, env: Mapping[str, str], server: Server, client: ApiClient) -> Iterator[Agent]:
    """Let into the pool, started, online, and stopped when the body ends. Raises DemoFailed, ApiError, Unreachable."""
    if not any(pool.name == POOL for pool in client.pools()):
        client.create_pool(PoolCreate(name=POOL, description="The agents of the demo."))
    _write_token(place, _token(client))
    before = _seen(client)
    settings = {
        "IAC_API_ENDPOINT": server.url,
        "IAC_AGENT_TOKEN_FILE": str(place.agent_token_file.absolute()),
        "IAC_AGENT_NAME": NAME,
        "IAC_DATA_DIR": str(place.agent_dir.absolute()),
        # The server is on this machine, whatever proxy leads out of it.
        "NO_PROXY": ",".join(filter(None, ("127.0.0.1", env.get("NO_PROXY")))),
        "no_proxy": ",".join(filter(None, ("127.0.0.1", env.get("no_proxy")))),
    }
    process = start("iac.agent", environment(env, settings), place.agent_log)
    try:
        view = _wait_until_online(client, process, place, before)
        yield Agent(view, before is not None and before.id == view.id, process)
    finally:
        stop(process)


def wait_for_the_last_one(place: Place, tell: Callable[[str], None]) -> None:
    """An agent that outlived its demo ends by itself: it brings home what it ran, to the server that is there again.

    Raises DemoFailed when it does not.
    """
    deadline, told = time.monotonic() + LEAVES_WITHIN, False
    while _in_use(place.agent_dir / "agent.lock"):
        if time.monotonic() > deadline:
            raise DemoFailed(
                f"The agent of an earlier demo does not end. Its process holds {place.agent_dir / 'agent.lock'}; end it, "
                "then try again."
            )
        if not told:
            tell("the agent of an earlier demo still brings its task home; waiting for it")
            told = True
        time.sleep(LOOK_EVERY)  # noqa: TID251 - this program has its one thread to itself


def _in_use(lock: Path) -> bool:
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _token(client: ApiClient) -> str:
    """A fresh one each time; the one of the last demo is good no more."""
    good = [token for token in client.pool_tokens(POOL) if _may_rotate(token)]
    if not good:
        return client.create_pool_token(POOL, PoolTokenCreate(name="demo")).token or ""
    return client.rotate_pool_token(POOL, good[-1].id, PoolTokenRotate(overlap_s=0)).token or ""


def _may_rotate(token: PoolTokenView) -> bool:
    return token.revoked_at is None and token.replaced_by is None


def _write_token(place: Place, token: str) -> None:
    place.agent_token_file.unlink(missing_ok=True)
    with open(place.agent_token_file, "x", opener=private) as file:
        file.write(f"{token}\n")


def _seen(client: ApiClient) -> AgentView | None:
    return next(client.agents(pool=POOL, name=NAME), None)


def _wait_until_online(
    client: ApiClient, process: subprocess.Popen[bytes], place: Place, before: AgentView | None
) -> AgentView:
    deadline = time.monotonic() + ONLINE_WITHIN
    while time.monotonic() < deadline:
        if (code := process.poll()) is not None:
            raise DemoFailed(f"The agent did not start (exit code {code}).", place.agent_log)
        now = _seen(client)
        if now is not None and _is_new(now, before):
            return now
        time.sleep(LOOK_EVERY)  # noqa: TID251 - this program has its one thread to itself
    raise DemoFailed(f"The agent was not online within {ONLINE_WITHIN:g} s.", place.agent_log)


def _is_new(now: AgentView, before: AgentView | None) -> bool:
    """Registered anew, and heard after that: what a server of an earlier demo heard does not count."""
    if now.last_seen_at is None or now.last_seen_at <= now.registered_at:
        return False
    return before is None or now.registered_at != before.registered_at
