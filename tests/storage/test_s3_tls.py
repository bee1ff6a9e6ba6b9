"""S3 over TLS: the location's certificate authority is what is trusted, and a wrong one is named, not tried again."""

import gc
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.s3_server import S3Server, running_s3_server
from tests.storage.authority import Authority
from tests.storage.contract import MIB, read

from weaviate_backup.api.location import LocationSpec, S3Location
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.s3 import S3Store

BUCKET = "bucket-tls"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("stores")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[S3Server]:
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = authority.issue(directory)
    with running_s3_server(directory / "data", certificate=certificate, key=key) as server:
        server.make_bucket(BUCKET)
        yield server


def opened(server: S3Server, ca_pem: bytes | None) -> ObjectStore:
    location = S3Location(bucket=BUCKET, endpoint=server.endpoint)
    return open_store(LocationSpec(s3=location), credentials=server.credentials, ca_pem=ca_pem)


def test_objects_of_one_and_of_many_parts_pass(server: S3Server, authority: Authority) -> None:
    store = opened(server, authority.pem)
    store.check()
    store.put("small", lambda: iter((b"hello",)), if_absent=True)
    store.put("large", lambda: iter([bytes([number]) * MIB for number in range(20)]), if_absent=True)
    assert read(store, "small") == b"hello"
    assert read(store, "large", start=7 * MIB - 1, length=2) == b"\6\7"
    assert store.stat("large").size_bytes == 20 * MIB
    store.delete(["small", "large"])
    assert list(store.list("")) == []


@pytest.mark.parametrize("ca_pem", [None, Authority("another").pem], ids=["none", "another"])
def test_a_certificate_that_is_not_trusted_is_named_at_once(server: S3Server, ca_pem: bytes | None) -> None:
    started = time.monotonic()
    with pytest.raises(Permanent, match=r"CertificateRefused: spec\.s3\.endpoint .*set spec\.s3\.caSecretRef"):
        opened(server, ca_pem).check()
    assert time.monotonic() - started < 5


def test_plain_http_to_a_tls_port_names_use_ssl(server: S3Server) -> None:
    location = S3Location(bucket=BUCKET, endpoint=server.endpoint, use_ssl=False)
    with pytest.raises(Transient, match=r"StoreUnavailable: spec\.s3\.endpoint .*useSSL"):
        S3Store(location, credentials=server.credentials).check()


def test_the_file_of_the_authority_goes_with_the_store(
    server: S3Server, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store: ObjectStore | None = opened(server, authority.pem)
    assert store is not None
    store.check()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [authority.pem]
    store = None
    gc.collect()
    assert list(tmp_path.iterdir()) == []
