"""Which Terraform a workspace asks for: versions, their order, and constraints over them.

Versions are semantic versions. A constraint is one exact version, a list of comparisons, or the word `latest`; the
meaning of each comparison is Terraform's own, and where Terraform's own reading would surprise (`= 1.9`, `~> 1`) the
text is refused with what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import total_ordering
from typing import Literal, get_args

from iac.errors import Invalid

Engine = Literal["terraform", "tofu"]
Operator = Literal["=", "!=", ">", ">=", "<", "<=", "~>"]

LATEST = "latest"
LONGEST_TEXT = 200
ACCEPTED = "Accepted are an exact version (1.8.5), comparisons (>= 1.5, < 2.0), a family (~> 1.9), or latest."

_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_PRERELEASE = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(
    rf"v?(?P<numbers>{_NUMBER}(?:\.{_NUMBER}){{0,2}})(?:-(?P<prerelease>{_PRERELEASE}))?(?:\+[0-9A-Za-z.-]+)?"
)
_OPERATORS: dict[str, Operator] = {operator: operator for operator in get_args(Operator)}
_CLAUSE = re.compile(r"(?P<operator>=|!=|>=|<=|~>|>|<)?\s*(?P<version>[^\s=!<>~]+)")


@total_ordering
@dataclass(frozen=True, eq=False)
class Version:
    """A semantic version. Build metadata (`+…`) says nothing about order and is not kept."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Version:
        """The version that `text` spells, with or without a leading v. Raises Invalid unless it has three numbers."""
        version, given = _parse_partial(text)
        if given != 3:
            raise Invalid(f"{text!r} is not a full version; write three numbers, such as 1.8.5 or 1.9.0-rc1.")
        return version

    @property
    def release(self) -> tuple[int, int, int]:
        """The three numbers."""
        return (self.major, self.minor, self.patch)

    def __str__(self) -> str:
        suffix = "-" + ".".join(self.prerelease) if self.prerelease else ""
        return f"{self.major}.{self.minor}.{self.patch}{suffix}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and _precedence(self) == _precedence(other)

    def __hash__(self) -> int:
        return hash(_precedence(self))

    def __lt__(self, other: Version) -> bool:
        return _precedence(self) < _precedence(other)


@dataclass(frozen=True)
class Clause:
    """One comparison. `given` is how many of the version's numbers were written: it sets how far `~>` reaches."""

    operator: Operator
    version: Version
    given: int = 3

    def allows(self, version: Version) -> bool:
        """Whether the bare comparison holds; prereleases are the constraint's business."""
        match self.operator:
            case "=":
                return version == self.version
            case "!=":
                return version != self.version
            case ">":
                return version > self.version
            case ">=":
                return version >= self.version
            case "<":
                return version < self.version
            case "<=":
                return version <= self.version
            case "~>":
                family = self.given - 1
                return version >= self.version and version.release[:family] == self.version.release[:family]


@dataclass(frozen=True)
class Constraint:
    """What a workspace accepts. No clauses means `latest`: anything goes, and nothing is worth a download."""

    text: str
    clauses: tuple[Clause, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """The constraint that `text` spells. Raises Invalid, saying what is accepted, for anything else."""
        stripped = text.strip()
        if len(stripped) > LONGEST_TEXT:
            raise Invalid(f"A version constraint may have {LONGEST_TEXT} characters, this one has {len(stripped)}.")
        if stripped == LATEST:
            return cls(stripped, ())
        return cls(stripped, tuple(_parse_clause(part.strip(), whole=stripped) for part in stripped.split(",")))

    @property
    def is_latest(self) -> bool:
        """Whether anything that is at hand will do."""
        return not self.clauses

    @property
    def exact(self) -> Version | None:
        """The one version that this constraint names; None if it leaves a choice."""
        if len(self.clauses) == 1 and self.clauses[0].operator == "=":
            return self.clauses[0].version
        return None

    def allows(self, version: Version) -> bool:
        """Whether `version` will do. A prerelease must be asked for by a clause that names one of the same release."""
        if self.is_latest:
            return True
        if version.prerelease and not any(_names_prerelease_of(clause, version) for clause in self.clauses):
            return False
        return all(clause.allows(version) for clause in self.clauses)

    def ranked(self, versions: Iterable[Version]) -> list[Version]:
        """The allowed ones, best first: highest release, and prereleases only after every release."""
        allowed = {version for version in versions if self.allows(version)}
        return sorted(allowed, key=lambda version: (not version.prerelease, version), reverse=True)


def _parse_partial(text: str) -> tuple[Version, int]:
    """A version whose missing numbers are zero, and how many were written."""
    found = _VERSION.fullmatch(text) if len(text) <= LONGEST_TEXT else None
    if found is None:
        raise Invalid(f"{text[:LONGEST_TEXT]!r} is not a version; write three numbers, such as 1.8.5 or 1.9.0-rc1.")
    numbers = [int(number) for number in found["numbers"].split(".")]
    major, minor, patch = numbers + [0] * (3 - len(numbers))
    prerelease = tuple(found["prerelease"].split(".")) if found["prerelease"] else ()
    if prerelease and len(numbers) != 3:
        raise Invalid(f"{text!r} is not a version: only a full version, such as 1.9.0-rc1, can be a prerelease.")
    return Version(major, minor, patch, prerelease), len(numbers)


def _parse_clause(text: str, *, whole: str) -> Clause:
    found = _CLAUSE.fullmatch(text)
    if found is None:
        raise Invalid(f"{whole!r} is not a version constraint. {ACCEPTED}")
    try:
        version, given = _parse_partial(found["version"])
    except Invalid as problem:
        raise Invalid(f"{whole!r} is not a version constraint: {problem.message} {ACCEPTED}") from None
    operator = _OPERATORS[found["operator"] or "="]
    if operator in ("=", "!=") and given != 3:
        hint = f"{found['version']}.{'.'.join('0' * (3 - given))}"
        raise Invalid(f"{whole!r} is ambiguous: write {hint} for that one version, or ~> {hint} for its patches.")
    if operator == "~>" and given == 1:
        raise Invalid(f"{whole!r} is ambiguous: write ~> {version.major}.0 for all of version {version.major}.")
    return Clause(operator, version, given)


def _names_prerelease_of(clause: Clause, version: Version) -> bool:
    # "!= 1.9.0-rc1" mentions a prerelease in order to keep it out: it does not ask for its siblings.
    asked = clause.operator != "!=" and bool(clause.version.prerelease)
    return asked and clause.version.release == version.release


def _precedence(version: Version) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]:
    """Semver's order: numbers, then a release above its prereleases, whose numeric parts are below their words."""
    parts = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in version.prerelease)
    return version.release, not version.prerelease, parts
