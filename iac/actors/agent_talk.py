"""What agents say, over the control channel or in a heartbeat over HTTP: heard, compared with the rows, answered."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
import trio
from msgspec.structs import replace

from iac.actors.agent_connection import BAD_MESSAGE, BAD_VERSION, NORMAL, REPLACED, REVOKED, TOO_FAST, AgentConnection
from iac.actors.fleet import Fleet, Member
from iac.domain.messages import (
    PROTOCOL,
    CancelAck,
    DrainAck,
    Error,
    FromAgent,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Hello,
    LiveLog,
    TaskAccepted,
    TaskFinished,
    TaskRejected,
    TaskStage,
    Verdict,
    Welcome,
)
from iac.domain.records import AgentRecord, RevokeMode
from iac.domain.standings import Standing
from iac.errors import Conflict, Invalid, NotFound, Unavailable
from iac.store import agents, assignments, audit, registering, standings, tasks
from iac.store.database import Connection

log = logging.getLogger(__name__)

TRY_AGAIN = 2.0
HARD: RevokeMode = "hard"


class Greeted(msgspec.Struct, frozen=True):
    """What the rows say of an agent that has just introduced itself."""

    record: AgentRecord
    epoch: int
    found: dict[int, Standing]


async def hear(fleet: Fleet, connection: AgentConnection, message: FromAgent) -> None:
    """One message of a connected agent. What the database cannot take now is dropped: the next heartbeat makes up for it."""
    try:
        if isinstance(message, Hello):
            await _hello(fleet, connection, message)
            return
        member = fleet.member(connection.agent_id)
        if member.connection is connection:  # and not from before it was replaced
            await _hear(fleet, member, connection, message)
    except Unavailable as error:
        log.warning("a message was dropped", extra={"agent": connection.agent_id, "error": error.message})
    except Invalid as error:
        # A value that nothing here has: a number beyond 64 bits, a NUL in a text.
        connection.end(BAD_MESSAGE, error.message[:100])


async def _hear(fleet: Fleet, member: Member, connection: AgentConnection, message: FromAgent) -> None:
    session, now = member.session, trio.current_time()

    async def noted(verb: str, task_id: int, **facts: object) -> None:
        await fleet.database.tx(_note, member.agent_id, verb, task_id, facts)

    match message:
        case Heartbeat():
            connection.send(await heartbeat(fleet, member, message))
        case TaskAccepted(fence=fence):
            if fence in session.unclaimed:
                session.accepted(fence)
                await fleet.database.tx(assignments.accepted, fence)
        case TaskRejected(fence=fence):
            if fence in session.unclaimed:
                log.info("an agent refused a task", extra={"agent": member.agent_id, "reason": message.reason})
                await fleet.perform(member, session.rejected(message, now))
                await noted("task.reject", message.task_id, fence=fence, reason=message.reason)
        case TaskStage(task_id=task_id, fence=fence, stage=stage):
            await fleet.database.tx(_note_stage, member.agent_id, task_id, fence, stage)
            fleet.changed(task_id)
        case CancelAck(task_id=task_id, fence=fence):
            found = await fleet.database.read(standings.of_agent, member.agent_id, [fence])
            await fleet.perform(member, session.stopping(task_id, fence, message.report, found.get(fence)))
        case TaskFinished(task_id=task_id, fence=fence, result_id=result_id):
            found = await fleet.database.read(standings.of_agent, member.agent_id, [fence])
            await fleet.perform(member, session.finished(task_id, fence, result_id, found.get(fence)))
            fleet.wake()
        case Goodbye():
            await fleet.perform(member, session.silent())
            await fleet.database.tx(agents.left, member.agent_id)
            connection.end(NORMAL, "goodbye")
        case Error(code=code, message=text):
            log.warning("an agent complains", extra={"agent": member.agent_id, "code": code, "message_": text})
        case DrainAck() | LiveLog() | Hello():
            return


async def heartbeat(fleet: Fleet, member: Member, beat: Heartbeat) -> HeartbeatAck:
    """The answer to a heartbeat, however it came. While the database is away nobody loses anything."""
    session, now = member.session, trio.current_time()
    fleet.leases.heard(member.agent_id, {held.fence for held in beat.tasks} | session.unclaimed, now)
    try:
        called = await fleet.roll_call.answer(member.agent_id, beat, soon=bool(beat.tasks or session.reported))
        if called.stance is None or called.stance.out:
            await fleet.revoke(member.agent_id)
        ack, effects = session.heartbeat(beat, called.found, now)
        await fleet.perform(member, effects)
    except Unavailable:
        return replace(session.heartbeat_unchecked(beat, now), drain=member.drain)
    fleet.drain(member, called.stance is not None and called.stance.drains)
    return replace(ack, drain=member.drain)


async def _hello(fleet: Fleet, connection: AgentConnection, hello: Hello) -> None:
    if hello.agent_id != connection.agent_id:
        connection.end(BAD_MESSAGE, "this session is another agent's")
        return
    if PROTOCOL not in hello.protocol_versions:
        connection.send(
            Error(code="upgrade_required", message=f"This server speaks version {PROTOCOL} of the protocol.")
        )
        connection.end(BAD_VERSION, "no version in common")
        return
    member = fleet.member(connection.agent_id)
    if not _may_join(fleet, member, connection, hello):
        return
    try:
        greeted = await fleet.database.tx(_greet, hello)
    except NotFound:
        connection.end(REVOKED, "there is no such agent any more")
    except Unavailable as error:
        connection.send(Error(code=error.code, message=error.message, retry_after_s=TRY_AGAIN))
        connection.end(TOO_FAST, "try again")
    else:
        if _is_out(greeted.record):
            await fleet.revoke(member.agent_id)
            connection.end(REVOKED, "revoked")
        elif not connection.ending:
            await _welcome(fleet, connection, hello, greeted)


def _may_join(fleet: Fleet, member: Member, connection: AgentConnection, hello: Hello) -> bool:
    """Whether it takes the place of the connection that is there; if not, it is ended."""
    try:
        fleet.refuse_second(member.agent_id, hello.boot_id, trio.current_time())
    except Conflict:
        log.error("two processes have one identity", extra={"agent": member.agent_id, "boot": hello.boot_id})
        connection.end(REPLACED, "session_conflict")
        return False
    if member.session.outdated(hello):
        connection.end(REPLACED, "replaced")
        return False
    connection.boot_id, connection.conn_seq = hello.boot_id, hello.conn_seq
    return True


async def _welcome(fleet: Fleet, connection: AgentConnection, hello: Hello, greeted: Greeted) -> None:
    member, now = fleet.member(connection.agent_id), trio.current_time()
    connection.conn_epoch = greeted.epoch
    fleet.join(member, connection)
    verdicts, effects = member.session.hello(hello, greeted.found, now)
    fleet.leases.heard(member.agent_id, {held.fence for held in hello.tasks} | member.session.unclaimed, now)
    member.drain = _drains(greeted.record)
    connection.send(_welcome_of(fleet, member, greeted, verdicts))
    log.info("an agent is there", extra={"agent": member.agent_id, "version": hello.version, "tasks": len(hello.tasks)})
    try:
        await fleet.perform(member, effects)
    except Unavailable as error:
        log.warning("what a hello led to was not done", extra={"agent": member.agent_id, "error": error.message})
    fleet.wake()


def _welcome_of(fleet: Fleet, member: Member, greeted: Greeted, verdicts: tuple[Verdict, ...]) -> Welcome:
    times = fleet.times
    return Welcome(
        protocol_version=PROTOCOL,
        conn_epoch=greeted.epoch,
        server_boot_id=fleet.boot_id,
        heartbeat_interval_s=times.heartbeat,
        lease_s=times.lease,
        lost_after_s=times.lost_after,
        decisions=verdicts,
        drain=member.drain,
        apply_alone=greeted.record.apply_exclusivity == "agent",
    )


def _is_out(record: AgentRecord) -> bool:
    return record.retired_at is not None or record.token_revoked == HARD or not record.approved


def _drains(record: AgentRecord) -> bool:
    return record.draining or record.token_revoked is not None


async def _greet(c: Connection, hello: Hello) -> Greeted:
    record = await agents.get(c, hello.agent_id)
    if _is_out(record):
        return Greeted(record, 0, {})
    epoch = await registering.connected(c, hello.agent_id, hello.boot_id, clock=hello.clock)
    return Greeted(record, epoch, await standings.of_agent(c, hello.agent_id, {held.fence for held in hello.tasks}))


async def _note(c: Connection, agent_id: str, verb: str, task_id: int, facts: Mapping[str, object]) -> None:
    await audit.note(c, agent_id, verb, f"task-{task_id}", **facts)


async def _note_stage(c: Connection, agent_id: str, task_id: int, fence: int, stage: str) -> None:
    if fence in await standings.of_agent(c, agent_id, [fence]):
        await tasks.set_stage(c, task_id, fence, stage[:100])
