"""The icons: 16 by 16, drawn with lines in the colour of the text around them. They never stand for a word alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from markupsafe import Markup

_PATHS: Mapping[str, str] = {
    "check": '<path d="m3.5 8.5 3 3 6-7"/>',
    "cross": '<path d="m4.5 4.5 7 7m0-7-7 7"/>',
    "clock": '<circle cx="8" cy="8" r="5.75"/><path d="M8 4.75V8l2.25 1.5"/>',
    "hand": '<path d="M8 2.25v7m0 3.25v.5"/><circle cx="8" cy="13" r=".4"/>',
    "question": '<path d="M5.5 5.75A2.5 2.5 0 1 1 8 8.5v1"/><circle cx="8" cy="12.5" r=".4"/>',
    "dash": '<path d="M4 8h8"/>',
    "slash": '<circle cx="8" cy="8" r="5.75"/><path d="m4 12 8-8"/>',
    "spinner": '<path d="M8 2.25A5.75 5.75 0 1 1 2.25 8" class="turns"/>',
    "lock": '<rect x="3.5" y="7" width="9" height="6.25" rx="1.5"/><path d="M5.5 7V5a2.5 2.5 0 0 1 5 0v2"/>',
    "search": '<circle cx="7" cy="7" r="4.25"/><path d="m10.25 10.25 3.25 3.25"/>',
    "plus": '<path d="M8 3v10M3 8h10"/>',
    "up": '<path d="m4.5 9.5 3.5-3.5 3.5 3.5"/>',
    "down": '<path d="m4.5 6.5 3.5 3.5 3.5-3.5"/>',
    "left": '<path d="M9.5 4.5 6 8l3.5 3.5"/>',
    "right": '<path d="M6.5 4.5 10 8l-3.5 3.5"/>',
    "moon": '<path d="M13 9.25A5.25 5.25 0 0 1 6.75 3 5.25 5.25 0 1 0 13 9.25Z"/>',
    "sun": '<circle cx="8" cy="8" r="2.75"/><path d="M8 1.75v1m0 10.5v1M1.75 8h1m10.5 0h1M3.6 3.6l.7.7m7.4 7.4.7.7"/>'
    '<path d="m12.4 3.6-.7.7m-7.4 7.4-.7.7"/>',
    "out": '<path d="M6.5 2.75h-3v10.5h3M7 8h6.5m-2.5-2.5L13.5 8 11 10.5"/>',
    "agent": '<rect x="2.75" y="3.25" width="10.5" height="7" rx="1.25"/><path d="M6 13h4M8 10.25V13"/>',
    "server": '<rect x="2.75" y="3" width="10.5" height="4" rx="1"/><rect x="2.75" y="9" width="10.5" height="4" rx="1"/>'
    '<path d="M5.25 5h.01M5.25 11h.01"/>',
    "warning": '<path d="M8 2.5 14 13H2L8 2.5ZM8 6.5v3"/><circle cx="8" cy="11.25" r=".4"/>',
    "stop": '<rect x="4.5" y="4.5" width="7" height="7" rx="1"/>',
    "again": '<path d="M13 8a5 5 0 1 1-1.5-3.5L13 6m0-3v3h-3"/>',
    "fold": '<path d="M3 4h10M6 8h7M6 12h7M3 8v4"/>',
    "wrap": '<path d="M2.75 4h10.5M2.75 8h8.5a2 2 0 0 1 0 4H8.5m1.5-1.5L8.5 12l1.5 1.5M2.75 12H5.5"/>',
    "end": '<path d="M8 2.75v7.5M4.75 7.25 8 10.5l3.25-3.25M3.5 13.25h9"/>',
    "download": '<path d="M8 2.75v7M5 7l3 3 3-3M3 12.75h10"/>',
    "follow": '<path d="M8 2.75v10.5m-3.5-3.5 3.5 3.5 3.5-3.5"/>',
    "copy": '<rect x="5.5" y="5.5" width="7.75" height="7.75" rx="1.25"/><path d="M10.5 5.5V2.75H2.75v7.75H5.5"/>',
}


@cache
def icon(name: str, words: str = "") -> Markup:
    """The icon; `words` are read out instead of it where no text beside it says the same."""
    told = Markup('role="img" aria-label="{}"').format(words) if words else Markup('aria-hidden="true"')
    return Markup('<svg class="icon icon-{}" viewBox="0 0 16 16" {}>{}</svg>').format(name, told, Markup(_PATHS[name]))  # noqa: S704 - ours
