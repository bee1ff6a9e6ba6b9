"""The Azure store keeps the contract on a real server, and does what its location asks."""

import itertools
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from azure.storage.blob import ContainerClient
from tests.azure_server import AzureServer
from tests.storage.contract import MIB, BucketContract, StoreContract, blocks, read
from tests.storage.dialects import AZURE
from tests.storage.faults import Answer, Request
from tests.storage.faulty_line import faulty_line

from weaviate_backup.api.location import AzureLocation, LocationSpec
from weaviate_backup.errors import Permanent
from weaviate_backup.storage.azure import AzureStore, part_rules
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore

numbers = itertools.count()
SMALL_BLOCKS = {"block_size_mib": 4, "concurrency": 3}


@pytest.fixture
def container(azure_server: AzureServer) -> str:
    name = f"container-{next(numbers)}"
    azure_server.make_container(name)
    return name


@pytest.fixture
def client(azure_server: AzureServer, container: str) -> Iterator[ContainerClient]:
    with azure_server.container(container) as client:
        yield client


@pytest.fixture
def location(azure_server: AzureServer, container: str) -> AzureLocation:
    return azure_server.location(container, "prod/a").model_copy(update=SMALL_BLOCKS)


@pytest.fixture
def store(azure_server: AzureServer, location: AzureLocation) -> ObjectStore:
    return open_store(LocationSpec(azure=location), credentials=azure_server.credentials)


@pytest.fixture
def nowhere(azure_server: AzureServer) -> ObjectStore:
    location = azure_server.location("nowhere-at-all").model_copy(update=SMALL_BLOCKS)
    return open_store(LocationSpec(azure=location), credentials=azure_server.credentials)


class TestAzure(StoreContract, BucketContract):
    def test_blocks_have_the_size_of_the_location(self, store: ObjectStore, client: ContainerClient) -> None:
        store.put("large", lambda: blocks(bytes(9 * MIB), 700_001))
        committed, uncommitted = client.get_blob_client("prod/a/large").get_block_list("all")
        assert [block.size for block in committed] == [4 * MIB, 4 * MIB, MIB]
        assert uncommitted == []

    def test_a_blob_has_room_for_terabytes(self, location: AzureLocation) -> None:
        for wanted_mib, least_bytes in ((None, 900 << 30), (1, 300 << 30), (40, 1 << 40), (4000, 150 << 40)):
            rules = part_rules(location.model_copy(update={"block_size_mib": wanted_mib, "concurrency": None}))
            sizes = [rules.growing(number) for number in range(rules.most_parts)]
            assert sum(sizes) > least_bytes
            assert max(sizes) <= max(rules.first_bytes, rules.in_flight_bytes)
            assert rules.equal(150 << 40)(0) * rules.most_parts >= 150 << 40

    def test_blocks_in_flight_are_bounded_by_their_bytes(self, location: AzureLocation) -> None:
        for size_mib, told, expected in ((None, None, 3), (12, None, 2), (40, None, 1), (1, None, 24), (40, 5, 5)):
            asked = location.model_copy(update={"block_size_mib": size_mib, "concurrency": told})
            assert part_rules(asked).senders == expected

    def test_blocks_of_a_dead_process_are_no_object_and_in_nobodys_way(
        self, store: ObjectStore, client: ContainerClient
    ) -> None:
        client.get_blob_client("prod/a/k").stage_block("0123456789abcdef-000001", b"left")
        assert list(store.list("")) == []
        store.put("k", lambda: blocks(bytes(9 * MIB), MIB), if_absent=True)
        assert read(store, "k") == bytes(9 * MIB)


def test_folders_of_a_hierarchical_namespace_are_no_objects(store: ObjectStore, client: ContainerClient) -> None:
    client.upload_blob("prod/a/b1", b"", metadata={"hdi_isfolder": "true"})
    store.put("b1/n", lambda: blocks(b"1"))
    assert [each.key for each in store.list("")] == ["b1/n"]


