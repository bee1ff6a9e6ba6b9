"""Descriptors are the server's to the letter, manifests survive the trip, and findings name every defect."""

import base64
import hashlib
import io
import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.whole_manifest import NodeManifest, decode_node_manifest, encode_node_manifest

from weaviate_backup.errors import Permanent
from weaviate_backup.layout import descriptors, integrity, keys, manifests
from weaviate_backup.layout.chunk_writer import ChunkRecord, PartRecord
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.json_bounds import MIB, JsonBounds
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.stored.node_manifest import ManifestReader

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


def node_manifest() -> NodeManifest:
    record = ChunkRecord(1, 100, "c" * 64, (PartRecord("article/s1/version", 0, 7, "d" * 64),))
    return NodeManifest(
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
    written = encode_node_manifest(manifest)
    assert written == encode_node_manifest(manifest)
    assert decode_node_manifest(written, key="k") == manifest
    assert (manifest.stored_bytes, manifest.source_bytes) == (150, 7)
    assert manifest.chunks[0].parts == (PartRecord("article/s1/version", 0, 7, "d" * 64),)


def test_a_manifest_from_the_future_and_one_that_is_none_are_refused() -> None:
    newer = node_manifest()
    header = newer.header.model_copy(update={"format_version": 2})
    written = encode_node_manifest(NodeManifest(header, newer.shards, newer.chunks))
    with pytest.raises(Permanent, match="FormatTooNew"):
        decode_node_manifest(written, key="k")
    for content in (b"", b"nonsense"):
        with pytest.raises(Permanent, match="HostileBackup: k"):
            decode_node_manifest(content, key="k")


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
    written = zstandard.ZstdDecompressor().stream_reader(encode_node_manifest(node_manifest())).read()
    assert decode_node_manifest(packed(written, window_log=25), key="k") == node_manifest()
    with pytest.raises(Permanent, match="HostileBackup: k is no manifest"):
        decode_node_manifest(packed(written, window_log=26), key="k")


def test_a_format_that_nobody_will_ever_write_is_none() -> None:
    written = b'{"kind":"node","format_version":' + b"1" * 4000 + b"}"
    with pytest.raises(Permanent, match="HostileBackup: k is no manifest") as refused:
        decode_node_manifest(packed(written), key="k")
    assert len(refused.value.message) < 300


def lines_of(*lines: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(b"\n".join(lines))


HEADER, SHARD, CHUNK = (
    zstandard.ZstdDecompressor().decompress(encode_node_manifest(node_manifest()), max_output_size=1 << 20).splitlines()
)


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (lines_of(), "HostileBackup", "empty manifest"),
        (lines_of(SHARD, HEADER), "HostileBackup", "its header is not its first line"),
        (lines_of(HEADER, HEADER), "HostileBackup", "its header is not its first line"),
        (lines_of(HEADER, b'{"kind": "other"}'), "HostileBackup", "k is no manifest"),
        (lines_of(HEADER, b"[" * 200), "HostileBackup", "k is no manifest"),
        (lines_of(HEADER, SHARD + b" " * 900), "DocumentTooLarge", "a line of k is larger than memory allows"),
        (lines_of(HEADER)[:-4], "HostileBackup", "k is"),
    ],
)
def test_a_manifest_is_refused_at_the_line_that_is_wrong(content: bytes, reason: str, said: str) -> None:
    with pytest.raises(Permanent) as refused:
        list(manifests.read_node_manifest(io.BytesIO(content), key="k", line_bounds=JsonBounds(900, 1000)))
    assert refused.value.reason == reason
    assert said in refused.value.message


def test_a_manifest_of_the_backup_describes_its_own_marker_only() -> None:
    config = descriptors.BackupConfig(
        started_at=AT,
        id="b1",
        server_version="1.39.1",
        leader="n0",
        nodes={"n0": descriptors.NodeSummary(classes=("A",))},
    )
    marker = descriptors.encode(config)
    manifest = manifests.BackupManifest(
        operation_uid="u",
        tool_version="0",
        backup_id="b1",
        server_version="1.39.1",
        leader="n0",
        started_at=AT,
        completed_at=AT,
        nodes={"n0": manifests.NodeEntry(manifest=manifests.StoredDocument.of(b"m"), objects=1, stored_bytes=1,
                                         source_bytes=1)},
        collections=("A",),
        marker=manifests.StoredDocument.of(marker),
        objects=1,
        stored_bytes=1,
        source_bytes=1,
    )  # fmt: skip
    assert manifests.decode_backup_manifest(manifests.encode_backup_manifest(manifest), key="k") == manifest
    assert manifest.describes(marker, config)
    assert not manifest.describes(marker + b" ", config)
    older = manifest.model_copy(update={"marker": None})
    assert older.describes(b"", config)
    others: list[dict[str, Any]] = [{"id": "b2"}, {"leader": "n1"}, {"server_version": "1.39.2"}, {"nodes": {}}]
    for change in others:
        assert not older.describes(b"", config.model_copy(update=change))
    newer = manifest.model_copy(update={"format_version": manifests.FORMAT_VERSION + 1})
    with pytest.raises(Permanent, match="FormatTooNew: k has format 2"):
        manifests.decode_backup_manifest(manifests.encode_backup_manifest(newer), key="k")
    with pytest.raises(Permanent, match="HostileBackup: k is no manifest"):
        manifests.decode_backup_manifest(b"{}", key="k")


