"""Who a registering agent is (protocol 2.5), as one pure function over what the pool knows.

1. The same instance, proven by its secret, is the same agent: a restart, a crash loop, a lost answer.
2. The same name from another instance: pools with unique names refuse it while the holder was heard a short while ago and
   has not said goodbye, and otherwise give the name to a new agent and retire the old one. Pools with suffixes never get
   that far: `web` becomes `web-k7x2p`.

Two processes with one identity (a cloned data directory) look the same here; the control channel tells them apart.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

import msgspec

from iac.domain.agent_tokens import token_hash
from iac.domain.records import NamePolicy
from iac.errors import Conflict, Forbidden, Invalid, Unavailable

HEARD_WITHIN = timedelta(seconds=60)
"""An agent that was heard in this time is there: `online`, and keeps its name."""
SUFFIX_LENGTH, SUFFIX_CANDIDATES = 5, 6
ENTROPY = SUFFIX_LENGTH * SUFFIX_CANDIDATES
"""The random bytes that `suffixed` wants."""
_SUFFIX_ALPHABET = "bcdfghjkmnpqrstvwxz23456789"  # no vowels: a suffix never is a word; no 0, 1, l


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that the pool has already. `used` when it ever did more than register, `gone` when it has said goodbye."""

    agent_id: str
    name: str
    secret_hash: bytes
    heard_at: datetime
    used: bool
    gone: bool = False


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """What a register comes to. `agent_id` None is a new agent; `retire` the agent that loses its name to it."""

    agent_id: str | None
    name: str
    new_secret: bool
    retire: str | None = None


def enrol(
    name: str,
    secret: str | None,
    *,
    policy: NamePolicy,
    require_approval: bool,
    same: Known | None,
    holder: Known | None,
    free: Sequence[str],
    now: datetime,
) -> Enrolment:
    """`same` is the live agent of the instance, `holder` the one that has the name, `free` are `suffixed` names not in use.

    Raises Forbidden (instance_mismatch), Conflict (name_in_use).
    """
    proven = same is not None and _proven(same, secret)
    agent_id = None if same is None else same.agent_id
    if policy == "suffix":
        return Enrolment(agent_id=agent_id, name=_with_suffix(name, same, free), new_secret=not proven)
    retire = None
    if holder is not None and holder.agent_id != agent_id:
        _refuse_taken(name, holder, require_approval=require_approval, now=now)
        retire = holder.agent_id
    return Enrolment(agent_id=agent_id, name=name, new_secret=not proven, retire=retire)


def check_network(ip: str, networks: Sequence[str]) -> None:
    """Raises Forbidden (network_forbidden) for an address from which the pool takes no agents."""
    if not networks:
        return
    try:
        address = ip_address(ip)
    except ValueError:
        address = None
    if address is None or not any(address in ip_network(network) for network in networks):
        raise Forbidden(
            f"This pool takes no agents from {ip or 'an unknown address'}; its networks are {', '.join(networks)}.",
            code="network_forbidden",
        )


def networks_of(given: Sequence[str]) -> list[str]:
    """The networks as they are written properly. Raises Invalid."""
    found = []
    for at, text in enumerate(given):
        try:
            found.append(str(ip_network(text, strict=False)))
        except ValueError:
            raise Invalid(
                f"{text!r} is no network; write 10.0.0.0/8 or 2001:db8::/32.", path=f"$.networks[{at}]"
            ) from None
    return found


def check_room(there: int, most: int | None) -> None:
    """Raises Conflict (pool_full) when one more agent would be too many."""
    if most is not None and there >= most:
        raise Conflict(
            f"The pool has its {most} agent(s); stop one, or raise the pool's max_agents.",
            code="pool_full",
            retry_after_s=60,
        )


def suffixed(name: str, entropy: bytes) -> tuple[str, ...]:
    """Some names with a random suffix each, to take the first that is free."""
    letters = [_SUFFIX_ALPHABET[byte % len(_SUFFIX_ALPHABET)] for byte in entropy[:ENTROPY]]
    starts = range(0, len(letters) - SUFFIX_LENGTH + 1, SUFFIX_LENGTH)
    return tuple(f"{name}-{''.join(letters[at : at + SUFFIX_LENGTH])}" for at in starts)


def _proven(same: Known, secret: str | None) -> bool:
    """Whether the instance has its secret. One that never came further than registering may have missed the answer."""
    if secret is not None and hmac.compare_digest(token_hash(secret), same.secret_hash):
        return True
    if secret is None and not same.used:
        return False
    raise Forbidden(
        f"This instance is registered as {same.agent_id} ({same.name}), and its secret is missing or another one. Restore "
        "the agent's data directory, or empty it to register as a new agent.",
        code="instance_mismatch",
    )


def _with_suffix(name: str, same: Known | None, free: Sequence[str]) -> str:
    if same is not None and same.name[: -SUFFIX_LENGTH - 1] == name and same.name[len(name)] == "-":
        return same.name
    if not free:
        raise Unavailable(f"No free name of the form {name}-xxxxx was found; try again.", code="no_free_name")
    return free[0]


def _refuse_taken(name: str, holder: Known, *, require_approval: bool, now: datetime) -> None:
    silent_for = now - holder.heard_at
    if silent_for < HEARD_WITHIN and not holder.gone:
        wait = max(1, int((HEARD_WITHIN - silent_for).total_seconds()) + 1)
        raise Conflict(
            f"An agent named {name!r} ({holder.agent_id}) is there already, heard {_seconds(silent_for)} s ago. Choose "
            "another IAC_AGENT_NAME, or stop that agent (one that was killed is gone after a minute).",
            code="name_in_use",
            retry_after_s=wait,
        )
    if require_approval:
        # Nobody has approved the newcomer yet: it must not be able to push an approved agent out.
        raise Conflict(
            f"The name {name!r} belongs to agent {holder.agent_id}. This pool approves its agents, so an admin has to "
            "retire that one before another instance can have its name.",
            code="name_in_use",
        )


def _seconds(silent_for: timedelta) -> int:
    return max(0, int(silent_for.total_seconds()))
