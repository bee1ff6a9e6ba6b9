"""Stores behind a line that fails: started once per module and kind, sound again before every test."""

from collections.abc import Iterator

import pytest
from tests.storage.faulty_stores import TRIALS, Trial


@pytest.fixture(scope="module", params=TRIALS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with TRIALS[request.param](tmp_path_factory.mktemp(request.param)) as trial:
        yield trial


@pytest.fixture
def trial(shared: Trial) -> Iterator[Trial]:
    shared.line.heal()
    yield shared
    shared.line.heal()
