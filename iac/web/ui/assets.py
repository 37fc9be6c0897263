"""The UI's own files: addressed by what is in them, so that browsers keep them for ever and never have old ones."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib import resources

import msgspec
from quart import Response
from quart_trio import QuartTrio

from iac.errors import NotFound

PATH = "/ui/static"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


class Asset(msgspec.Struct, frozen=True):
    href: str
    data: bytes
    content_type: str


@cache
def assets() -> Mapping[str, Asset]:
    """All of them, by file name. They have one digest in common, so that modules can name each other by file."""
    entries = sorted(resources.files("iac.web.ui").joinpath("static").iterdir(), key=lambda entry: entry.name)
    read = [(entry, entry.read_bytes()) for entry in entries]
    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for _, data in read)).hexdigest()[:12]
    found = {}
    for entry, data in read:
        kind = _TYPES.get(entry.name[entry.name.rfind(".") :]) or mimetypes.guess_type(entry.name)[0] or "text/plain"
        found[entry.name] = Asset(f"{PATH}/{digest}/{entry.name}", data, kind)
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
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return Response(found.data, content_type=found.content_type, headers=headers)

    app.add_url_rule(f"{PATH}/<digest>/<name>", endpoint="ui_static", view_func=static, methods=["GET"])
