"""Variables of a workspace: which names and values are accepted, and how Terraform is told them.

What Terraform itself does to a string (measured, see tests/executor/test_variables_with_terraform.py): it keeps every
character, NUL included, but in Unicode normal form C; in a run of more than 30 combining marks it puts a joiner (U+034F)
in front of each 31st. An environment variable reaches its programs byte for byte.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping

from iac.domain.records import Category
from iac.errors import Invalid, TooLarge

VALUE_BYTES = 64 * 1024
"""The default limit of one value. Linux refuses to start a program with an environment variable over 128 KiB."""
NAME_CHARACTERS = 256
RESERVED = frozenset(
    {"source", "version", "providers", "provider", "count", "for_each", "lifecycle", "depends_on", "locals", "_"}
)
"""Names that Terraform keeps for itself: they have a meaning inside `module` blocks."""

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN = "the platform sets it for each task"
_REFUSED = {
    "PATH": _OWN,
    "HOME": _OWN,
    "TMPDIR": _OWN,
    "CHECKPOINT_DISABLE": _OWN,
    "TF_DATA_DIR": _OWN,
    "TF_CLI_CONFIG_FILE": _OWN,
    "TF_INPUT": _OWN,
    "TF_IN_AUTOMATION": _OWN,
    "TF_WORKSPACE": "a workspace here holds exactly one state",
    "TF_LOG_PATH": "logs go to the task's log; TF_LOG alone is allowed",
}
_REFUSED_PREFIXES = {
    "IAC_": "these names belong to the platform",
    "TF_CLI_ARGS": "it would change the commands that the platform runs",
    "TF_VAR_": "make it a variable of the category terraform, without the prefix",
    "LD_": "it would change how every program of the task is loaded",
}


def is_identifier(text: str) -> bool:
    """Whether HCL takes it for an identifier: a letter or "_", then also digits and "-".

    HCL's letters are those of an older Unicode than Python's, so only those of Unicode 3.2 pass beside ASCII.
    """
    known = all(unicodedata.ucd_3_2_0.category(character) != "Cn" for character in text)
    return known and not text.startswith("-") and text.replace("-", "_").isidentifier()


def check_name(category: Category, key: str, path: str = "$.key") -> None:
    """Raises Invalid unless a variable of this category may be called `key`."""
    problem = _terraform_name_problem(key) if category == "terraform" else _environment_name_problem(key)
    if len(key) > NAME_CHARACTERS:
        problem = f"is longer than {NAME_CHARACTERS} characters"
    if problem is not None:
        raise Invalid(f"The name {key[:80]!a} {problem}.", path=path)


def _terraform_name_problem(key: str) -> str | None:
    if not is_identifier(key):
        return "is not a Terraform identifier: a letter or _ first, then letters, digits, _ and -"
    if not unicodedata.is_normalized("NFC", key):
        return "is not in Unicode normal form C, so Terraform would not recognise it"
    if key in RESERVED:
        return "is reserved by Terraform"
    return None


def _environment_name_problem(key: str) -> str | None:
    if not _ENVIRONMENT_NAME.fullmatch(key):
        return "is not a name for an environment variable: a letter or _ first, then letters, digits and _"
    reasons = [reason for prefix, reason in _REFUSED_PREFIXES.items() if key.startswith(prefix)]
    if key in _REFUSED:
        reasons.append(_REFUSED[key])
    return f"cannot be an environment variable here: {reasons[0]}" if reasons else None


def check_value(category: Category, value: str, *, hcl: bool, limit: int = VALUE_BYTES, path: str = "$.value") -> None:
    """Raises TooLarge over `limit` bytes of UTF-8, Invalid for what could not be passed on unchanged."""
    size = len(_utf8(value, path))
    if size > limit:
        raise TooLarge(f"The value has {size} bytes, the limit is {limit}.", limit=limit, path=path)
    if category == "environment" and hcl:
        raise Invalid("An environment variable is plain text; only Terraform variables can be HCL.", path="$.hcl")
    if category == "environment" and "\0" in value:
        raise Invalid("An environment variable cannot contain a NUL character.", path=path)
    if hcl:
        check_expression(value, path)


def _utf8(value: str, path: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Invalid("The value is not Unicode text: it has half of a surrogate pair.", path=path) from None


def tfvars_json(values: Mapping[str, str]) -> bytes:
    """A `.tfvars.json` file in which each value stands for itself: `${` and quotes mean nothing in it.

    Raises Invalid for a name or value that `check_name` or `check_value` would refuse.
    """
    for key, value in values.items():
        check_name("terraform", key, key)
        _utf8(value, key)
    return json.dumps(dict(values), sort_keys=True, indent=2).encode() + b"\n"


def tfvars_hcl(values: Mapping[str, str]) -> bytes:
    """A `.tfvars` file of expressions. Each is closed in parentheses, and proven to stay inside them.

    Raises Invalid for a name or an expression that `check_name` or `check_expression` would refuse.
    """
    for key, value in values.items():
        check_name("terraform", key, key)
        _utf8(value, key)
        check_expression(value, key)
    return "".join(f"{key} = (\n{_unix(values[key])}\n)\n" for key in sorted(values)).encode()


def _unix(text: str) -> str:
    """With LF for the CRLF that browsers send: HCL would see the CR as part of a here document's line."""
    return text.replace("\r\n", "\n")


