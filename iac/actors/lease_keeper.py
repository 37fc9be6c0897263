"""What time alone brings about for agents: orders said again, silence that means loss, tokens that were revoked."""

from __future__ import annotations

import logging

import trio

from iac.actors.fleet import Fleet
from iac.domain.leases import Key, Metronome
from iac.domain.reconciling import Seen, held_by_agents, overdue
from iac.domain.records import Task
from iac.errors import IacError
from iac.store import tasks

log = logging.getLogger(__name__)


async def lease_keeper(fleet: Fleet) -> None:
    """Never returns; ends with its scope. Every lease begins anew at its start, and after each time of deafness."""
    metronome = Metronome(fleet.times.tick, trio.current_time())
    look_at = trio.current_time()
    while True:
        await trio.sleep(fleet.times.tick)
        now = trio.current_time()
        if metronome.stalled(now):
            log.error("the server stood still; every lease begins anew")
            fleet.restart_leases(now)
        try:
            await _repeat(fleet, now)
            if now >= look_at:
                look_at = now + fleet.times.look
                await _look(fleet)
        except IacError as error:
            # Nobody is lost because we could not look.
            log.warning("the agents' leases cannot be kept", extra={"error": error.message})
            fleet.restart_leases(trio.current_time())
        except Exception:  # the bulkhead: what goes wrong with one agent must not cost all the others their keeper
            log.exception("the agents' leases cannot be kept")
            fleet.restart_leases(trio.current_time())


async def _repeat(fleet: Fleet, now: float) -> None:
    for member in fleet.members:
        await fleet.perform(member, member.session.tick(now))


async def _look(fleet: Fleet) -> None:
    """Compares all that is out there with what was heard, and the agents with what is decided about them."""
    found, now = await fleet.database.read(tasks.waiting_and_running)
    held = held_by_agents(found)
    at = trio.current_time()
    silent = fleet.leases.overdue([_key(task) for task in held], at)
    late = fleet.claims.overdue([_key(task) for task in held if task.status == "assigned"], at)
    seen = Seen(
        now=now,
        silent=frozenset(fence for _, fence in silent),
        unclaimed=frozenset(fence for _, fence in late),
        lost_after=fleet.times.lost_after,
    )
    for task, event in overdue(held, seen):
        agent_id, fence = _key(task)
        fleet.member(agent_id).session.settled(fence)
        await fleet.move(task.id, event)
    await _check_members(fleet)


def _key(task: Task) -> Key:
    return task.agent_id or "", task.fence


async def _check_members(fleet: Fleet) -> None:
    await fleet.reconsider([member.agent_id for member in fleet.members])
    for member in fleet.members:
        if member.gone_for(trio.current_time()) >= fleet.times.lost_after:
            await fleet.perform(member, member.session.silent())
            fleet.forget(member.agent_id)
