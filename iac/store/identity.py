"""Fresh ids and tokens from the system's randomness: the one place that asks for it."""

from __future__ import annotations

import hashlib
import os
import secrets

from iac.domain.agent_tokens import Kind, make_token
from iac.domain.ids import Prefix, make_id

TOKEN_PREFIX = "iaca_"  # noqa: S105 - the public prefix of an API token, not a token


def new_id(prefix: Prefix) -> str:
    """A new random id such as `ws-3f0…`."""
    return make_id(prefix, os.urandom(16))


def new_token() -> str:
    """A new API token with 256 bits of entropy; shown once, stored only as its hash."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def new_agent_token(kind: Kind) -> str:
    """A new token of that kind for an agent; given away once, stored only as its hash."""
    return make_token(kind, os.urandom(32))


def entropy(size: int) -> bytes:
    """That many random bytes."""
    return os.urandom(size)


def token_hash(token: str) -> bytes:
    """What is stored of a token. High entropy needs no slow hash."""
    return hashlib.sha256(token.encode()).digest()
