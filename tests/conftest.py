"""Fixtures that every test may use. Servers and agents are context managers in tests.harness, not fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from iac.store.database import Database, open_database
from tests.harness.postgres import fresh_database, running_postgres


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of this session's own PostgreSQL."""
    # PostgreSQL's socket path is limited to about a hundred characters, and as root it runs as another user.
    directory: Path = tmp_path_factory.mktemp("pg", numbered=True)
    for parent in (directory, *directory.parents):
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    with running_postgres(directory / "data") as url:
        yield url


@pytest.fixture
def database_url(postgres: str) -> str:
    """A fresh, migrated database."""
    return fresh_database(postgres)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The same, connected."""
    async with open_database(database_url) as opened:
        yield opened
