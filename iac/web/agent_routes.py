"""Agents about themselves: register, renew the session, heartbeat and orders without a control channel, leave."""

from __future__ import annotations

import msgspec
import trio
from quart import Response, request

from iac.actors import agent_talk
from iac.domain import pool_bodies
from iac.domain.agent_bodies import Pending, Register, Registered, Session, SessionRequest
from iac.domain.messages import PROTOCOL, Heartbeat, HeartbeatAck
from iac.domain.rates import Rates
from iac.domain.records import AgentRecord, PoolToken
from iac.errors import Forbidden, UpgradeRequired
from iac.store import agents, registering
from iac.web.agent_auth import REGISTERS, own, peer, within
from iac.web.auth import good_for_nothing
from iac.web.platform import Platform
from iac.web.pools import AGENTS, agent_view, agent_with_tasks
from iac.web.routing import JSON, Api, Call, NoQuery

TAG = "Agent API"
NO_STORE = {"Cache-Control": "no-store"}


class ForceQuery(msgspec.Struct, frozen=True):
    """`force`: although it has tasks; whatever these still send is kept apart."""

    force: bool = False


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""
    _identity(api, platform)
    _channel(api, platform)
    _record(api, platform)


def check_version(versions: tuple[int, ...]) -> None:
    """Raises UpgradeRequired unless there is a version that both sides speak."""
    if PROTOCOL not in versions:
        raise UpgradeRequired(
            f"This server speaks version {PROTOCOL} of the agent protocol; use an agent of the same release.",
            min=PROTOCOL,
            max=PROTOCOL,
        )


def _identity(api: Api, platform: Platform) -> None:
    registers = Rates(REGISTERS)

    @api.operation(
        "POST", f"{AGENTS}/register", "Register an agent in the pool of its token", tag=TAG, right=None, auth="pool",
        body=Register, answer=Registered, status=201, also=(200, 403, 426), conflicts=("name_in_use", "pool_full"),
    )  # fmt: skip
    async def register_agent(call: Call[Register, NoQuery]) -> Response:
        token: PoolToken = call.caller
        if not await platform.read(
            registering.is_known, token.pool_id, call.body.instance_id, call.body.instance_secret
        ):
            # Only newcomers: after an outage a whole fleet comes back at once, and each proves who it is.
            within(registers, token.id, "registrations")
            within(registers, f"ip {peer()}", "registrations")
        check_version(call.body.protocol_versions)
        times = platform.fleet.times
        made = await platform.write(
            registering.register,
            call.body,
            token,
            peer(),
            session_s=times.session,
            overlap_s=times.session_overlap,
        )
        status = 200 if made.instance_secret is None else 201
        return Response(msgspec.json.encode(made), status=status, content_type=JSON, headers=NO_STORE)

    @api.operation(
        "POST", f"{AGENTS}/<agent>/session", "A new session, by the one there is, or by pool token and instance secret",
        tag=TAG, right=None, auth="session_or_pool", body=SessionRequest, answer=Session,
    )  # fmt: skip
    async def renew_session(call: Call[SessionRequest, NoQuery]) -> Response:
        agent_id = call.path["agent"]
        if isinstance(call.caller, PoolToken):
            secret = call.body.instance_secret or ""
            record = await platform.read(registering.authenticate_instance, agent_id, call.caller.pool_id, secret)
            if record is None:
                raise good_for_nothing()
        else:
            own(call.caller, agent_id)
        times = platform.fleet.times
        session = await platform.write(
            registering.new_session,
            agent_id,
            call.body.boot_id,
            session_s=times.session,
            overlap_s=times.session_overlap,
        )
        return Response(msgspec.json.encode(session), content_type=JSON, headers=NO_STORE)


def _channel(api: Api, platform: Platform) -> None:
    @api.operation(
        "POST", f"{AGENTS}/<agent>/heartbeat", "A heartbeat, where the control channel cannot be opened", tag=TAG,
        right=None, auth="session", body=Heartbeat, answer=HeartbeatAck, conflicts=("session_conflict",),
    )  # fmt: skip
    async def send_heartbeat(call: Call[Heartbeat, NoQuery]) -> HeartbeatAck:
        own(call.caller, call.path["agent"])
        if call.body.agent_id != call.caller.id:
            raise Forbidden("The heartbeat is another agent's.", code="wrong_scope")
        platform.fleet.refuse_second(call.caller.id, call.body.boot_id, trio.current_time())
        member = platform.fleet.member(call.caller.id)
        return await agent_talk.heartbeat(platform.fleet, member, call.body)

    @api.operation(
        "GET", f"{AGENTS}/<agent>/tasks/pending", "What the control channel would say: orders and cancellations", tag=TAG,
        right=None, auth="session", answer=Pending, conflicts=("session_conflict",),
    )  # fmt: skip
    async def list_pending(call: Call[None, NoQuery]) -> Response:
        own(call.caller, call.path["agent"])
        platform.fleet.refuse_second(call.caller.id, request.headers.get("X-IAC-Boot-Id", ""), trio.current_time())
        pending = platform.fleet.pending(call.caller.id)
        platform.dispatcher.wake()
        return Response(msgspec.json.encode(pending), content_type=JSON, headers=NO_STORE)


def _record(api: Api, platform: Platform) -> None:
    @api.operation(
        "GET", f"{AGENTS}/<agent>", "Show an agent", tag=TAG, right="read", auth="session_or_user",
        answer=pool_bodies.AgentView,
    )  # fmt: skip
    async def show_agent(call: Call[None, NoQuery]) -> pool_bodies.AgentView:
        if isinstance(call.caller, AgentRecord):
            own(call.caller, call.path["agent"])
        return agent_view(platform, await platform.read(agent_with_tasks, call.path["agent"]))

    @api.operation(
        "DELETE", f"{AGENTS}/<agent>", "Retire an agent for good; it says so itself, or an admin does", tag=TAG,
        right="admin", auth="session_or_user", query=ForceQuery, status=204, conflicts=("agent_busy",),
    )  # fmt: skip
    async def retire_agent(call: Call[None, ForceQuery]) -> None:
        agent_id = call.path["agent"]
        if isinstance(call.caller, AgentRecord):
            own(call.caller, agent_id)
        await platform.write(agents.retire, agent_id, force=call.query.force, by=call.by)
        await platform.fleet.revoke(agent_id)
