"""What an S3 location asks for goes with the requests that need it: tags and metadata, and a customer's own key."""

import base64
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.s3_server import S3Server
from tests.storage.authority import Authority
from tests.storage.contract import MIB, blocks, read
from tests.storage.faults import Request
from tests.storage.faulty_line import Line, faulty_line
from tests.storage.test_s3 import client_of

from weaviate_backup.api.location import CUSTOMER_KEY, LocationSpec, S3Location
from weaviate_backup.core.credential_reach import TrustedHosts
from weaviate_backup.errors import Permanent
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.s3 import S3Store

numbers = itertools.count()
KEY = bytes(range(32))
REFERENCE = {"customerKeySecretRef": {"name": "keys", "key": CUSTOMER_KEY}}
OF_THE_KEY = "x-amz-server-side-encryption-customer-"


@pytest.fixture
def line(s3_server: S3Server) -> Iterator[Line]:
    with faulty_line(s3_server.endpoint) as line:
        yield line


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    name = f"options-{next(numbers)}"
    s3_server.make_bucket(name)
    return name


def location(line: Line, bucket: str, *, scheme: str = "http", **changes: Any) -> LocationSpec:
    spec = {"bucket": bucket, "endpoint": f"{scheme}://{line.address}", "forcePathStyle": True, **changes}
    return LocationSpec.model_validate({"s3": spec})


def test_tags_and_metadata_lie_with_every_object(s3_server: S3Server, line: Line, bucket: str) -> None:
    tags, metadata = {"team": "search/find = all", "cost centre": "4711"}, {"purpose": "backup"}
    spec = location(line, bucket, path="p", tags=tags, metadata=metadata, storageClass="STANDARD")
    store = open_store(spec, credentials=s3_server.credentials)
    store.put("small", lambda: blocks(b"1"))
    store.put("large", lambda: blocks(bytes(9 * MIB), MIB))
    client = client_of(s3_server)
    for key in ("p/small", "p/large"):
        found = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        assert {each["Key"]: each["Value"] for each in found} == tags
        assert client.head_object(Bucket=bucket, Key=key)["Metadata"] == metadata
    assert {request.headers.get("x-amz-storage-class") for request in begun(line)} == {"STANDARD"}


def begun(line: Line) -> list[Request]:
    """Requests that begin an object."""
    return [
        each
        for each in line.requests
        if (each.method == "POST" and each.path.endswith("?uploads")) or (each.method == "PUT" and "?" not in each.path)
    ]


def test_a_customers_key_goes_with_everything_that_touches_content(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    authority = Authority("stores")
    with faulty_line(s3_server.endpoint, tls=authority.server_context(tmp_path)) as line:
        spec = location(line, bucket, scheme="https", serverSideEncryption=REFERENCE)
        credentials = {**s3_server.credentials, CUSTOMER_KEY: base64.b64encode(KEY).decode()}
        trusted = TrustedHosts.parse("127.0.0.1")
        store = open_store(spec, credentials=credentials, ca_pem=authority.pem, trusted=trusted)
        assert_key_goes_along(line, store)


def assert_key_goes_along(line: Line, store: ObjectStore) -> None:
    store.put("small", lambda: blocks(b"1"), if_absent=True)
    store.put("large", lambda: blocks(bytes(9 * MIB), MIB), if_absent=True)
    assert read(store, "large", start=9 * MIB - 1) == bytes(1)
    assert store.stat("small").size_bytes == 1
    expected = {
        f"{OF_THE_KEY}algorithm": "AES256",
        f"{OF_THE_KEY}key": base64.b64encode(KEY).decode(),
        f"{OF_THE_KEY}key-md5": base64.b64encode(hashlib.md5(KEY, usedforsecurity=False).digest()).decode(),
    }
    touching = [request for request in line.requests if "/small" in request.path or "/large" in request.path]
    assert {request.method for request in touching} == {"PUT", "POST", "GET", "HEAD"}
    for request in touching:
        assert {name: value for name, value in request.headers.items() if name.startswith(OF_THE_KEY)} == expected
        assert "x-amz-server-side-encryption" not in request.headers


@pytest.mark.parametrize(
    ("given", "reason", "said"),
    [
        (None, "CredentialsMissing", f"has no {CUSTOMER_KEY}"),
        ("not base64!", "CredentialsInvalid", "is no base64"),
        (base64.b64encode(KEY[:-1]).decode(), "CredentialsInvalid", "holds 31 bytes; it must hold 32"),
    ],
)
def test_a_customers_key_that_is_none_is_named(given: str | None, reason: str, said: str) -> None:
    spec = S3Location.model_validate({"bucket": "abc", "serverSideEncryption": REFERENCE})
    with pytest.raises(Permanent, match=said) as caught:
        S3Store(spec, credentials={} if given is None else {CUSTOMER_KEY: given})
    assert caught.value.reason == reason
    assert "spec.s3.serverSideEncryption.customerKeySecretRef" in caught.value.message
    assert given is None or given not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "secure", "host"),
    [
        ({"endpoint": "minio:9000"}, True, "minio:9000"),
        ({"endpoint": "minio:9000", "useSSL": False}, False, "minio:9000"),
        ({"endpoint": "http://minio:9000/"}, False, "minio:9000"),
        ({"endpoint": "https://minio"}, True, "minio"),
        ({"endpoint": "https://[::1]:9000", "useSSL": True}, True, "[::1]:9000"),
        ({}, True, None),
    ],
)
def test_the_scheme_is_the_endpoints_own_or_what_use_ssl_says(given: Any, secure: bool, host: str | None) -> None:
    spec = S3Location.model_validate({"bucket": "abc", **given})
    assert (spec.secure, spec.host) == (secure, host)
