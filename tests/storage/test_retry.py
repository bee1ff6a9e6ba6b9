"""A store that stumbles does not fail an operation, and one that refuses is not asked again: on a real server behind a
line that fails on request.
"""

import itertools
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import boto3
import pytest
from tests.s3_server import S3Server
from tests.storage.contract import MIB, blocks, read
from tests.storage.dialects import S3
from tests.storage.faults import HangUp, Moment, Request
from tests.storage.faulty_line import Fits, Line, faulty_line

from weaviate_backup.api.location import LocationSpec, S3Location
from weaviate_backup.errors import ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.patience import Patience
from weaviate_backup.storage.retry import Retrying
from weaviate_backup.storage.s3 import S3Store

numbers = itertools.count()
SLOW_DOWN = S3.refuse(503, "SlowDown", headers=(("Retry-After", "0"),))
BUSY = S3.refuse(503, "ServiceUnavailable")


@pytest.fixture
def server(s3_server: S3Server) -> S3Server:
    return s3_server


@pytest.fixture
def line(server: S3Server) -> Iterator[Line]:
    with faulty_line(server.endpoint) as line:
        yield line


@pytest.fixture
def location(server: S3Server, line: Line) -> S3Location:
    bucket = f"retry-{next(numbers)}"
    server.make_bucket(bucket)
    return S3Location(bucket=bucket, endpoint=line.address, use_ssl=False)


@pytest.fixture
def store(server: S3Server, location: S3Location) -> ObjectStore:
    return open_store(LocationSpec(s3=location), credentials=server.credentials)


def puts(request: Request) -> bool:
    return request.method == "PUT"


def gets(request: Request) -> bool:
    return request.method == "GET"


def conditions(request: Request) -> bool:
    return "if-none-match" in request.headers


def unfinished(server: S3Server, bucket: str) -> int:
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{server.endpoint}",
        region_name="us-east-1",
        aws_access_key_id=server.credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server.credentials["AWS_SECRET_ACCESS_KEY"],
    )
    return len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


def test_a_put_starts_again_from_zero(store: ObjectStore, line: Line) -> None:
    runs = []

    def make() -> Iterator[bytes]:
        runs.append(1)
        yield from blocks(b"hello")

    line.fail(puts, SLOW_DOWN, times=2)
    store.put("k", make, if_absent=True)
    assert (len(runs), read(store, "k")) == (3, b"hello")


def test_a_single_part_is_sent_again_without_the_others(store: ObjectStore, line: Line) -> None:
    runs = []

    def make() -> Iterator[bytes]:
        runs.append(1)
        yield from (bytes([number]) * MIB for number in range(20))

    line.fail(lambda request: request.method == "PUT" and "partNumber=2" in request.path, BUSY, times=2)
    store.put("k", make, if_absent=True)
    assert len(runs) == 1
    assert read(store, "k") == b"".join(bytes([number]) * MIB for number in range(20))


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_body_that_breaks_is_read_on_and_never_cut_short(
    server: S3Server, location: S3Location, line: Line, attempts: int
) -> None:
    bare = S3Store(location, credentials=server.credentials)
    content = bytes(range(256)) * 12_000
    bare.put("k", lambda: iter((content,)))
    line.fail(gets, HangUp(Moment.RECEIVING, 1_500_000, reset=False))
    if attempts == 1:
        with pytest.raises(Transient):
            read(Retrying(bare, patience=Patience(attempts=1)), "k")
    else:
        assert read(Retrying(bare, patience=Patience(attempts=3)), "k") == content


