"""Buckets in paths and by host: as Weaviate's own client names them, and as a store that refuses one wants it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3.util.connection
from tests.s3_server import S3Server, running_s3_server
from tests.storage.faults import Answer, Request
from tests.storage.faulty_line import Line, faulty_line
from tests.storage.modes import FORBIDDEN, refuses, said
from tests.storage.test_s3_modes import opened, probe, work

from weaviate_backup.api.location import S3Location
from weaviate_backup.errors import Permanent
from weaviate_backup.storage.s3_client import Addressing, first_addressing, may_name_by_host

DOMAIN = "store.test"


@pytest.fixture
def by_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[S3Server, Line]]:
    """A real store that takes buckets as hosts alone, with a line before it; every host below the domain is its."""
    connect = urllib3.util.connection.create_connection

    def resolved(address: tuple[str, int], *arguments: object, **options: object) -> object:
        host, port = address
        if host == DOMAIN or host.endswith(f".{DOMAIN}"):
            address = ("127.0.0.1", port)
        return connect(address, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(urllib3.util.connection, "create_connection", resolved)
    with running_s3_server(tmp_path / "data", domain=DOMAIN) as server, faulty_line(server.endpoint) as line:
        server.make_bucket("bucket")
        yield server, line


def names_by_path(request: Request) -> bool:
    return request.headers["host"].partition(":")[0] == DOMAIN


@pytest.mark.parametrize(
    "answer",
    [
        FORBIDDEN,
        said(403, "PathStyleDomainForbidden", "The bucket you are attempting to access must be addressed otherwise."),
        said(400, "InvalidRequest", "Virtual host domain is required while accessing a specific bucket."),
    ],
    ids=["OSS", "COS", "OBS"],
)
def test_a_store_that_takes_no_paths(by_host: tuple[S3Server, Line], answer: Answer) -> None:
    server, line = by_host
    refuses(names_by_path, answer)(line)
    endpoint = f"{DOMAIN}:{line.address.rpartition(':')[2]}"
    location = S3Location(bucket="bucket", endpoint=endpoint, use_ssl=False)
    store = opened(location, server)
    probe(store, location)
    work(store)
    assert line.used == 1, "asked once by path"


def test_a_location_that_wants_paths_gets_no_hosts(by_host: tuple[S3Server, Line]) -> None:
    server, line = by_host
    refuses(names_by_path, FORBIDDEN)(line)
    endpoint = f"{DOMAIN}:{line.address.rpartition(':')[2]}"
    location = S3Location(bucket="bucket", endpoint=endpoint, use_ssl=False, force_path_style=True)
    with pytest.raises(Permanent, match=r"EndpointWrong: .*SecondLevelDomainForbidden.* forcePathStyle false"):
        opened(location, server).check()


@pytest.mark.parametrize(
    ("given", "expected", "then_by_host"),
    [
        ({"endpoint": "oss-cn-hangzhou.aliyuncs.com"}, Addressing.HOST, False),
        ({"endpoint": "https://s3.eu-central-1.amazonaws.com"}, Addressing.HOST, False),
        ({"endpoint": "storage.googleapis.com:443"}, Addressing.HOST, False),
        ({"endpoint": "oss-cn-hangzhou.aliyuncs.com", "forcePathStyle": True}, Addressing.PATH, False),
        ({"endpoint": "oss-cn-hangzhou.aliyuncs.com", "bucket": "dotted.name"}, Addressing.PATH, False),
        ({"endpoint": "http://oss-cn-hangzhou.aliyuncs.com", "bucket": "dotted.name"}, Addressing.HOST, False),
        ({"endpoint": "https://bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com"}, Addressing.PATH, True),
        ({"endpoint": "aliyuncs.com.example.org"}, Addressing.PATH, True),
        ({"endpoint": "minio:9000"}, Addressing.PATH, True),
        ({"endpoint": "192.0.2.7:9000"}, Addressing.PATH, False),
        ({"endpoint": "[2001:db8::1]:9000"}, Addressing.PATH, False),
        ({"endpoint": "minio:9000", "forcePathStyle": True}, Addressing.PATH, False),
        ({}, Addressing.EITHER, False),
        ({"forcePathStyle": True}, Addressing.PATH, False),
    ],
)
def test_buckets_are_named_as_weaviates_own_client_names_them(
    given: dict[str, object], expected: Addressing, then_by_host: bool
) -> None:
    location = S3Location.model_validate({"bucket": "bucket", **given})
    assert first_addressing(location) is expected
    assert may_name_by_host(location, expected) is then_by_host
