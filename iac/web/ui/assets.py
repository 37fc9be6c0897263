"""The UI's own files: addressed by what is in them, so that browsers keep them for ever and never have old ones."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib import resources

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from iac.errors import NotFound
from iac.web.ui import packing

PATH = "/ui/static"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

_HEADERS: Mapping[str, str] = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
}


class Asset(msgspec.Struct, frozen=True):
    """A file. `packed` is its data as gzip, the same data again where that would not be smaller."""

    href: str
    data: bytes
    packed: bytes
    content_type: str
    etag: str


@cache
def assets() -> Mapping[str, Asset]:
    """All of them, by file name. They have one digest in common, so that modules can name each other by file."""
    entries = sorted(resources.files("iac.web.ui").joinpath("static").iterdir(), key=lambda entry: entry.name)
    read = [(entry, entry.read_bytes()) for entry in entries]
    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for _, data in read)).hexdigest()[:12]
    found = {}
    for entry, data in read:
        kind = _TYPES.get(entry.name[entry.name.rfind(".") :]) or mimetypes.guess_type(entry.name)[0] or "text/plain"
        packed = min(packing.packed(data, 9), data, key=len)
        etag = hashlib.sha256(data).hexdigest()[:16]
        found[entry.name] = Asset(f"{PATH}/{digest}/{entry.name}", data, packed, kind, etag)
    return found


def asset(name: str) -> str:
    """The address of a file."""
    return assets()[name].href


def install(app: QuartTrio) -> None:
    """Serves them, to everybody: there is nothing in them that is anybody's."""

    async def static(digest: str, name: str) -> Response:
        found = assets().get(name)
        if found is None or found.href != f"{PATH}/{digest}/{name}":
            raise NotFound("There is no such file; load the page again.")
        # Weak, because it stands for both forms of the file. There is no secret in it that its length could tell.
        headers = {**_HEADERS, "ETag": f'W/"{found.etag}"'}
        if request.if_none_match.contains_weak(found.etag):
            return Response(b"", status=304, headers=headers)
        data = found.packed if packing.takes_gzip() else found.data
        if data is not found.data:
            headers["Content-Encoding"] = "gzip"
        return Response(data, content_type=found.content_type, headers=headers)

    app.add_url_rule(f"{PATH}/<digest>/<name>", endpoint="ui_static", view_func=static, methods=["GET"])