@contextmanager
def a_silent_port() -> Iterator[str]:
    """Takes connections, as the kernel does for any listener, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def a_black_hole() -> Iterator[str]:
    """A listener whose queue is full: packets to it are dropped, as behind a NetworkPolicy."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as held:
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_store_out_of_reach_is_named_soon_by_a_check() -> None:
    def checked(address: str) -> tuple[str, float]:
        location = LocationSpec(s3=S3Location(bucket="abc", endpoint=address, use_ssl=False))
        store = open_store(location, credentials={"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "topsecret"})
        started = time.monotonic()
        with pytest.raises(Transient) as caught:
            store.check()
        assert f"spec.s3.endpoint '{address}'" in caught.value.message
        assert "topsecret" not in str(caught.value)
        return caught.value.reason, time.monotonic() - started

    with a_silent_port() as silent, a_black_hole() as hole, ThreadPoolExecutor(2) as pool:
        found = dict(zip(("silent", "hole"), pool.map(checked, (silent, hole)), strict=True))
    assert {name: reason for name, (reason, _) in found.items()} == {
        "silent": "StoreUnavailable",
        "hole": "EndpointUnreachable",
    }
    assert max(seconds for _, seconds in found.values()) < 20


def test_a_check_outlasts_a_short_stumble(store: ObjectStore, line: Line) -> None:
    line.fail(gets, BUSY, times=2)
    store.check()
    assert len(line.requests) == 3


def test_what_is_permanent_is_asked_once(store: ObjectStore, line: Line) -> None:
    line.fail(puts, S3.refuse(403, "AccessDenied"), times=2)
    with pytest.raises(Permanent, match=r"AccessDenied: spec\.s3\.bucket 'retry-\d+', k"):
        store.put("k", lambda: blocks(b"1"))
    assert [each.method for each in line.requests] == ["PUT"]


def test_a_store_that_never_recovers_is_named(server: S3Server, location: S3Location, line: Line) -> None:
    line.fail(puts, SLOW_DOWN, times=3)
    with pytest.raises(Transient, match="Throttled") as caught:
        bare = S3Store(location, credentials=server.credentials)
        Retrying(bare, patience=Patience(attempts=3)).put("k", lambda: blocks(b"1"))
    assert caught.value.retry_after_seconds == 0
    assert len(line.requests) == 3


def test_a_conflict_of_writers_is_asked_again(store: ObjectStore, line: Line) -> None:
    line.fail(conditions, S3.refuse(409, "ConditionalRequestConflict"))
    store.put("k", lambda: blocks(b"1"), if_absent=True)
    assert read(store, "k") == b"1"


@pytest.mark.parametrize("size_bytes", [5, 20 * MIB])
def test_write_once_on_a_store_without_conditions(
    store: ObjectStore, line: Line, caplog: pytest.LogCaptureFixture, size_bytes: int
) -> None:
    line.fail(conditions, S3.refuse(501, "NotImplemented"), times=10)
    for key in ("k", "l"):
        store.put(key, lambda: blocks(bytes(size_bytes), MIB), if_absent=True)
        with pytest.raises(ObjectExists):
            store.put(key, lambda: blocks(b"2"), if_absent=True)
        assert read(store, key) == bytes(size_bytes)
    assert caplog.text.count("does not take If-None-Match") == 1


@pytest.mark.parametrize(
    "fits",
    [
        lambda request: "partNumber=2" in request.path,
        lambda request: request.method == "POST" and "uploadId" in request.path,
    ],
    ids=["a part", "the completion"],
)
def test_a_failed_multipart_upload_leaves_nothing(
    server: S3Server, location: S3Location, line: Line, fits: Fits
) -> None:
    line.fail(fits, S3.refuse(403, "AccessDenied"))
    line.fail(lambda request: request.method == "DELETE", BUSY)
    bare = S3Store(location, credentials=server.credentials)
    with pytest.raises(Permanent, match="AccessDenied"):
        bare.put("k", lambda: iter([bytes(MIB)] * 20))
    with pytest.raises(ObjectNotFound):
        bare.stat("k")
    assert unfinished(server, location.bucket) == 0


@pytest.mark.parametrize("given", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_a_pair_of_credentials_is_named(location: S3Location, given: str) -> None:
    with pytest.raises(Permanent, match=r"CredentialsMissing: .*spec\.s3\.credentialsSecretRef has no AWS_") as caught:
        S3Store(location, credentials={given: "topsecret"})
    assert given not in caught.value.message
    assert "topsecret" not in str(caught.value)


def test_an_endpoint_that_is_none_is_named() -> None:
    with pytest.raises(Permanent, match=r"LocationInvalid: spec\.s3"):
        S3Store(S3Location(bucket="abc", endpoint="no host:x"), credentials={})
