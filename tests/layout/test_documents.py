"""Descriptors are the server's to the letter, manifests survive the trip, and findings name every defect."""

import base64
import io
import json
import tracemalloc
from datetime import UTC, datetime

import pytest
import zstandard

from weaviate_backup.errors import Permanent
from weaviate_backup.layout import descriptors, integrity, keys, manifests
from weaviate_backup.layout.chunk_writer import ChunkRecord, PartRecord
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.json_bounds import MIB, JsonBounds

AT = datetime(2026, 5, 1, 10, 0, 0, 123456, tzinfo=UTC)
STATE = b'{"indexID":"Article","virtual":[{"upper":18446744073709551615}]}'


def node_descriptor() -> descriptors.NodeDescriptor:
    return descriptors.NodeDescriptor(
        started_at=AT,
        completed_at=AT,
        id="b1",
        server_version="1.39.1",
        compression_type=CompressionType.ZSTD,
        classes=(
            descriptors.ClassDescriptor(
                name="Article",
                backup_id="b1",
                shards=(descriptors.ShardDescriptor(name="s1", node="weaviate-0"),),
                sharding_state=STATE,
                class_json=b"{}",
                aliases_included=True,
                chunks={"2": ("s1",), "10": ("s1",)},
            ),
        ),
    )


def test_node_descriptor_is_spelled_as_the_server_spells_it() -> None:
    written = json.loads(descriptors.encode(node_descriptor()))
    assert written["startedAt"] == "2026-05-01T10:00:00.123456Z"
    assert written["version"] == "2.1"
    assert written["rbacBackups"] is None
    assert written["compressionType"] == "zstd"
    assert "baseBackupId" not in written
    (collection,) = written["classes"]
    assert base64.b64decode(collection["shardingState"]) == STATE
    assert collection["aliases"] == "W10="
    assert collection["chunks"] == {"2": ["s1"], "10": ["s1"]}
    assert set(collection) >= {"name", "backupId", "shards", "schema", "aliasesIncluded", "preCompressionSizeBytes"}
    assert collection["shards"] == [{"name": "s1", "node": "weaviate-0", "files": []}]


def test_node_descriptor_comes_back() -> None:
    written = descriptors.encode(node_descriptor())
    read = descriptors.parse_node_descriptor(written, key="k")
    assert read == node_descriptor()
    assert read.classes[0].chunk_numbers == (2, 10)


def test_a_servers_descriptor_is_read_with_nulls_nanoseconds_and_unknown_keys() -> None:
    written = (
        b'{"startedAt":"2024-05-01T10:00:00.123456789Z","completedAt":"0001-01-01T00:00:00Z","id":"b1","status":"SUCCESS",'
        b'"version":"2.1","serverVersion":"1.37.14","error":"","futureKey":{"a":1},"classes":[{"name":"Article",'
        b'"shards":null,"shardingState":"e30=","schema":"e30=","aliases":null,"chunks":null}]}'
    )
    read = descriptors.parse_node_descriptor(written, key="b1/n/backup.json")
    assert read.compression_type is CompressionType.GZIP
    assert read.completed_at == descriptors.NEVER
    assert (read.classes[0].shards, read.classes[0].chunk_numbers) == ((), ())


def test_what_is_no_descriptor_is_refused_by_name() -> None:
    for content in (b"", b"[]", b'{"id": 5}', b'{"startedAt":"x","id":"b","serverVersion":"1"}'):
        with pytest.raises(Permanent, match=r"HostileBackup: b1/n/backup\.json"):
            descriptors.parse_node_descriptor(content, key="b1/n/backup.json")


