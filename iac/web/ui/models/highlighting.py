"""Source text as lines of HTML, coloured by classes. The lexers are those of Pygments, which Rich brings anyway.

Characters that would show a text otherwise than it is (control, bidirectional) are shown by their number.
"""

from __future__ import annotations

from html import escape

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from iac.web.ui.models.values import printable

LONGEST = 256 * 1024
"""Characters that are coloured; more is shown plain."""
_BY_ENDING = {
    ".tf": "terraform",
    ".tfvars": "terraform",
    ".hcl": "terraform",
    ".tofu": "terraform",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".sh": "bash",
    ".py": "python",
    ".toml": "toml",
    ".md": "markdown",
    ".ini": "ini",
    ".ps1": "powershell",
}


def highlighted(path: str, text: str) -> tuple[str, ...]:
    """The text's lines. Whatever it is, nothing in it becomes HTML."""
    safe = printable(text.replace("\r\n", "\n"))
    lexer = _lexer_for(path) if len(safe) <= LONGEST else None
    if lexer is None:
        return tuple(escape(line) for line in _lines(safe))
    drawn: str = highlight(safe, lexer, HtmlFormatter(nowrap=True, classprefix="hl-"))
    return tuple(_lines(drawn))  # the formatter has escaped it


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _lexer_for(path: str) -> Lexer | None:
    name = path.rpartition("/")[2].lower()
    kind = _BY_ENDING.get(name[name.rfind(".") :]) if "." in name else None
    if kind is None:
        return None
    try:
        return get_lexer_by_name(kind, stripnl=False, ensurenl=True)
    except ClassNotFound:
        return None
