"""One parametrised fixture: every platform in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.contract.platforms import PlatformUnderTest, local, memory
from tests.contract.remote import remote
from tests.harness.postgres import fresh_database

Opens = Callable[[str], AbstractAsyncContextManager[PlatformUnderTest]]
PLATFORMS: dict[str, Opens] = {"memory": memory, "local": local, "remote": remote}
"""A further accessor is one more entry here."""
WITHOUT_DATABASE = frozenset({"memory"})


@pytest.fixture(params=PLATFORMS)
def platform_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def contract_url(postgres: str) -> str:
    """One database for all of them: each test has a workspace of its own."""
    return fresh_database(postgres)


@pytest.fixture
def platform_url(platform_name: str, request: pytest.FixtureRequest) -> str:
    """A database for those that have one."""
    return "" if platform_name in WITHOUT_DATABASE else str(request.getfixturevalue("contract_url"))


@pytest.fixture
async def platform(platform_name: str, platform_url: str) -> AsyncIterator[PlatformUnderTest]:
    async with PLATFORMS[platform_name](platform_url) as opened:
        yield opened
