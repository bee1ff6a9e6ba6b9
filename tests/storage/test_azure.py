"""The Azure store keeps the contract on a real server, and names every mistake."""

import itertools
from collections.abc import Iterator

import pytest
from tests.azure_server import AzureServer, running_azure_server
from tests.storage.contract import StoreContract

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore

numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    with running_azure_server(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture
def container(server: AzureServer) -> str:
    name = f"container-{next(numbers)}"
    server.make_container(name)
    return name


@pytest.fixture
def store(server: AzureServer, container: str) -> ObjectStore:
    location = server.location(container, "prod/a").model_copy(update={"block_size_mib": 8, "concurrency": 3})
    return open_store(LocationSpec(azure=location), credentials=server.credentials)


class TestAzure(StoreContract):
    pass
