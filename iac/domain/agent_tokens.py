"""The tokens of agents: their shapes, and what each is good for. Pure: the randomness is an argument.

    iacp_  pool token      registers agents in its pool; reads no task
    iaci_  instance secret proves that a register comes from the same instance as before
    iacs_  session token   an hour; control channel, heartbeat, the list of pending tasks
    iact_  task token      one assignment's data, log, plan, state, result

32 random bytes in base62 with a checksum behind them, so that a scanner, and an agent with a typing error, can tell a token
without asking anybody.
"""

from __future__ import annotations

import hashlib
import zlib
from datetime import datetime, timedelta
from typing import Literal

Kind = Literal["pool", "instance", "session", "task"]
Scope = Literal["full", "report", "quarantine", "dead"]
"""What a task token is good for: all; the end of its task; states that are only to be kept apart; nothing."""

PREFIXES: dict[Kind, str] = {"pool": "iacp_", "instance": "iaci_", "session": "iacs_", "task": "iact_"}
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY, CHECK = 43, 6
AFTERWARDS = timedelta(days=7)
"""How long after the end of its task a task token may still bring what was left: log, result, state."""
MAX_READS, READ_WITHIN = 5, timedelta(seconds=600)
"""How often a task's data may be fetched, and for how long after the first time."""
_LIVE = frozenset({"assigned", "running", "cancelling"})


def make_token(kind: Kind, entropy: bytes) -> str:
    """A token from 32 bytes of entropy."""
    if len(entropy) != 32:
        raise ValueError("a token is made from 32 bytes")
    body = _base62(int.from_bytes(entropy, "big"), BODY)
    return PREFIXES[kind] + body + _check(PREFIXES[kind] + body)


def looks_like(kind: Kind, token: str) -> bool:
    """Whether the text has the shape of such a token, checksum included. Says nothing about whether anybody knows it."""
    prefix = PREFIXES[kind]
    if not token.startswith(prefix) or len(token) != len(prefix) + BODY + CHECK:
        return False
    return token[-CHECK:] == _check(token[:-CHECK])


def kind_of(token: str) -> Kind | None:
    """The kind whose shape it has."""
    return next((kind for kind in PREFIXES if looks_like(kind, token)), None)


def token_hash(token: str) -> bytes:
    """What is stored of a token; its entropy makes a slow hash needless."""
    return hashlib.sha256(token.encode()).digest()


def _check(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), CHECK)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def scope_now(stored: Scope, *, status: str, current: bool, read: bool, over_for: timedelta | None) -> Scope:
    """What a task token is good for. `stored` can only narrow what the task's row allows.

    `current` when the task still has the assignment's fence, `read` when its data was ever fetched, `over_for` the time
    since the task's end, None while it has none.
    """
    if stored == "dead" or (over_for is not None and over_for > AFTERWARDS):
        return "dead"
    if current and status in _LIVE:
        return stored
    if not read:
        return "dead"  # nothing was given out for it, so there is nothing that it could bring
    return "report" if current and stored != "quarantine" else "quarantine"


def may_read(reads: int, first_read_at: datetime | None, now: datetime) -> bool:
    """Whether the task's data, with its secrets, may be fetched once more."""
    return first_read_at is None or (reads < MAX_READS and now - first_read_at <= READ_WITHIN)
