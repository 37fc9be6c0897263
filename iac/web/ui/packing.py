"""Answers made smaller on the wire, for browsers that take gzip.

A page has secrets (the session's CSRF token, names) and says back what its address asks for (`?q=`). Compressed together,
the length of the answer tells whether the one is like the other: whoever can make a person's browser ask for many addresses
and watches the wire could guess a secret character by character (BREACH). So a page is only compressed when it was asked
for by one of our own pages or by the person, which browsers say in Sec-Fetch-Site, and never when another site's page did.
Where they do not say it because there is no TLS, whoever watches the wire reads the page itself.
"""

from __future__ import annotations

import zlib

from quart import request

from iac.web.ui.gate import is_secure

LEVEL = 4
"""Of pages, which are compressed each time anew: 1 ms for 100 KB, and a tenth larger than with the most effort."""
LEAST = 1024
"""Bytes below which it is not worth it."""
_GZIP = 16 + zlib.MAX_WBITS
_OURS = frozenset({"same-origin", "none"})


def packed(data: bytes, level: int = LEVEL) -> bytes:
    """As gzip; the same for the same data."""
    packer = zlib.compressobj(level, wbits=_GZIP)
    return packer.compress(data) + packer.flush()


def takes_gzip() -> bool:
    return bool(request.accept_encodings["gzip"] > 0)


def may_pack_page() -> bool:
    """Whether this answer to this request may be compressed although there are secrets in it."""
    site = request.headers.get("Sec-Fetch-Site")
    return takes_gzip() and (site in _OURS if site is not None else not is_secure())
