"""Fixtures that every test may use. Servers and agents are context managers in tests.harness, not fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from iac.store.database import Database, open_database
from tests.harness.postgres import drop_database, fresh_database, place_of_cluster, running_postgres
from tests.harness.thoroughness import examples

# How long an example takes says more of the machine than of what it tests.
settings.register_profile(
    "iac", max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("iac")


NOT_TESTED = "The UI is not tested in a browser"
"""How the reason of a skip begins where Chromium cannot be had."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not looked at is said loudly; here, for only this file is known to who distributes tests to processes."""
    skipped = [
        str(each.longrepr[2]) for each in terminalreporter.getreports("skipped") if isinstance(each.longrepr, tuple)
    ]
    reasons = [reason.removeprefix("Skipped: ") for reason in skipped if NOT_TESTED in reason]
    if reasons:
        terminalreporter.section("NO BROWSER", sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(reasons)} tests were skipped. {reasons[0]}", red=True, bold=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of this session's own PostgreSQL."""
    with place_of_cluster() as data, running_postgres(data) as url:
        yield url


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """A fresh, migrated database."""
    url = fresh_database(postgres)
    yield url
    drop_database(postgres, url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The same, connected."""
    async with open_database(database_url) as opened:
        yield opened
