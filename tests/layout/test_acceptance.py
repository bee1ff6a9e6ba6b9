"""Each rule by which a stored backup is refused has a descriptor that breaks it and one that just keeps it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from weaviate_backup.layout.acceptance import judge_base, judge_config, judge_leader, judge_node
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.descriptors import NEVER, BackupConfig, ClassDescriptor, NodeDescriptor, NodeSummary
from weaviate_backup.layout.integrity import Finding
from weaviate_backup.layout.versions import minor_key, reads_split_files, version_key

AT = datetime(2026, 5, 1, tzinfo=UTC)
CONFIG = BackupConfig(
    started_at=AT,
    id="b2",
    server_version="1.39.1",
    leader="n0",
    nodes={"n0": NodeSummary(classes=("Article",)), "n1": NodeSummary(classes=("Article",))},
    base_backup_id="b1",
)
ARTICLE = ClassDescriptor(name="Article", sharding_state=b"{}", class_json=b"{}")
NODE = NodeDescriptor(started_at=AT, id="b2", server_version="1.39.1", classes=(ARTICLE,))
BASE = CONFIG.model_copy(update={"id": "b1", "started_at": AT - timedelta(seconds=1), "base_backup_id": ""})


def reasons(findings: Iterable[Finding]) -> set[str]:
    return {each.reason for each in findings}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "b3"}, "BackupIdMismatch"),
        ({"nodes": {}}, "BackupIncomplete"),
        ({"nodes": {}, "leader": ""}, "BackupIncomplete"),
        ({"leader": "n2"}, "BackupIncomplete"),
        ({"leader": "n1"}, None),
        ({"leader": ""}, None),
        ({"error": "disk full"}, "BackupNotSuccessful"),
        ({"started_at": NEVER}, "BackupDamaged"),
        ({"version": "3.0"}, "FormatTooNew"),
        ({"version": "10.0"}, "FormatTooNew"),
        ({"version": "2.9"}, None),
        ({"version": "2"}, None),
        ({"version": "1.1"}, None),
        ({"version": "1.0"}, "FormatTooOld"),
        ({"version": "1"}, "FormatTooOld"),
        ({"version": ""}, "BackupDamaged"),
        ({"server_version": "1.22.9"}, "FormatTooOld"),
        ({"server_version": "1.9.9"}, "FormatTooOld"),
        ({"server_version": "1.23.0"}, None),
        ({"server_version": "nonsense"}, "BackupDamaged"),
        ({}, None),
    ],
)
def test_a_global_descriptor_is_judged(changes: dict[str, Any], reason: str | None) -> None:
    found = reasons(judge_config(CONFIG.model_copy(update=changes), backup_id="b2"))
    assert found == ({reason} if reason else set())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "b1"}, "BackupIdMismatch"),
        ({"status": "FAILED"}, "BackupNotSuccessful"),
        ({"error": "disk full"}, "BackupNotSuccessful"),
        ({"classes": ()}, "BackupIncomplete"),
        ({"version": "3.0"}, "FormatTooNew"),
        ({}, None),
    ],
)
def test_a_nodes_descriptor_is_judged(changes: dict[str, Any], reason: str | None) -> None:
    found = reasons(judge_node(NODE.model_copy(update=changes), config=CONFIG, node="n1"))
    assert found == ({reason} if reason else set())


def test_a_leader_describes_every_collection() -> None:
    assert not list(judge_leader(NODE, config=CONFIG, node="n0"))
    (found,) = judge_leader(NODE.model_copy(update={"classes": ()}), config=CONFIG, node="n0")
    assert found.reason == "BackupIncomplete"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "b0"}, "says that it is 'b0'"),
        ({"status": "CANCELED"}, "ended as CANCELED"),
        ({"compression_type": CompressionType.ZSTD}, "is compressed with zstd, not gzip"),
        ({"started_at": AT}, "was made again"),
        ({"started_at": AT + timedelta(seconds=1)}, "was made again"),
    ],
)
def test_a_base_is_judged_beside_what_builds_on_it(changes: dict[str, Any], message: str) -> None:
    assert not list(judge_base(BASE, child=CONFIG, base_id="b1"))
    (found,) = judge_base(BASE.model_copy(update=changes), child=CONFIG, base_id="b1")
    assert found.reason == "BaseUnusable"
    assert message in found.message


def test_versions_compare_by_number() -> None:
    assert version_key("1.9.9") < version_key("v1.39.0-rc.1") <= version_key("1.39.0")
    assert minor_key("1.39.1") == (1, 39)
    assert minor_key("2") == (2, 0)


@pytest.mark.parametrize(
    ("version", "reads"),
    [
        ("1.34.20", False),
        ("1.35.14", False),
        ("1.35.15", True),
        ("1.36.4", False),
        ("1.36.5", True),
        ("1.37.0", True),
        ("1.39.1", True),
        ("2.0.0", True),
    ],
)
def test_files_are_split_for_servers_that_can_read_it(version: str, reads: bool) -> None:
    assert reads_split_files(version) is reads
