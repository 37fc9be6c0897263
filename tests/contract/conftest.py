"""One parametrised fixture: every platform in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.platforms import PLATFORMS, WITHOUT_DATABASE, PlatformUnderTest


@pytest.fixture(params=PLATFORMS)
def platform_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def platform_url(platform_name: str, request: pytest.FixtureRequest) -> str:
    """A database for those that have one."""
    return "" if platform_name in WITHOUT_DATABASE else str(request.getfixturevalue("database_url"))


@pytest.fixture
async def platform(platform_name: str, platform_url: str) -> AsyncIterator[PlatformUnderTest]:
    async with PLATFORMS[platform_name](platform_url) as opened:
        yield opened
