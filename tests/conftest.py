"""Fixtures that several packages share. A server is started once for a whole run, and only if a test asks for it."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from tests.api_server import ApiServer
from tests.workers import ByShare, order

from weaviate_backup.api.crd import definitions

hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")  # on a busy machine a quick example takes 200 ms, too


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--scenarios",
        choices=["pass", "all"],
        default="pass",
        help="what runs in the lab: one end-to-end pass, or everything, with kills, damage and foreign nodes",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByShare:
    return ByShare(config, log)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A Kubernetes API with our kinds installed, and no controllers. Tests keep to namespaces of their own."""
    with ApiServer(tmp_path_factory.mktemp("api-server") / "kubernetes") as server:
        server.install_crds(list(definitions().values()))
        yield server
