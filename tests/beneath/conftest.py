"""Each test runs with the kernel's call and without it, and must find the same."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
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


def _open() -> dict[str, str]:
    """Descriptor -> what it is open on, without the one that lists them."""
    own, found = Path(f"/proc/{os.getpid()}/fd"), {}
    for each in own.iterdir():
        with suppress(FileNotFoundError):
            found[each.name] = str(each.readlink())
    return {descriptor: target for descriptor, target in found.items() if target != str(own)}


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    before = _open()
    yield
    assert _open().items() <= before.items()  # what others left may be closed meanwhile


@pytest.fixture
def volume() -> Iterator[Volume]:
    with volume_in_memory() as made:
        made.reset()
        yield made


@pytest.fixture
def place(volume: Volume) -> Place:
    return Root(volume.root).place
