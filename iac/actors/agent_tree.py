"""The agent: its parts, and the order in which they end. Tasks first, then the last words, then the connection.

    data directory's lock ⊃ HTTP client ⊃ { control channel, polling, session, leases, canceller, departure } ⊃ worker

No globals, no signal handlers, no exit: `await nursery.start(partial(run_agent, settings, env))` runs one in a test.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from iac.actors.agent_assembly import Assembled, ExecuteWith, agent_policy, assemble
from iac.actors.canceller import canceller
from iac.actors.departure import detach, stop_slowly
from iac.actors.linking import ShutOut, keep_linked
from iac.actors.patience import AgentTimes
from iac.actors.polling import poll_while_down
from iac.actors.session import EXIT_CONFIG, Enrolment, Session
from iac.actors.supervision import ungrouped
from iac.actors.websocket import Route
from iac.actors.worker import worker
from iac.agent_settings import AgentSettings
from iac.domain.agent_bodies import Pending
from iac.domain.messages import HeartbeatAck
from iac.errors import IacError, Invalid, StartFailed
from iac.executor import identity
from iac.executor.clocks import lease_clock
from iac.executor.proxying import Proxy, proxy_for
from iac.executor.remote_client import Patience, open_client
from iac.executor.run import ExecutorPolicy

log = logging.getLogger(__name__)


def _wait_on() -> None: ...


@dataclass(frozen=True, slots=True)
class Orders:
    """How an agent is told to end: `stop` lets tasks finish, `hurry` does not.

    `overdue` is called when tasks still run though the time for everything is over; it may end the program.
    """

    stop: trio.Event = field(default_factory=trio.Event)
    hurry: trio.Event = field(default_factory=trio.Event)
    overdue: Callable[[], None] = _wait_on


async def run_agent(
    settings: AgentSettings,
    env: Mapping[str, str],
    *,
    orders: Orders | None = None,
    times: AgentTimes | None = None,
    policy: ExecutorPolicy | None = None,
    clock: Callable[[], float] = lease_clock,
    execute_with: ExecuteWith | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The whole agent; reports its id when it is registered. Returns when it was stopped and its tasks have ended.

    `env` is where proxies, and what Terraform may see of the machine, come from. With `execute_with` another executor runs
    the orders: it gets the platform's accessor, claims by `get_task_data`, and reports by `update_task`.

    Raises StartFailed: 3 when the server does not let the agent in (any more), 4 when it does not speak its protocol, 5
    when another agent has its name or its identity, 6 when another one uses its data directory, 78 for settings.
    """
    orders, times = orders or Orders(), times or AgentTimes()
    with ungrouped(StartFailed), identity.locked(settings.data_dir):
        tls, proxy = settings.tls(), _proxy(settings, env)
        patience = Patience(connect=times.connect_within, answer=times.answer_within)
        async with open_client(settings.endpoint, tls=tls, proxy=proxy, patience=patience) as client:
            enrolment = _enrolment(settings)
            session = Session(client, enrolment, times)
            if await _unless(orders.stop, session.open):
                task_status.started(session.agent_id)
                route = Route(settings.endpoint, tls, proxy, within=times.connect_within)
                made = assemble(
                    settings,
                    env,
                    client,
                    session,
                    route=route,
                    times=times,
                    policy=policy or agent_policy(),
                    clock=clock,
                    boot_id=enrolment.boot_id,
                    execute_with=execute_with,
                )
                await _Life(made, orders, settings).run()
    log.info("stopped")


def _proxy(settings: AgentSettings, env: Mapping[str, str]) -> Proxy | None:
    try:
        return proxy_for(settings.endpoint, env)
    except Invalid as error:
        raise StartFailed(error.message, exit_code=EXIT_CONFIG) from error


def _enrolment(settings: AgentSettings) -> Enrolment:
    return Enrolment(
        token=settings.token,
        name=settings.name,
        pool_id=settings.pool_id,
        plan_limit=settings.plan_limit,
        data_dir=settings.data_dir,
        boot_id=os.urandom(16).hex(),
    )