def check_expression(text: str, path: str = "$.value") -> None:
    """Raises Invalid unless brackets, quotes, templates, comments and here documents end inside the text.

    This keeps an expression from becoming anything but one value; whether it is a good one Terraform says.
    """
    text = _unix(text)
    if any(unicodedata.category(character) == "Cc" and character not in "\t\n" for character in text):
        raise Invalid(
            "An HCL expression cannot contain control characters; write them as \\u001b in quotes.", path=path
        )
    _Scanner(text, path).scan()


_CODE = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/)
      | (?P<heredoc><<-?(?P<marker>[A-Za-z_][A-Za-z0-9_-]*)\n)
      | (?P<operator>[=!<>]=|=>)
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])
      | (?P<quote>")
      | (?P<refused>/\*|<<|[=,'`;\\])
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_CLOSED_BY = {"(": ")", "[": "]", "{": "}", "${": "}"}
_PROBLEMS = {
    "/*": "a comment is not closed",
    "<<": "a here document starts with << or <<-, a word of ASCII letters, and the end of the line",
    "'": "strings are written in double quotes",
    "=": "write the value alone, without a name and =",
    ",": "write one value; a list is written in [ ]",
}


class _Scanner:
    """Follows HCL's own lexer through code, quoted strings and here documents.

    The stack holds what is open: a bracket, `"`, `${` for either kind of template, or `<<` and a here document's word.
    """

    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path
        self._at = 0
        self._open: list[str] = []
        self._empty = True

    def scan(self) -> None:
        while self._at < len(self._text):
            inside = self._open[-1] if self._open else ""
            if inside == '"':
                self._quoted()
            elif inside.startswith("<<"):
                self._here_document(inside[2:])
            else:
                self._code(inside)
        if self._open:
            raise self._refused(f"{self._open[-1]} is not closed")
        if self._empty:
            raise self._refused('it is empty; an empty string is written ""')

    def _code(self, inside: str) -> None:
        token = next(_CODE.finditer(self._text, self._at))
        kind, found = token.lastgroup, token.group()
        if kind == "heredoc":
            self._open.append(f"<<{token['marker']}")
        elif kind in {"open", "quote"}:
            self._open.append(found)
        elif kind == "close":
            self._close(inside, found)
        elif kind == "refused" and not (found in "=," and inside):
            raise self._refused(_PROBLEMS.get(found, f"{found} is not part of the language"))
        self._empty = self._empty and kind == "skip"
        self._at = token.end()

    def _close(self, inside: str, bracket: str) -> None:
        if _CLOSED_BY.get(inside) != bracket:
            raise self._refused(f"{bracket} closes nothing")
        self._open.pop()

    def _quoted(self) -> None:
        character = self._text[self._at]
        if character == "\n" or self._text.startswith("\\\n", self._at):
            raise self._refused("a quoted string ends on its own line; write \\n, or use <<EOT")
        if character == '"':
            self._open.pop()
        self._template(escapes=True)

    def _here_document(self, word: str) -> None:
        if self._text[self._at - 1] == "\n":
            end = self._text.find("\n", self._at)
            line = self._text[self._at :] if end < 0 else self._text[self._at : end]
            if line.strip() == word:
                self._open.pop()
                self._at += len(line)
                return
        self._template(escapes=False)

    def _template(self, *, escapes: bool) -> None:
        """Past one character of text, or one escape, or into the template that starts here."""
        character = self._text[self._at]
        if character in "$%" and self._text.startswith(f"{character}{character}{{", self._at):
            self._at += 3
        elif character in "$%" and self._text.startswith("{", self._at + 1):
            self._open.append("${")
            self._at += 2
        else:
            self._at += 2 if escapes and character == "\\" else 1

    def _refused(self, why: str) -> Invalid:
        line = self._text.count("\n", 0, self._at) + 1
        return Invalid(f"This is not one HCL expression: {why} (line {line}).", path=self._path)
