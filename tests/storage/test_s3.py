"""The S3 store keeps the contract on a real server, leaves no unfinished uploads, and names every mistake."""

import base64
import itertools
import secrets
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest
from tests.ports import free_port
from tests.s3_server import S3Server
from tests.storage.contract import BucketContract, StoreContract, blocks

from weaviate_backup.api.location import LocationSpec, S3Location
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.s3 import PART_BYTES, S3Store

numbers = itertools.count()


@pytest.fixture
def server(s3_server: S3Server) -> S3Server:
    return s3_server


@pytest.fixture
def bucket(server: S3Server) -> str:
    name = f"bucket-{next(numbers)}"
    server.make_bucket(name)
    return name


@pytest.fixture
def store(server: S3Server, bucket: str) -> ObjectStore:
    return open_store(LocationSpec(s3=server.location(bucket, "prod/a")), credentials=server.credentials)


@pytest.fixture
def nowhere(server: S3Server) -> ObjectStore:
    return open_store(LocationSpec(s3=server.location("nowhere-at-all")), credentials=server.credentials)


def client_of(server: S3Server, credentials: Mapping[str, str] | None = None) -> Any:
    """Of who may do everything, or of those credentials."""
    found = credentials or server.credentials
    return boto3.client(
        "s3",
        endpoint_url=f"http://{server.endpoint}",
        region_name="us-east-1",
        aws_access_key_id=found["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
    )


def unfinished(client: Any, bucket: str) -> list[str]:
    """Keys of unfinished uploads."""
    return sorted(each["Key"] for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


class TestS3(StoreContract, BucketContract):
    def test_no_unfinished_upload_is_left(self, store: ObjectStore, server: S3Server, bucket: str) -> None:
        def broken() -> Iterator[bytes]:
            yield from [bytes(1 << 20)] * 30
            raise Permanent("SourceChanged", "the file shrank")

        with pytest.raises(Permanent):
            store.put("k", broken)
        assert unfinished(client_of(server), bucket) == []

    def test_what_dead_processes_left_is_aborted_below_a_prefix_only(
        self, store: ObjectStore, server: S3Server, bucket: str
    ) -> None:
        client = client_of(server)
        for key in ("prod/a/b1/n1/c", "prod/a/b1/n1/c", "prod/a/b1/n10/c", "other/b1/n1/c"):
            upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
            client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"1")
        assert store.abort_unfinished("b1/n1/") == 2
        assert store.abort_unfinished("b1/n1/") == 0
        assert unfinished(client, bucket) == ["other/b1/n1/c", "prod/a/b1/n10/c"]


def test_the_store_keeps_a_checksum_that_it_was_given_with_every_part(
    store: ObjectStore, server: S3Server, bucket: str
) -> None:
    """An upload that is begun without naming a checksum gets one of the store's choosing, or refuses parts with one."""
    parts = [secrets.token_bytes(size) for size in (PART_BYTES, PART_BYTES, 1000)]
    store.put("large", lambda: iter(parts))
    store.put("small", lambda: iter(parts[2:]))
    client = client_of(server)

    def kept(key: str) -> tuple[str, str]:
        answer = client.head_object(Bucket=bucket, Key=f"prod/a/{key}", ChecksumMode="ENABLED")
        return answer["ChecksumType"], answer["ChecksumCRC32"]

    of_parts = b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    assert kept("large") == ("COMPOSITE", base64_crc32(of_parts) + "-3")
    assert kept("small") == ("FULL_OBJECT", base64_crc32(parts[2]))


def base64_crc32(content: bytes) -> str:
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


def test_keys_lie_below_the_path(store: ObjectStore, server: S3Server, bucket: str) -> None:
    store.put("b1/x", lambda: blocks(b"1"))
    assert (server.directory / bucket / "prod/a/b1/x").read_bytes() == b"1"


def refusal(location: S3Location, credentials: dict[str, str]) -> BackupError:
    with pytest.raises(BackupError) as caught:
        S3Store(location, credentials=credentials).check()
    assert credentials.get("AWS_SECRET_ACCESS_KEY", "none") not in str(caught.value)
    return caught.value


def test_a_bucket_that_is_not_there_is_named(server: S3Server) -> None:
    found = refusal(server.location("no-such-bucket"), server.credentials)
    assert (type(found), found.reason) == (Permanent, "BucketNotFound")
    assert "spec.s3.bucket 'no-such-bucket'" in found.message


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_named(server: S3Server, bucket: str, wrong: str) -> None:
    found = refusal(server.location(bucket), {**server.credentials, wrong: "wrong-value"})
    assert (type(found), found.reason) == (Permanent, "InvalidCredentials")
    assert "wrong-value" not in str(found)


def test_an_endpoint_that_does_not_answer_is_named_soon() -> None:
    started = time.monotonic()
    location = S3Location(bucket="abc", endpoint=f"127.0.0.1:{free_port()}", use_ssl=False)
    found = refusal(location, {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "topsecret"})
    assert (type(found), found.reason) == (Transient, "EndpointUnreachable")
    assert time.monotonic() - started < 20
