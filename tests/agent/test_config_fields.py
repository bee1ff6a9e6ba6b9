"""What the fields of a backup's `config` come to: the word in a descriptor, the place in a store."""

from datetime import UTC, datetime

import pytest

from weaviate_backup.agent.access import Access
from weaviate_backup.agent.describing import describe_node
from weaviate_backup.api.config import CompressionLevel
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.controller.location_gate import at_path

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("DefaultCompression", "gzip"),
        ("BestSpeed", "gzip"),
        ("BestCompression", "gzip"),
        ("ZstdBestSpeed", "zstd"),
        ("ZstdDefaultCompression", "zstd"),
        ("ZstdBestCompression", "zstd"),
        ("NoCompression", "none"),
    ],
)
def test_every_level_writes_its_type(level: str, written: str) -> None:
    descriptor = describe_node(
        backup_id="b",
        started_at=NOW,
        completed_at=NOW,
        server_version="1.39.1",
        level=CompressionLevel(level),
        bytes_total=0,
        access=Access(),
    )
    assert descriptor.compression_type == written
    document = descriptor.model_dump(mode="json", by_alias=True)
    assert document["compressionType"] == written
    assert (document["rbacBackups"], document["userBackups"]) == (None, None), "absent is null, as a server writes it"


def test_there_is_no_other_level() -> None:
    assert len(CompressionLevel) == 7


@pytest.mark.parametrize(
    ("spec", "path", "prefix"),
    [
        ({"s3": {"bucket": "bkt", "path": "all/backups"}}, None, "all/backups"),
        ({"s3": {"bucket": "bkt", "path": "all/backups"}}, "other", "other"),
        ({"s3": {"bucket": "bkt"}}, "other/place", "other/place"),
        ({"filesystem": {"path": "mine", "volume": {"nfs": {"server": "nas", "path": "/"}}}}, "other", "other"),
        ({"gcs": {"bucket": "bkt", "path": "mine"}}, "other", "other"),
        ({"azure": {"container": "con", "path": "mine"}}, "other", "other"),
    ],
)
def test_a_path_of_the_operation_takes_the_place_of_the_locations(
    spec: dict[str, object], path: str | None, prefix: str
) -> None:
    located = at_path(LocationSpec.model_validate(spec), path)
    kind = located.s3 or located.filesystem or located.gcs or located.azure
    assert kind is not None
    assert kind.path == prefix
