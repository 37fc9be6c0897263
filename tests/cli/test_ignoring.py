"""The lines of a .terraformignore: what git says of the same lines, and where we are kinder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iac.cli.ignoring import rules_of
from tests.harness.thoroughness import examples

PATHS = ("a", "b", "a/b", "b/a", "a/b/a", "ab", "a/ab", "b/b/ab", "aa/b", "a/b/b/ab")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty git repository: `git check-ignore` reads its .gitignore and needs no files."""
    where = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", str(where)], check=True, capture_output=True)
    return where


def ignored_by_git(repository: Path, lines: list[str]) -> set[str]:
    (repository / ".gitignore").write_text("".join(f"{line}\n" for line in lines))
    asked = "\n".join(PATHS).encode()
    command = ["git", "-C", str(repository), "check-ignore", "--no-index", "--stdin"]
    answer = subprocess.run(command, input=asked, capture_output=True, check=False)
    assert answer.returncode in (0, 1), answer.stderr
    return set(answer.stdout.decode().splitlines())


SEGMENTS = st.sampled_from(["a", "b", "ab", "*", "?", "**", "[ab]", "[!a]", "\\a", "a*", "?b", "*b*"])
LINES = st.lists(
    st.builds(
        lambda start, parts, end: start + "/".join(parts) + end,
        st.sampled_from(["", "/"]),
        st.lists(SEGMENTS, min_size=1, max_size=4),
        st.sampled_from(["", "/"]),
    ),
    min_size=1,
    max_size=3,
)


@given(lines=LINES)
@settings(max_examples=examples(150), deadline=None)
def test_without_negation_the_verdict_is_gits(repository: Path, lines: list[str]) -> None:
    rules = rules_of(lines)
    assert {path for path in PATHS if rules.ignores(path)} == ignored_by_git(repository, lines)


@pytest.mark.parametrize(
    "path",
    [".git/config", "modules/x/.git/HEAD", ".terraform/providers/p", "terraform.tfstate", "a/terraform.tfstate.backup",
     "x.tfstate", "crash.log", "crash.20250101.log", "terraform.tfstate.d/prod/terraform.tfstate"],
)  # fmt: skip
def test_what_nobody_wants_to_upload_is_always_left_out(path: str) -> None:
    assert rules_of([]).ignores(path)


@pytest.mark.parametrize(
    "path", ["main.tf", ".gitignore", ".terraform.lock.hcl", "tfstate.tf", "my.tfvars", "a/crash.logs"]
)
def test_everything_else_is_taken(path: str) -> None:
    assert not rules_of([]).ignores(path)


def test_the_last_line_that_matches_decides() -> None:
    rules = rules_of(["*.zip", "!lambda.zip", "old/lambda.zip"])
    assert rules.ignores("other.zip")
    assert not rules.ignores("a/lambda.zip")
    assert rules.ignores("old/lambda.zip")


def test_a_file_may_be_let_in_again_below_a_directory_that_is_left_out() -> None:
    rules = rules_of(["build/", "!build/keep/"])
    assert rules.ignores("build/x")
    assert not rules.ignores("build/keep/x")
    assert rules.ignores("build", directory=True)
    assert not rules.ignores_all_below("build"), "somebody has to look"


def test_a_directory_is_not_looked_into_when_nothing_in_it_can_be_let_in() -> None:
    assert rules_of(["!x", "build/"]).ignores_all_below("build")
    assert rules_of([]).ignores_all_below("a/.terraform")


def test_what_always_holds_can_be_taken_back() -> None:
    assert not rules_of(["!.terraform/modules/"]).ignores(".terraform/modules/m/main.tf")


def test_blank_lines_and_comments_are_no_rules_and_escapes_are_letters() -> None:
    rules = rules_of(["", "   ", "# main.tf", "\\#x", "\\!y", "space\\ ", "end   "])
    assert not rules.ignores("main.tf")
    assert all(rules.ignores(path) for path in ("#x", "!y", "space ", "end"))


def test_a_line_for_directories_spares_a_file_of_that_name() -> None:
    rules = rules_of(["out/"])
    assert not rules.ignores("out")
    assert rules.ignores("out", directory=True)
    assert rules.ignores("a/out/x")


@pytest.mark.parametrize("line", ["[", "[z-a]", "a[", "!", "/", "\\", "**", "[]a]", "[!]a]", "***/a"])
def test_odd_lines_do_no_harm(line: str) -> None:
    rules_of([line]).ignores("a/b")
