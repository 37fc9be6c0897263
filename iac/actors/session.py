"""Being a registered agent: the identity is shown once at the start, the session token is renewed in time."""

from __future__ import annotations

import logging
import platform
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from iac import __version__
from iac.actors.patience import AgentTimes, Complaints, Retries, wait_asked_for
from iac.domain.agent_bodies import Register, Registered, SessionRequest
from iac.domain.agent_bodies import Session as SessionBody
from iac.domain.agent_tokens import looks_like
from iac.domain.messages import PROTOCOL
from iac.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    IacError,
    Invalid,
    NotFound,
    StartFailed,
    Unauthenticated,
    Unavailable,
    UpgradeRequired,
)
from iac.executor import identity
from iac.executor.remote_client import AgentClient

log = logging.getLogger(__name__)

T = TypeVar("T")
Attempt = Callable[[], Awaitable[None]]

EXIT_REFUSED, EXIT_VERSION, EXIT_CONFLICT, EXIT_CONFIG = 3, 4, 5, 78
RENEW_AT = 0.75
CAPABILITIES = ("terraform",)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an agent registers with."""

    token: str
    name: str
    pool_id: str | None
    plan_limit: int
    data_dir: Path
    boot_id: str


class Session:
    """The agent's standing with the server. `open` first; `keep` is the actor that renews it."""

    def __init__(self, client: AgentClient, enrolment: Enrolment, times: AgentTimes) -> None:
        self._client, self._enrolment, self._times = client, enrolment, times
        self._identity = identity.load(enrolment.data_dir)
        self._lock = trio.Lock()
        self._token: str | None = None
        self._renew_at, self._ends_at = 0.0, 0.0
        self.agent_id = self._identity.agent_id or ""
        self.boot_id = enrolment.boot_id
        self.approved = True

    async def open(self) -> None:
        """Registers, for as long as it takes.

        Raises StartFailed: 3 when the server refuses the token, 4 when it does not speak our protocol, 5 when the name
        stays another agent's, 78 when it does not understand what we say of ourselves.
        """
        await self._try_until(self._register, "the agent cannot register yet")

    async def token(self) -> str:
        """A session token that is believed to be good; renewed or registered anew if it is not. Raises as `open`."""
        async with self._lock:
            if self._token is None or trio.current_time() >= self._ends_at:
                # One that is over is not even tried: with a fleet behind one address that would look like guessing.
                await self._try_until(self._register, "the agent cannot register again yet")
            if self._token is None:
                raise Unauthenticated("The server gave no session.")
            return self._token

    def expire(self, token: str | None = None) -> None:
        """The server does not take the token any more (None: whichever we have)."""
        if token in (None, self._token):
            self._token = None

    async def keep(self) -> None:
        """Renews the token when three quarters of its life are over; never returns. Raises as `open`."""
        while True:
            await trio.sleep_until(self._renew_at)
            await self._try_until(self._renew, "the session cannot be renewed yet")

    async def call(self, method: str, path: str, answer: type[T], body: msgspec.Struct | None = None) -> T:
        """A call with the session token, once more with a new one if the server does not know it. Raises IacError."""
        token = await self.token()
        ask = partial(self._client.call, method, path, answer, body=body, headers={"X-IAC-Boot-Id": self.boot_id})
        try:
            found, _ = await ask(token=token)
        except Unauthenticated:
            self.expire(token)
            found, _ = await ask(token=await self.token())
        return found

    async def _renew(self) -> None:
        async with self._lock:
            token = self._token
            if token is None:
                await self._register()
                return
            path, body = f"/agents/{self.agent_id}/session", SessionRequest(boot_id=self._enrolment.boot_id)
            try:
                renewed, _ = await self._client.call("POST", path, SessionBody, token=token, body=body)
            except (Unauthenticated, Forbidden):
                self._token = None
                await self._register()
                return
            self._have(renewed.session_token, renewed.session_expires_in_s)

    async def _register(self) -> None:
        mine, own = self._enrolment, self._identity
        body = Register(
            name=mine.name,
            instance_id=own.instance_id,
            boot_id=mine.boot_id,
            pool_id=mine.pool_id,
            version=__version__,
            protocol_versions=(PROTOCOL,),
            os=platform.system().lower(),
            arch=platform.machine(),
            capabilities=CAPABILITIES,
            plan_limit=mine.plan_limit,
            agent_id=own.agent_id,
            instance_secret=own.instance_secret,
        )
        try:
            answer, _ = await self._client.call("POST", "/agents/register", Registered, token=mine.token, body=body)
        except NotFound as error:
            raise Unavailable(
                "There is no agent API at IAC_API_ENDPOINT; it has to be the server's own URL."
            ) from error
        known = identity.Identity(
            instance_id=own.instance_id,
            agent_id=answer.agent_id,
            instance_secret=answer.instance_secret or own.instance_secret,
        )
        if known != own:
            identity.save(mine.data_dir, known)
        self._identity, self.agent_id = known, answer.agent_id
        self.approved = answer.approved
        self._have(answer.session_token, answer.session_expires_in_s)
        log.info("registered", extra={"agent": answer.agent_id, "pool": answer.pool_id, "agent_name": answer.name})
        if not answer.approved:
            log.warning("an admin has to approve this agent before it gets tasks", extra={"agent": answer.agent_id})

    def _have(self, token: str, expires_in: float) -> None:
        self._token = token
        self._ends_at = trio.current_time() + expires_in
        self._renew_at = trio.current_time() + max(expires_in * RENEW_AT, 1.0)

    async def _try_until(self, attempt: Attempt, phrase: str) -> None:
        retries, complaints = Retries(self._times.retry_most), Complaints(phrase, self._times.complain_every)
        began = trio.current_time()
        while True:
            try:
                return await attempt()
            except IacError as error:
                self._give_up_on(error, trying_for=trio.current_time() - began)
                complaints.tell(error)
                wait = wait_asked_for(error)
            await trio.sleep(retries.next() if wait is None else wait + retries.next())

    def _give_up_on(self, error: IacError, *, trying_for: float) -> None:
        """Raises StartFailed for what no retry changes."""
        match error:
            case StartFailed():
                raise error
            case Unauthenticated() | Forbidden():
                raise StartFailed(self._refused(error), exit_code=EXIT_REFUSED) from error
            case UpgradeRequired():
                raise StartFailed(f"{error.message} This agent is {__version__}.", exit_code=EXIT_VERSION) from error
            case Conflict() if trying_for >= self._times.conflict_for:
                raise StartFailed(error.message, exit_code=EXIT_CONFLICT) from error
            case BadRequest() | Invalid():
                raise StartFailed(f"The server does not accept this agent: {error.message}", exit_code=EXIT_CONFIG)

    def _refused(self, error: IacError) -> str:
        if isinstance(error, Forbidden):
            return f"The server does not let this agent in: {error.message}"
        told = f"IAC_AGENT_TOKEN: the server refuses this pool token ({error.message})"
        if not looks_like("pool", self._enrolment.token):
            return f"{told} It is no complete pool token (iacp_…): it was cut or mistyped; copy it again."
        return f"{told} It was revoked, it has expired, or it belongs to another server; make a new one for the pool."
