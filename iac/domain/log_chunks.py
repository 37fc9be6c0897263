"""What agents send packed: base64 of one gzip member, with the sha256 of what is in it. Pure, and slow: call it in a thread.

Nothing that is sent can make the server hold more than the limit: a bomb stops there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib

from iac.errors import BadRequest, TooLarge

_GZIP = 31
"""zlib's window bits for exactly one gzip member."""


def unpacked(text: str, *, packed_limit: int, limit: int, too_large: str) -> bytes:
    """The bytes; the limits are in bytes, before and after inflating. An empty text is no bytes.

    Raises BadRequest (bad_encoding), TooLarge with the code `too_large`.
    """
    if not text:
        return b""
    if len(text) > packed_limit * 4 // 3 + 4:
        raise TooLarge(f"More than {packed_limit} bytes, packed.", code=too_large, limit=packed_limit)
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"The data is not base64: {error}.", code="bad_encoding") from None
    return inflated(packed, limit=limit, too_large=too_large)


def inflated(packed: bytes, *, limit: int, too_large: str) -> bytes:
    """What is in exactly one gzip member. Raises BadRequest (bad_encoding), TooLarge with the code `too_large`."""
    member = zlib.decompressobj(_GZIP)
    try:
        data = member.decompress(packed, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"The data is not gzip: {error}.", code="bad_encoding") from None
    if len(data) > limit:
        raise TooLarge(f"More than {limit} bytes.", code=too_large, limit=limit)
    if not member.eof:
        raise BadRequest("The gzip data is cut off.", code="bad_encoding")
    if member.unused_data:
        raise BadRequest("There is something behind the gzip data.", code="bad_encoding")
    return data


def check(data: bytes, sha256: str, length: int | None = None) -> None:
    """Raises BadRequest (checksum_mismatch) unless the bytes are those that were meant."""
    if length is not None and length != len(data):
        raise BadRequest(f"These are {len(data)} bytes, not {length}.", code="checksum_mismatch")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadRequest("The bytes do not have the sha256 that came with them.", code="checksum_mismatch")