async def _unless(event: trio.Event, work: Callable[[], Awaitable[None]]) -> bool:
    """Whether the work was done before the event came."""
    done = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when, event, nursery.cancel_scope)
        await work()
        done = True
        nursery.cancel_scope.cancel()
    return done


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


class _Life:
    """The actors of a registered agent."""

    def __init__(self, made: Assembled, orders: Orders, settings: AgentSettings) -> None:
        self._made, self._orders, self._settings = made, orders, settings
        self._leaving, self._unlinked, self._home = trio.Event(), trio.Event(), trio.Event()
        self._fate: StartFailed | None = None

    async def run(self) -> None:
        """Raises StartFailed when it was not the host that wanted the end."""
        made, link = self._made, self._made.link
        await _unless(self._orders.stop, made.homecoming.begin)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._come_home)
            nursery.start_soon(self._linked)
            nursery.start_soon(self._fateful, partial(poll_while_down, link.line, self._ask, link.wake, link.times))
            nursery.start_soon(self._fateful, link.session.keep)
            nursery.start_soon(self._tick)
            nursery.start_soon(link.desk.streamer.run)
            nursery.start_soon(canceller, link.desk.cancellations, made.running)
            nursery.start_soon(self._obey_stop)
            nursery.start_soon(self._depart)
            await worker(link.desk.orders, made.running, made.execute, link.desk.ended)
            if not self._detaches:
                await self._home.wait()
            await self._say_goodbye()
            nursery.cancel_scope.cancel()
        if self._fate is not None:
            raise self._fate

    @property
    def _detaches(self) -> bool:
        """What still runs is for the next start; one that is not wanted any more has none."""
        return self._settings.shutdown_mode == "detach" and self._fate is None

    async def _come_home(self) -> None:
        await self._made.homecoming.run()
        self._home.set()

    async def _linked(self) -> None:
        try:
            await self._fateful(partial(keep_linked, self._made.link))
        finally:
            self._unlinked.set()

    async def _fateful(self, actor: Callable[[], Awaitable[None]]) -> None:
        """When the server does not want us any more, what runs may still finish: its own tokens are good for that."""
        try:
            await actor()
        except ShutOut:
            raise
        except StartFailed as error:
            log.error("the agent has to end", extra={"error": error.message, "exit_code": error.exit_code})
            self._fate = self._fate or error
            self._leaving.set()

    async def _tick(self) -> None:
        link = self._made.link
        while True:
            await trio.sleep(link.times.tick)
            link.desk.tick()

    async def _ask(self) -> None:
        """What the control channel would have said, over HTTP."""
        link = self._made.link
        desk, session, path = link.desk, link.session, f"/agents/{link.session.agent_id}"
        await self._beat_over_http()
        pending = await session.call("GET", f"{path}/tasks/pending", Pending)
        for wanted in pending.cancel:
            desk.wanted(wanted)
        for order in pending.tasks:
            desk.hear(order)

    async def _beat_over_http(self) -> None:
        link = self._made.link
        beat = link.desk.heartbeat(link.session.agent_id, link.pulse.beat(at=trio.current_time(), stamp=link.clock()))
        ack = await link.session.call("POST", f"/agents/{link.session.agent_id}/heartbeat", HeartbeatAck, beat)
        link.desk.hear(ack)

    async def _obey_stop(self) -> None:
        await self._orders.stop.wait()
        self._leaving.set()

    async def _depart(self) -> None:
        await self._leaving.wait()
        go = detach if self._detaches else stop_slowly
        await go(self._made.link.desk, self._settings.drain_seconds, self._orders.hurry)
        # What could not be brought home stays on the disk.
        link = self._made.link
        log.error("tasks still run, or could not be reported", extra={"tasks": link.desk.busy})
        link.desk.goodbye("overdue")
        with trio.move_on_after(link.times.last_words):
            await self._unlinked.wait()
        self._orders.overdue()

    async def _say_goodbye(self) -> None:
        link = self._made.link
        with trio.move_on_after(link.times.last_words):
            if link.line.is_up:
                link.desk.goodbye("drained")
                await self._unlinked.wait()
            else:
                with suppress(IacError):
                    await self._beat_over_http()
