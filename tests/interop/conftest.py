"""A store, and a cluster per version of Weaviate, for all tests here; they start when the first test asks for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from tests.agent.surroundings import Surroundings, s3_server
from tests.interop.releases import Release, release

NEW, OLD = "1.39.1", "1.37.14"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Surroundings]:
    async with s3_server(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def releases(
    tmp_path_factory: pytest.TempPathFactory, store: Surroundings
) -> AsyncIterator[tuple[Release, Release]]:
    """Both at once: making backups is mostly waiting for the server's own polls."""
    async with AsyncExitStack() as stack:
        new, old = await asyncio.gather(
            stack.enter_async_context(release(tmp_path_factory.mktemp("new"), store, NEW)),
            stack.enter_async_context(release(tmp_path_factory.mktemp("old"), store, OLD)),
        )
        yield new, old


@pytest.fixture(scope="session")
def new(releases: tuple[Release, Release]) -> Release:
    return releases[0]


@pytest.fixture(scope="session")
def old(releases: tuple[Release, Release]) -> Release:
    return releases[1]
