"""The GCS store keeps the contract on a real server, and does what its location asks."""

import itertools
import json
import urllib.request
from typing import Any
from urllib.parse import quote

import pytest
from tests.gcs_server import GcsServer
from tests.storage.contract import MIB, BucketContract, StoreContract, blocks
from tests.storage.faulty_line import faulty_line

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore

numbers = itertools.count()
LARGE_BYTES = 9 * MIB


@pytest.fixture
def bucket(gcs_server: GcsServer) -> str:
    name = f"bucket-{next(numbers)}"
    gcs_server.make_bucket(name)
    return name


@pytest.fixture
def store(gcs_server: GcsServer, bucket: str) -> ObjectStore:
    return open_store(LocationSpec(gcs=gcs_server.location(bucket, "prod/a")), credentials={})


@pytest.fixture
def nowhere(gcs_server: GcsServer) -> ObjectStore:
    return open_store(LocationSpec(gcs=gcs_server.location("nowhere-at-all")), credentials={})


class TestGcs(StoreContract, BucketContract):
    pass


def stored(server: GcsServer, bucket: str, name: str) -> dict[str, Any]:
    """What the server says of an object."""
    with urllib.request.urlopen(f"{server.endpoint}/storage/v1/b/{bucket}/o/{quote(name, safe='')}") as answer:
        return dict(json.load(answer))


def test_objects_are_what_the_location_asks_for(gcs_server: GcsServer, bucket: str) -> None:
    location = gcs_server.location(bucket, "p").model_copy(
        update={"storage_class": "NEARLINE", "metadata": {"team": "search"}}
    )
    store = open_store(LocationSpec(gcs=location), credentials={})
    store.put("small", lambda: blocks(b"1"))
    store.put("large", lambda: blocks(bytes(LARGE_BYTES), MIB))
    for key, size_bytes in (("small", 1), ("large", LARGE_BYTES)):
        found = stored(gcs_server, bucket, f"p/{key}")
        assert (found["storageClass"], found["metadata"]) == ("NEARLINE", {"team": "search"})
        assert (found["contentType"], found["size"]) == ("application/octet-stream", str(size_bytes))


def test_a_key_of_cloud_kms_goes_with_every_object(gcs_server: GcsServer, bucket: str) -> None:
    key_name = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    with faulty_line(gcs_server.endpoint.removeprefix("http://")) as line:
        location = gcs_server.location(bucket).model_copy(
            update={"endpoint": f"http://{line.address}", "kms_key_name": key_name}
        )
        store = open_store(LocationSpec(gcs=location), credentials={})
        store.put("small", lambda: blocks(b"1"))
        store.put("large", lambda: blocks(bytes(LARGE_BYTES), MIB))
        begun = [request.path for request in line.requests if request.method == "POST"]
    assert len(begun) == 2
    assert all(f"kmsKeyName={quote(key_name, safe='')}" in path for path in begun)
