"""What time alone brings about for agents: orders said again, silence that means loss, tokens that were revoked."""

from __future__ import annotations

import logging

import trio

from iac.actors.fleet import Fleet
from iac.domain.leases import Key, Metronome
from iac.domain.lifecycle import Lose, Unassign
from iac.domain.standings import Standing
from iac.errors import IacError
from iac.store import standings

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
            fleet.leases.restart(now)
        try:
            await _repeat(fleet, now)
            if now >= look_at:
                look_at = now + fleet.times.look
                await _look(fleet)
        except IacError as error:
            # Nobody is lost because we could not look.
            log.warning("the agents' leases cannot be kept", extra={"error": error.message})
            fleet.leases.restart(trio.current_time())


async def _repeat(fleet: Fleet, now: float) -> None:
    for member in fleet.members:
        await fleet.perform(member, member.session.tick(now))


async def _look(fleet: Fleet) -> None:
    """Compares all that is out there with what was heard, and the agents with what is decided about them."""
    held = {(each.agent_id, each.fence): each for each in await fleet.database.read(standings.under_way)}
    for key in fleet.leases.overdue(held, trio.current_time()):
        await _give_up(fleet, key, held[key])
    await _check_members(fleet)


async def _give_up(fleet: Fleet, key: Key, standing: Standing) -> None:
    agent_id, fence = key
    fleet.member(agent_id).session.settled(fence)
    if standing.status == "assigned":
        await fleet.move(standing.task_id, Unassign(fence=fence))
        return
    detail = f"Agent {agent_id} was not heard of for {fleet.times.lost_after:g} s."
    await fleet.move(standing.task_id, Lose(fence=fence, reason="agent_lost", detail=detail))


async def _check_members(fleet: Fleet) -> None:
    await fleet.reconsider([member.agent_id for member in fleet.members])
    for member in fleet.members:
        if member.gone_for(trio.current_time()) >= fleet.times.lost_after:
            await fleet.perform(member, member.session.silent())
            fleet.forget(member.agent_id)