def test_backup_config_names_its_collections() -> None:
    config = descriptors.BackupConfig(
        started_at=AT,
        id="b1",
        server_version="1.39.1",
        leader="n0",
        nodes={"n0": descriptors.NodeSummary(classes=("B", "A")), "n1": descriptors.NodeSummary(classes=("A",))},
    )
    written = json.loads(descriptors.encode(config))
    assert written["completedAt"] == "0001-01-01T00:00:00Z"
    assert written["node_mapping"] is None
    assert written["baseBackupId"] == ""
    assert written["nodes"]["n0"]["classes"] == ["B", "A"]
    assert descriptors.parse_backup_config(descriptors.encode(config), key="k").collections == ("A", "B")


@pytest.mark.parametrize(
    "time", ["2026-05-01T10:00:00", "2026-05-01", "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00", ""]
)
@pytest.mark.parametrize("field", ["startedAt", "completedAt"])
def test_times_that_cannot_be_compared_are_refused(field: str, time: object) -> None:
    """Two backups of a chain are told apart by theirs."""
    config = {"id": "b1", "startedAt": "2026-05-01T10:00:00Z", "serverVersion": "1.39.1", field: time}
    with pytest.raises(Permanent, match=f"HostileBackup: k is no descriptor of Weaviate: {field}"):
        descriptors.parse_backup_config(json.dumps(config).encode(), key="k")


