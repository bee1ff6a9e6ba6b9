"""Servers, started once per run; and stores behind a line that fails, sound again before every test."""

from collections.abc import Iterator

import pytest
from tests.azure_server import AzureServer, running_azure_server
from tests.gcs_server import GcsServer, running_gcs_server
from tests.s3_server import S3Server, running_s3_server
from tests.storage.faulty_stores import TRIALS, Trial


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3_server(tmp_path_factory.mktemp("s3") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    with running_gcs_server(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    with running_azure_server(tmp_path_factory.mktemp("azure")) as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of stores behind the line runs for every kind, unless it says for which."""
    said = [name for mark in metafunc.definition.iter_markers("parametrize") for name in mark.args[0]]
    if "shared" in metafunc.fixturenames and "case" not in metafunc.fixturenames and "shared" not in said:
        metafunc.parametrize("shared", list(TRIALS), indirect=True, scope="module")


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with TRIALS[request.param](tmp_path_factory.mktemp(request.param)) as trial:
        yield trial


@pytest.fixture
def trial(shared: Trial) -> Iterator[Trial]:
    shared.line.heal()
    yield shared
    shared.line.heal()
