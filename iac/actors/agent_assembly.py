"""An agent's parts, put together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import trio

from iac.actors.agent_desk import Desk, Parts
from iac.actors.connection import Line
from iac.actors.executing import executor_of, tasks_in
from iac.actors.heartbeat import Pulse, Wake
from iac.actors.homecoming import Homecoming, tokens_of
from iac.actors.host import Host
from iac.actors.linking import Linked
from iac.actors.patience import AgentTimes
from iac.actors.running import Running
from iac.actors.salvage import Collector
from iac.actors.session import Session
from iac.actors.spool_room import SpoolRoom
from iac.actors.websocket import Route
from iac.actors.worker import Execute
from iac.agent_settings import AgentSettings
from iac.domain.agent_state import AgentState
from iac.domain.work import RunTask
from iac.errors import IacError
from iac.executor import undelivered
from iac.executor.accessor import DataAccessor
from iac.executor.accessor_remote import Listeners, RemoteDataAccessor
from iac.executor.journal import Journal
from iac.executor.log_spool import Pace
from iac.executor.remote_client import AgentClient
from iac.executor.run import ExecutorPolicy, Hooks

ExecuteWith = Callable[[DataAccessor], Execute]
"""Makes what runs the orders, given the platform that it reports to."""

log = logging.getLogger(__name__)

DAY = 86400.0
LOG_CHUNK, LOG_INTERVAL = 5 * 1024 * 1024, 30.0


@dataclass(frozen=True, slots=True)
class Assembled:
    """What the actors of an agent work on."""

    link: Linked
    running: Running
    execute: Execute
    homecoming: Homecoming


def agent_policy() -> ExecutorPolicy:
    """How patient an agent's executor is: results and states are offered for a day, logs keep nobody waiting."""
    return ExecutorPolicy(store_within=DAY, report_within=DAY, log_drain_within=600.0)


def assemble(
    settings: AgentSettings,
    env: Mapping[str, str],
    client: AgentClient,
    session: Session,
    *,
    route: Route,
    times: AgentTimes,
    policy: ExecutorPolicy,
    clock: Callable[[], float],
    boot_id: str,
    execute_with: ExecuteWith | None = None,
) -> Assembled:
    """Nothing runs yet. Without `execute_with`, Terraform does what is ordered."""
    pace = policy.log_pace or Pace(chunk=LOG_CHUNK, interval=LOG_INTERVAL)
    parts = Parts(
        state=AgentState(
            plan_limit=settings.plan_limit,
            lease_s=times.lease,
            ladders={"plan": policy.plan_ladder, "apply": policy.apply_ladder},
        ),
        line=Line(),
        pulse=Pulse(),
        wake=Wake(),
        running=Running(),
        host=Host(settings.data_dir),
        room=SpoolRoom(settings.data_dir / "tasks", settings.spool_max),
        pace=pace,
        clock=clock,
    )
    desk = Desk(parts, boot_id)
    hooks = _hooks(desk)
    accessor = RemoteDataAccessor(client, desk.token_of, boot_id=boot_id, listeners=_listeners(desk))
    if execute_with is None:
        executor = executor_of(
            accessor, settings.terraform, env, settings.data_dir, policy=replace(policy, log_pace=pace), hooks=hooks
        )
        desk.follow(executor.spool_of, executor.prolong, executor.detachable)
        execute: Execute = executor.execute
    else:
        execute = execute_with(accessor)
    link = Linked(desk, session, parts.line, parts.pulse, parts.wake, route, times, clock)
    journal = Journal(tasks_in(settings.data_dir))
    entries = journal.entries()
    left = RemoteDataAccessor(client, tokens_of(entries), boot_id=boot_id, listeners=_listeners(desk))
    collector = Collector(left, parts.running, policy, hooks)
    homecoming = Homecoming(
        journal, left, collector, entries, desk.adopt, desk.ended, undelivered.place_beside(tasks_in(settings.data_dir))
    )
    return Assembled(link, parts.running, _written_down(journal, desk, execute), homecoming)


def _written_down(journal: Journal, desk: Desk, execute: Execute) -> Execute:
    """The order is on the disk before it is called accepted, and until nothing of it is left."""

    async def execute_it(order: RunTask, hurry: trio.Event) -> None:
        try:
            await trio.to_thread.run_sync(journal.accept, order, desk.token_of(order) or "")
        except (IacError, OSError, RuntimeError) as error:  # RuntimeError: there was no thread to be had
            log.error("an order could not be written down", extra={"task_id": order.task_id, "error": str(error)})
            desk.not_noted(order)
            return
        desk.noted(order)
        try:
            await execute(order, hurry)
        finally:
            journal.close(order)

    return execute_it


def _hooks(desk: Desk) -> Hooks:
    return Hooks(
        on_step=desk.stepped,
        why_stopped=desk.why_stopped,
        leased_until=desk.leased_until,
        times_out=desk.times_out,
        leaves=desk.leaves,
        kills=desk.kills,
    )


def _listeners(desk: Desk) -> Listeners:
    return Listeners(
        claimed=desk.claimed,
        may_start=desk.may_start,
        task_status=desk.task_status,
        log_interval=desk.log_interval,
        reported=desk.reported,
    )
