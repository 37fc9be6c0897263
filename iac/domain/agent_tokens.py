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
from typing import Literal

Kind = Literal["pool", "instance", "session", "task"]
Scope = Literal["full", "report", "quarantine", "dead"]
"""What a task token is good for: all; the end of its task; states that are only to be kept apart; nothing."""

PREFIXES: dict[Kind, str] = {"pool": "iacp_", "instance": "iaci_", "session": "iacs_", "task": "iact_"}
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY, CHECK = 43, 6


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