@pytest.mark.parametrize(
    ("time", "written"),
    [
        ("2026-05-01T12:00:00.123456789+02:00", "2026-05-01T10:00:00.123456Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_times_are_written_in_utc(time: str, written: str) -> None:
    content = json.dumps({"id": "b1", "startedAt": time, "serverVersion": "1.39.1"}).encode()
    config = descriptors.parse_backup_config(content, key="k")
    assert json.loads(descriptors.encode(config))["startedAt"] == written


@pytest.mark.parametrize("name", ["\0", "\x1b[2J/", "../x", "a/" * 5000])
def test_a_name_in_a_refusal_is_short_and_steers_no_terminal(name: str) -> None:
    config = {"id": "b1", "startedAt": "2026-05-01T10:00:00Z", "serverVersion": "1.39.1", "nodes": {name: {}}}
    with pytest.raises(Permanent, match="HostileBackup: k is no descriptor of Weaviate: nodes") as refused:
        descriptors.parse_backup_config(json.dumps(config).encode(), key="k")
    assert (refused.value.message.isprintable(), len(refused.value.message) < 400) == (True, True)


def node_manifest() -> manifests.NodeManifest:
    record = ChunkRecord(1, 100, "c" * 64, (PartRecord("article/s1/version", 0, 7, "d" * 64),))
    return manifests.NodeManifest(
        header=manifests.NodeHeader(
            operation_uid="u",
            tool_version="0",
            backup_id="b1",
            node="n0",
            server_version="1.39.1",
            compression_type=CompressionType.ZSTD,
            collections=("Article",),
            descriptor=manifests.StoredDocument(size_bytes=50, sha256="e" * 64),
        ),
        shards=(
            manifests.ShardRecord(
                collection="Article", shard="s1", driver="d", started_at=AT, ended_at=AT, halt_seconds=0.1
            ),
        ),
        chunks=(manifests.ChunkLine.of("Article", record),),
    )


def test_node_manifest_comes_back() -> None:
    manifest = node_manifest()
    written = manifests.encode_node_manifest(manifest)
    assert written == manifests.encode_node_manifest(manifest)
    assert manifests.decode_node_manifest(written, key="k") == manifest
    assert (manifest.stored_bytes, manifest.source_bytes) == (150, 7)
    assert manifest.chunks[0].parts == (PartRecord("article/s1/version", 0, 7, "d" * 64),)


def test_a_manifest_from_the_future_and_one_that_is_none_are_refused() -> None:
    newer = node_manifest()
    header = newer.header.model_copy(update={"format_version": 2})
    written = manifests.encode_node_manifest(manifests.NodeManifest(header, newer.shards, newer.chunks))
    with pytest.raises(Permanent, match="FormatTooNew"):
        manifests.decode_node_manifest(written, key="k")
    for content in (b"", b"nonsense"):
        with pytest.raises(Permanent, match="HostileBackup: k"):
            manifests.decode_node_manifest(content, key="k")


def packed(*blocks: bytes, window_log: int = 20) -> bytes:
    """As one frame of zstd."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return b"".join((*(compressor.compress(block) for block in blocks), compressor.flush()))


def test_a_line_without_end_is_refused_in_the_memory_of_one() -> None:
    content = packed(*[b"a" * MIB] * 64)
    tracemalloc.start()
    with pytest.raises(Permanent, match=r"DocumentTooLarge: a line of m is larger than memory allows: 2097153 bytes"):
        list(manifests.read_node_manifest(io.BytesIO(content), key="m", line_bounds=JsonBounds(2 * MIB, 1000)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8 * MIB


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"kind":"chunk","files":[' + b"[]," * 2000 + b"[]]}", "DocumentTooLarge"),
        (b"[" * 1500, "DocumentTooLarge"),
        (b"[" * 500 + b"]" * 500, "HostileBackup"),
        (b'{"kind":"node","node":"\xff"}', "HostileBackup"),
        (b'{"kind":"node","node":"\\ud800"}', "HostileBackup"),
    ],
)
def test_a_line_of_too_much_is_refused(line: bytes, reason: str) -> None:
    bounds = JsonBounds(2 * MIB, 1000)
    with pytest.raises(Permanent) as refused:
        list(manifests.read_node_manifest(io.BytesIO(packed(line)), key="m", line_bounds=bounds))
    assert refused.value.reason == reason


def test_a_manifest_asks_for_no_more_window_than_the_limit() -> None:
    written = zstandard.ZstdDecompressor().stream_reader(manifests.encode_node_manifest(node_manifest())).read()
    assert manifests.decode_node_manifest(packed(written, window_log=25), key="k") == node_manifest()
    with pytest.raises(Permanent, match="HostileBackup: k is no manifest"):
        manifests.decode_node_manifest(packed(written, window_log=26), key="k")


def test_a_format_that_nobody_will_ever_write_is_none() -> None:
    written = b'{"kind":"node","format_version":' + b"1" * 4000 + b"}"
    with pytest.raises(Permanent, match="HostileBackup: k is no manifest") as refused:
        manifests.decode_node_manifest(packed(written), key="k")
    assert len(refused.value.message) < 300


def test_listing_findings_name_missing_wrong_and_foreign_objects() -> None:
    expected = integrity.expected_objects(node_manifest(), manifest_size_bytes=9)
    chunk = keys.chunk("b1", "n0", "Article", 1)
    assert expected == {chunk: 100, "b1/n0/backup.json": 50, "b1/n0/manifest.json.zst": 9}
    assert integrity.compare_listing(expected, expected) == ()
    listed = {chunk: 99, "b1/n0/backup.json": 50, "b1/n0/x": 1}
    assert [(each.reason, each.subject) for each in integrity.compare_listing(expected, listed)] == [
        ("ObjectSizeWrong", chunk),
        ("ObjectMissing", "b1/n0/manifest.json.zst"),
        ("ObjectUnexpected", "b1/n0/x"),
    ]


def test_shard_findings_follow_the_sharding_state() -> None:
    states = {
        "Article": {
            "physical": {
                "s1": {"belongsToNodes": ["n0", "n1"]},
                "hot": {"belongsToNodes": ["n0"], "status": "HOT"},
                "cold": {"belongsToNodes": ["n9"], "status": "COLD"},
                "frozen": {"belongsToNodes": ["n0"], "status": "FROZEN"},
            }
        }
    }
    held = {"n0": {"Article": ["s1"]}, "n1": {"Article": ["s1", "more"]}}
    findings = integrity.compare_shards(states, held)
    assert [(each.reason, each.subject) for each in findings] == [
        ("NodeMissing", "Article/cold"),
        ("ShardMissing", "Article/hot"),
    ]
    assert integrity.summarize(findings, limit=1).endswith("; and 1 more")