def test_objects_are_what_the_location_asks_for(
    azure_server: AzureServer, location: AzureLocation, client: ContainerClient
) -> None:
    wanted = {"access_tier": "Cool", "tags": {"team": "search/find = all"}, "metadata": {"purpose": "backup"}}
    store = open_store(LocationSpec(azure=location.model_copy(update=wanted)), credentials=azure_server.credentials)
    store.put("small", lambda: blocks(b"1"))
    store.put("large", lambda: blocks(bytes(9 * MIB), MIB))
    for key in ("small", "large"):
        blob = client.get_blob_client(f"prod/a/{key}")
        found = blob.get_blob_properties()
        assert (found.blob_tier, found.metadata) == ("Cool", {"purpose": "backup"})
        assert found.content_settings.content_type == "application/octet-stream"
        assert blob.get_blob_tags() == {"team": "search/find = all"}


def test_a_connection_string_comes_before_account_and_key(azure_server: AzureServer, location: AzureLocation) -> None:
    credentials = {
        "AZURE_STORAGE_CONNECTION_STRING": azure_server.connection_string,
        "AZURE_STORAGE_ACCOUNT": "someone-else",
        "AZURE_STORAGE_KEY": "bm9uZQ==",
    }
    AzureStore(location, credentials=credentials).check()
    AzureStore(location.model_copy(update={"endpoint": None}), credentials=credentials).check()


def to_batches(request: Request) -> bool:
    return request.method == "POST" and "comp=batch" in request.path


def each_refused(status: str, code: str, count: int) -> Answer:
    """A batch that was taken, of whose requests none was."""
    parts = "".join(
        f"--b\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\nHTTP/1.1 {status}\r\n"
        f"x-ms-error-code: {code}\r\nx-ms-version: 2024-08-04\r\nContent-Length: 0\r\n\r\n\r\n"
        for number in range(count)
    )
    return Answer(202, f"{parts}--b--".encode(), (("Content-Type", "multipart/mixed; boundary=b"),))


@pytest.mark.parametrize(
    "answer",
    [
        AZURE.refuse(403, "AuthenticationFailed"),
        AZURE.refuse(403, "AuthorizationPermissionMismatch"),
        AZURE.refuse(401, "NoAuthenticationInformation"),
        AZURE.refuse(400, "InvalidInput"),
        AZURE.refuse(501, "NotImplemented"),
        each_refused("401 Unauthorized", "NoAuthenticationInformation", 3),
        each_refused("403 Forbidden", "AuthorizationFailure", 3),
    ],
    ids=["signature", "permission", "token", "input", "unknown", "each without a token", "each forbidden"],
)
def test_blobs_are_deleted_singly_by_who_may_send_no_batches(
    azure_server: AzureServer, location: AzureLocation, answer: Answer
) -> None:
    with faulty_line(urlsplit(azure_server.endpoint).netloc) as line:
        endpoint = re.sub(r"[\w.]+:\d+", line.address, location.endpoint or "")
        behind = LocationSpec(azure=location.model_copy(update={"endpoint": endpoint}))
        store = open_store(behind, credentials=azure_server.credentials)
        line.fail(to_batches, answer, times=None)
        for _ in range(2):
            for key in ("a", "b", "kept"):
                store.put(key, lambda: blocks(b"1"))
            store.delete(["a", "b", "never there"])
            assert [each.key for each in store.list("")] == ["kept"]
        assert sum(map(to_batches, line.requests)) == 1, "asked once"
        batches = open_store(behind, credentials=azure_server.credentials)
        line.heal()
        batches.delete(["kept"])
        assert list(map(to_batches, line.requests)) == [True], "another store is asked anew"


def test_a_batch_of_which_some_are_refused_is_no_refusal_of_batches(
    azure_server: AzureServer, location: AzureLocation, client: ContainerClient
) -> None:
    """A lease, or a policy that keeps blobs."""
    store = open_store(LocationSpec(azure=location), credentials=azure_server.credentials)
    for key in ("a", "b"):
        store.put(key, lambda: blocks(b"1"))
    lease = client.get_blob_client("prod/a/a").acquire_lease()
    with pytest.raises(Permanent, match=r"DeleteIncomplete: 1 objects could not be deleted, first prod/a/a \(412\)"):
        store.delete(["a", "b"])
    assert [each.key for each in store.list("")] == ["a"]
    lease.release()
