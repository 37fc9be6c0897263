"""The audit as a chain: the hash of each sealed row has that of the one before it in it, so that none can be changed or
taken out unseen. Pure.
"""

from __future__ import annotations

import hashlib

import msgspec

from iac.domain.records import AuditEntry

GENESIS = bytes(32)
"""What stands before the first row."""


def link(before: bytes, position: int, entry: AuditEntry) -> bytes:
    """The hash of the row at this position; `before` is that of the row at the position below."""
    content = [position, entry.id, entry.at.isoformat(), entry.actor, entry.verb, entry.subject, entry.facts]
    return hashlib.sha256(before + msgspec.json.encode(content, order="deterministic")).digest()
