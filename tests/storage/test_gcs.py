"""The GCS store keeps the contract on a real server, and names every mistake."""

import itertools
from collections.abc import Iterator

import pytest
from tests.gcs_server import GcsServer, running_gcs_server
from tests.storage.contract import StoreContract

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore

numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    with running_gcs_server(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def bucket(server: GcsServer) -> str:
    name = f"bucket-{next(numbers)}"
    server.make_bucket(name)
    return name


@pytest.fixture
def store(server: GcsServer, bucket: str) -> ObjectStore:
    return open_store(LocationSpec(gcs=server.location(bucket, "prod/a")), credentials={})


class TestGcs(StoreContract):
    pass
