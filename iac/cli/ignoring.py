"""Which paths of a directory are not uploaded: the lines of a .terraformignore, read as those of a .gitignore.

One thing is kinder than in git: a file may be let in again below a directory that is left out (`build/`,
`!build/modules/`), as Terraform's own uploads allow it. Text in, verdicts out; nothing here touches a disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FILE = ".terraformignore"
ALWAYS_FIRST = (".git/", ".terraform/", "*.tfstate", "*.tfstate.*", "crash.log", "crash.*.log")
"""Before the lines of the file, so that these may take one back."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`pattern` matches a path, or a path below one; a directory's path ends with a slash."""

    pattern: re.Pattern[str]
    lets_in: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """The last rule that matches decides."""

    rules: Sequence[Rule]

    def ignores(self, path: str, *, directory: bool = False) -> bool:
        """`path` is relative, with "/" between and without one at either end."""
        at = self._decisive(path, directory)
        return at is not None and not self.rules[at].lets_in

    def ignores_all_below(self, path: str) -> bool:
        """Whether nothing in this directory can be let in again, so that nobody has to look."""
        at = self._decisive(path, directory=True)
        return at is not None and not any(rule.lets_in for rule in self.rules[at:])

    def _decisive(self, path: str, directory: bool) -> int | None:
        named = f"{path}/" if directory else path
        return next((at for at in reversed(range(len(self.rules))) if self.rules[at].pattern.match(named)), None)


def rules_of(lines: Iterable[str]) -> Rules:
    """The rules of these lines, after the ones that always hold."""
    return Rules([rule for line in (*ALWAYS_FIRST, *lines) if (rule := _rule(line)) is not None])


def _rule(line: str) -> Rule | None:
    text = _without_blanks_at_its_end(line.rstrip("\r\n"))
    if not text or text.startswith("#"):
        return None
    lets_in = text.startswith("!")
    text = text[1:] if lets_in else text
    only_directories = text.endswith("/")
    text = text.rstrip("/") if only_directories else text
    anchored = "/" in text
    text = text.removeprefix("/")
    if not text:
        return None
    start = "" if anchored else "(?:.*/)?"
    return Rule(re.compile(f"{start}{_regex(text)}{'/.*' if only_directories else '(?:/.*)?'}\\Z", re.DOTALL), lets_in)


def _without_blanks_at_its_end(line: str) -> str:
    kept = line.rstrip(" ")
    # A backslash keeps the one blank behind it.
    return f"{kept} " if kept.endswith("\\") and not kept.endswith("\\\\") and kept != line else kept


def _regex(glob: str) -> str:
    found, at = [], 0
    while at < len(glob):
        piece, at = _piece(glob, at)
        found.append(piece)
    return "".join(found)


def _piece(glob: str, at: int) -> tuple[str, int]:
    """The regular expression for what stands at `at`, and where the next thing stands."""
    begins = at == 0 or glob[at - 1] == "/"
    if begins and glob.startswith("**/", at):
        return "(?:.*/)?", at + 3
    if begins and glob[at:] == "**":
        return ".+", at + 2
    piece, after = _plain_piece(glob, at)
    # No part of a path is empty: `a/*` is what is in `a`, and not `a/` itself.
    return (f"(?=[^/]){piece}" if begins else piece), after


def _plain_piece(glob: str, at: int) -> tuple[str, int]:
    character = glob[at]
    if character == "*":
        return "[^/]*", at + 1
    if character == "?":
        return "[^/]", at + 1
    if character == "[" and (end := _class_end(glob, at)) is not None:
        return _class(glob[at + 1 : end]), end + 1
    if character == "\\" and at + 1 < len(glob):
        return re.escape(glob[at + 1]), at + 2
    return re.escape(character), at + 1


def _class_end(glob: str, at: int) -> int | None:
    """Where the bracket closes; right behind the opening one (or its negation) it is a member."""
    first = at + 2 if glob[at + 1 : at + 2] in ("!", "^") else at + 1
    end = glob.find("]", first + 1)
    return None if end < 0 else end


def _class(members: str) -> str:
    negated = members[:1] in ("!", "^")
    inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", members[1:] if negated else members)
    text = f"(?!/)[{'^' if negated else ''}{inside}]"
    try:
        re.compile(text)
    except re.error:
        return "(?!)"  # a range that runs backwards matches nothing
    return text
