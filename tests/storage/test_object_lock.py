"""Object Lock: what is locked stays, for everybody, until its date; where that cannot be, it is said before."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from tests.s3_server import S3Server, running_s3_server
from tests.storage.contract import MIB, blocks, read
from tests.storage.test_s3 import client_of

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.errors import Permanent
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore

numbers = itertools.count()
IN_TWO_DAYS = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One that keeps versions, as Object Lock asks for."""
    directory = tmp_path_factory.mktemp("locks")
    with running_s3_server(directory / "data", versions=directory / "versions") as server:
        yield server


def bucket_of(server: S3Server, *, locked: bool = True) -> str:
    name = f"locks-{next(numbers)}"
    client_of(server).create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    return name


def store_of(server: S3Server, bucket: str, mode: str = "COMPLIANCE") -> ObjectStore:
    spec = {
        "bucket": bucket,
        "path": "p",
        "endpoint": server.endpoint,
        "useSSL": False,
        "objectLock": {"mode": mode, "days": 2},
    }
    return open_store(LocationSpec.model_validate({"s3": spec}), credentials=server.credentials)


def versions(client: Any, bucket: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in client.list_object_versions(Bucket=bucket).get("Versions", ()):
        found.setdefault(each["Key"], []).append(each["VersionId"])
    return found


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_a_locked_object_outlives_whoever_deletes_or_replaces_it(server: S3Server, mode: str) -> None:
    bucket, client = bucket_of(server), client_of(server)
    store = store_of(server, bucket, mode)
    contents = {"small": b"1", "large": bytes(9 * MIB)}
    for key, content in contents.items():
        store.put(key, lambda content=content: blocks(content, MIB))  # type: ignore[misc]
    store.lock(contents, IN_TWO_DAYS)
    store.lock(contents, IN_TWO_DAYS)
    for key, content in contents.items():
        kept = client.get_object_retention(Bucket=bucket, Key=f"p/{key}")["Retention"]
        assert kept == {"Mode": mode, "RetainUntilDate": IN_TWO_DAYS}
        (version,) = versions(client, bucket)[f"p/{key}"]
        with pytest.raises(botocore.exceptions.ClientError, match=r"(?i)lock|denied"):
            client.delete_object(Bucket=bucket, Key=f"p/{key}", VersionId=version)
        client.put_object(Bucket=bucket, Key=f"p/{key}", Body=b"by an attacker")
        client.delete_object(Bucket=bucket, Key=f"p/{key}")
        assert version in versions(client, bucket)[f"p/{key}"]
        found = client.get_object(Bucket=bucket, Key=f"p/{key}", VersionId=version)["Body"].read()
        assert found == content


def test_a_longer_time_that_an_object_has_already_is_left(server: S3Server) -> None:
    bucket, client = bucket_of(server), client_of(server)
    store = store_of(server, bucket)
    store.put("key", lambda: blocks(b"1"))
    later = IN_TWO_DAYS + timedelta(days=5)
    store.lock(["key"], later)
    store.lock(["key"], IN_TWO_DAYS)
    assert client.get_object_retention(Bucket=bucket, Key="p/key")["Retention"]["RetainUntilDate"] == later
    assert read(store, "key") == b"1"


def test_a_probe_proves_the_lock_without_locking_anything(server: S3Server) -> None:
    bucket, client = bucket_of(server), client_of(server)
    store_of(server, bucket).lock((), IN_TWO_DAYS)
    assert versions(client, bucket) == {}


def test_a_bucket_without_it_is_refused_with_the_cure(server: S3Server) -> None:
    store = store_of(server, bucket_of(server, locked=False))
    with pytest.raises(Permanent, match=r"ObjectLockUnsupported: spec.s3.objectLock: bucket 'locks-.*enable it"):
        store.lock((), IN_TWO_DAYS)


@pytest.mark.parametrize("keys", [(), ("key",)], ids=["a probe", "a backup"])
def test_a_location_that_does_not_ask_for_it_locks_nothing(server: S3Server, keys: tuple[str, ...]) -> None:
    bucket, client = bucket_of(server), client_of(server)
    store = open_store(LocationSpec(s3=server.location(bucket)), credentials=server.credentials)
    for key in keys:
        store.put(key, lambda: blocks(b"1"))
    with pytest.raises(
        Permanent, match=r"ObjectLockUnsupported: spec\.s3\.objectLock says nothing of how objects are to"
    ):
        store.lock(keys, IN_TWO_DAYS)
    for key in keys:
        with pytest.raises(botocore.exceptions.ClientError):
            client.get_object_retention(Bucket=bucket, Key=key)


def test_other_kinds_of_store_say_that_they_cannot(tmp_path: Path) -> None:
    location = LocationSpec.model_validate({"filesystem": {"volume": {"persistentVolumeClaim": {"claimName": "c"}}}})
    store = open_store(location, credentials={}, filesystem_root=tmp_path)
    with pytest.raises(Permanent, match="ObjectLockUnsupported"):
        store.lock((), IN_TWO_DAYS)


def test_a_default_of_the_bucket_does_not_keep_us_from_writing(server: S3Server) -> None:
    bucket, client = bucket_of(server), client_of(server)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    store = store_of(server, bucket)
    store.put("small", lambda: blocks(b"1"), if_absent=True)
    store.put("large", lambda: blocks(bytes(9 * MIB), MIB), if_absent=True)
    assert {each.key for each in store.list("")} == {"small", "large"}
