"""Names of things: `ws-`, `var-`, `sv-` … plus sixteen random characters. Pure: the randomness is an argument."""

from __future__ import annotations

import re
from typing import Literal

Prefix = Literal[
    "ws", "cv", "var", "res", "sv", "tok", "asg", "can", "lock", "rst", "agent", "pool", "ptok", "boot", "user", "bs"
]

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
LENGTH = 16

_ID = re.compile(r"[a-z]{2,5}-[0-9a-z]{16}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,88}[A-Za-z0-9])?")


def make_id(prefix: Prefix, entropy: bytes) -> str:
    """An id of that kind from at least 16 bytes of entropy (82 bits of them survive)."""
    number = int.from_bytes(entropy[:LENGTH], "big")
    characters = []
    for _ in range(LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[digit])
    return f"{prefix}-{''.join(characters)}"


def is_id(text: str) -> bool:
    """Whether the text has the form of an id (a workspace's name never has)."""
    return _ID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether the text may name a workspace: 1 to 90 letters, digits, blanks, `.`, `_`, `-`; not the form of an id."""
    return _NAME.fullmatch(text) is not None and not is_id(text)