def test_names_of_objects_are_the_servers() -> None:
    assert keys.backup_config("b") == "b/backup_config.json"
    assert keys.restore_config("b") == "b/restore_config.json"
    assert keys.node_descriptor("b", "n") == "b/n/backup.json"
    assert keys.chunk("b", "n", "C", 1) == "b/n/C/chunk-1"


def test_what_is_ours_no_server_writes() -> None:
    ours = [keys.manifest("b"), keys.manifest_signature("b"), keys.node_manifest("b", "n"), keys.schema("b", "n")]
    assert ours == ["b/manifest.json", "b/manifest.json.sig", "b/n/manifest.json.zst", "b/n/schema.json.zst"]
    assert all(map(keys.is_ours, ours))
    theirs = [keys.backup_config("b"), keys.restore_config("b"), keys.node_descriptor("b", "n")]
    assert not any(map(keys.is_ours, [*theirs, "b/n/manifest.json/chunk-1", "b/n/C/manifest.json"]))


def test_an_absent_size_is_nothing() -> None:
    """A later sum of them is shown to people."""
    bare = b'{"startedAt":"2024-05-01T10:00:00Z","id":"b1","serverVersion":"1.37.14","classes":[{"name":"A",'
    bare += b'"shardingState":"e30=","schema":"e30="}]}'
    node = descriptors.parse_node_descriptor(bare, key="k")
    assert (node.pre_compression_size_bytes, node.classes[0].pre_compression_size_bytes) == (0, 0)
    assert node.classes[0].aliases == b"[]" and not node.classes[0].aliases_included
    assert (node.status, node.version, node.error, node.base_backup_id) == ("SUCCESS", "2.1", "", "")
    assert node.collection("A") is node.classes[0] and node.collection("B") is None
    config = descriptors.parse_backup_config(bare, key="k")
    assert (config.pre_compression_size_bytes, config.leader, config.nodes, config.node_mapping) == (0, "", {}, None)
    summary = descriptors.NodeSummary()
    assert (summary.classes, summary.status, summary.pre_compression_size_bytes) == ((), "SUCCESS", 0)


def test_an_incremental_descriptor_names_what_lies_elsewhere() -> None:
    written = (
        b'{"startedAt":"2024-05-01T10:00:00Z","id":"b2","serverVersion":"1.39.1","baseBackupId":"b1","classes":[{"name":'
        b'"A","shardingState":"e30=","schema":"e30=","shards":[{"name":"s","node":"n","bigFilesChunk":{"a/s/x":{'
        b'"chunkKeys":["A/chunk-3"],"size":9,"modifiedAt":"2024-05-01T10:00:00.123456789Z"}},"incrementalBackupInfo":{'
        b'"filesPerBackup":{"b1":[{"file":"a/s/y","chunkKeys":["A/chunk-7"]}]}}}]}]}'
    )
    node = descriptors.parse_node_descriptor(written, key="k")
    (shard,) = node.classes[0].shards
    assert node.base_backup_id == "b1"
    big = shard.big_files["a/s/x"]
    assert (big.chunk_keys, big.size, big.modified_at) == (("A/chunk-3",), 9, "2024-05-01T10:00:00.123456789Z")
    (elsewhere,) = shard.incremental.files_per_backup["b1"]
    assert (elsewhere.file, elsewhere.chunk_keys) == ("a/s/y", ("A/chunk-7",))
    again = json.loads(descriptors.encode(node))["classes"][0]["shards"][0]
    assert again == json.loads(written)["classes"][0]["shards"][0] | {"files": []}


def test_no_time_is_gos_zero_time() -> None:
    assert (
        json.loads(descriptors.encode(node_descriptor().model_copy(update={"completed_at": descriptors.NEVER})))[
            "completedAt"
        ]
        == "0001-01-01T00:00:00Z"
    )


def test_listing_findings_name_missing_wrong_and_foreign_objects(tmp_path: Path) -> None:
    store, written = FilesystemStore(tmp_path), encode_node_manifest(node_manifest())
    store.put(keys.node_manifest("b1", "n0"), lambda: iter((written,)))
    expected = ManifestReader(store, "b1", "n0").contents().expected
    chunk = keys.chunk("b1", "n0", "Article", 1)
    assert expected == {chunk: 100, "b1/n0/backup.json": 50, "b1/n0/manifest.json.zst": len(written)}
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
    assert integrity.summarize(findings) == "; ".join(each.message for each in findings)
    assert integrity.compare_shards({"Article": {}}, held) == ()


def test_one_digest_of_many_is_of_their_sorted_lines() -> None:
    """As `sha256sum` of such lines would be."""
    of_two = hashlib.sha256(b"a 1\nb 2\n").hexdigest()
    assert integrity.sha256_of_all({"b": "2", "a": "1"}) == of_two
