from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.versions import LATEST, Constraint, Version
from iac.errors import Invalid

numbers = st.integers(min_value=0, max_value=30)
words = st.sampled_from(["alpha", "beta", "rc", "rc1", "rc-2", "0", "1", "2", "11"])
versions = st.builds(
    Version, major=numbers, minor=numbers, patch=numbers, prerelease=st.lists(words, max_size=3).map(tuple)
)
releases = st.builds(Version, major=numbers, minor=numbers, patch=numbers)

# From semver.org, lowest first, with Terraform's own spelling of release candidates in between.
ASCENDING = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0-rc1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
]


def allowed(constraint: str, *candidates: str) -> list[str]:
    parsed = Constraint.parse(constraint)
    return [text for text in candidates if parsed.allows(Version.parse(text))]


@given(versions)
def test_a_version_survives_being_written_and_read(version: Version) -> None:
    assert Version.parse(str(version)) == version
    assert Version.parse(f"v{version}+build.5") == version
    assert hash(Version.parse(str(version))) == hash(version)


def test_versions_are_ordered_as_semver_says() -> None:
    assert [str(version) for version in sorted(map(Version.parse, reversed(ASCENDING)))] == ASCENDING


@given(versions, versions, versions)
def test_the_order_is_total(a: Version, b: Version, c: Version) -> None:
    assert (a < b) + (a == b) + (a > b) == 1
    assert (a <= b) == (not b < a)
    if a <= b <= c:
        assert a <= c


@given(releases, releases)
def test_comparisons_mean_what_the_order_says(version: Version, bound: Version) -> None:
    answers = {sign: Constraint.parse(f"{sign} {bound}").allows(version) for sign in ("=", "!=", "<", "<=", ">", ">=")}
    assert answers == {
        "=": version == bound,
        "!=": version != bound,
        "<": version < bound,
        "<=": version <= bound,
        ">": version > bound,
        ">=": version >= bound,
    }


@given(releases, releases)
def test_a_family_is_a_range(version: Version, bound: Version) -> None:
    patches = f">= {bound}, < {bound.major}.{bound.minor + 1}.0"
    minors = f">= {bound.major}.{bound.minor}.0, < {bound.major + 1}.0.0"
    assert Constraint.parse(f"~> {bound}").allows(version) == Constraint.parse(patches).allows(version)
    family = Constraint.parse(f"~> {bound.major}.{bound.minor}")
    assert family.allows(version) == Constraint.parse(minors).allows(version)


@given(st.lists(versions, min_size=1), versions)
def test_every_clause_must_hold_and_the_best_comes_first(candidates: list[Version], bound: Version) -> None:
    both = Constraint.parse(f">= {bound}, != {bound}")
    ranked = both.ranked(candidates)
    assert set(ranked) == {version for version in candidates if both.allows(version)}
    assert all(version > bound for version in ranked)
    stable = [version for version in ranked if not version.prerelease]
    assert ranked[: len(stable)] == sorted(stable, reverse=True)


@given(st.text(max_size=30))
def test_any_text_is_a_constraint_or_refused(text: str) -> None:
    with suppress(Invalid):
        assert Constraint.parse(text).allows(Version(1, 2, 3)) in (True, False)


@pytest.mark.parametrize("text", ["1.8.5", "= 1.8.5", "=1.8.5", "v1.8.5", "  1.8.5 "])
def test_one_version_can_be_named_exactly(text: str) -> None:
    assert Constraint.parse(text).exact == Version(1, 8, 5)
    assert allowed(text, "1.8.4", "1.8.5", "1.8.6", "1.8.5-rc1") == ["1.8.5"]


@pytest.mark.parametrize("text", [">= 1.8.5", "~> 1.8.5", "1.8.5, != 1.8.4", LATEST])
def test_a_constraint_with_a_choice_names_no_exact_version(text: str) -> None:
    assert Constraint.parse(text).exact is None


def test_a_range_leaves_prereleases_out() -> None:
    assert allowed(">= 1.5, < 2.0", "1.4.9", "1.5.0", "1.9.9", "1.9.0-rc1", "2.0.0-rc1", "2.0.0") == ["1.5.0", "1.9.9"]


def test_a_prerelease_is_had_by_naming_one_of_its_release() -> None:
    candidates = ("1.9.0-beta1", "1.9.0-rc1", "1.9.0-rc2", "1.9.0", "1.9.1-rc1", "1.9.1")
    assert allowed(">= 1.9.0-rc1", *candidates) == ["1.9.0-rc1", "1.9.0-rc2", "1.9.0", "1.9.1"]
    assert allowed("1.9.0-rc2", *candidates) == ["1.9.0-rc2"]


def test_keeping_a_prerelease_out_does_not_let_its_siblings_in() -> None:
    assert allowed(">= 1.8.0, != 1.9.0-rc1", "1.9.0-rc1", "1.9.0-rc2", "1.9.0") == ["1.9.0"]


def test_latest_takes_anything_and_prefers_a_release() -> None:
    latest = Constraint.parse("latest")
    ranked = latest.ranked(map(Version.parse, ["1.9.0", "1.13.0-alpha1", "1.12.2"]))
    assert latest.is_latest
    assert [str(version) for version in ranked] == ["1.12.2", "1.9.0", "1.13.0-alpha1"]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "Accepted are"),
        ("newest", "Accepted are"),
        ("1.8.5 1.9.0", "Accepted are"),
        (">= 1.5,", "Accepted are"),
        ("=> 1.5", "Accepted are"),
        ("1.x", "three numbers"),
        ("01.2.3", "three numbers"),
        ("1.2.3.4", "three numbers"),
        ("1.2.3-", "three numbers"),
        ("\u0661.2.3", "three numbers"),
        ("1.9-rc1", "full version"),
        ("1.9", "~> 1.9.0"),
        ("= 1", "~> 1.0.0"),
        ("~> 1", "~> 1.0"),
        (">= 1." + "0" * 300, "characters"),
        (">= 9999999999.0", "three numbers"),
    ],
)
def test_nonsense_is_refused_with_what_to_write_instead(text: str, advice: str) -> None:
    with pytest.raises(Invalid) as refusal:
        Constraint.parse(text)
    assert advice in refusal.value.message


@pytest.mark.parametrize("text", ["1.9", "", "latest", "1.8.5\n", "1.8.5-" + "9" * 5000])
def test_a_version_has_three_numbers(text: str) -> None:
    with pytest.raises(Invalid, match="three numbers"):
        Version.parse(text)
