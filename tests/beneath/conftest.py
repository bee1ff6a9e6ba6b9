"""Each test runs with the kernel's call and without it, and must find the same."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.beneath.attacker import Volume, volume_in_memory, within, without_the_call

from weaviate_backup.beneath import Place, Root


@pytest.fixture(params=["openat2", "part by part"], autouse=True)
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param != "openat2":
            stack.enter_context(without_the_call())
        yield request.param


@pytest.fixture(autouse=True)
def no_waiting(request: pytest.FixtureRequest) -> Iterator[None]:
    with within(60):
        yield


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    yield
    assert len(list(descriptors.iterdir())) == before


@pytest.fixture
def volume() -> Iterator[Volume]:
    with volume_in_memory() as made:
        made.reset()
        yield made


@pytest.fixture
def place(volume: Volume) -> Place:
    return Root(volume.root).place
