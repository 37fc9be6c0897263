"""Fixtures that every test may use. Servers and agents are context managers in tests.harness, not fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from iac.store.database import Database, open_database
from tests.harness.postgres import drop_database, fresh_database, place_of_cluster, running_postgres

# How long an example takes says more of the machine than of what it tests.
settings.register_profile("iac", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("iac")


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
