"""What a stock server writes is read in full: descriptors by the server's spelling, chunks in each of its compressions.

The strict reader (end mark or damage) must never refuse a healthy backup that is not ours.
"""

import asyncio
from pathlib import Path

import pytest
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.layout import keys
from weaviate_backup.layout.chunk_reader import read_chunk
from weaviate_backup.layout.compression import LEVELS
from weaviate_backup.layout.descriptors import (
    STRUCTURE_VERSION,
    NodeDescriptor,
    parse_backup_config,
    parse_node_descriptor,
)

pytestmark = pytest.mark.weaviate
BACKUP_SECONDS = 60


async def back_up(cluster: WeaviateCluster, backup_id: str, level: str) -> None:
    await cluster.call("POST", "/v1/backups/filesystem", {"id": backup_id, "config": {"CompressionLevel": level}})
    async with asyncio.timeout(BACKUP_SECONDS):
        while (found := await cluster.call("GET", f"/v1/backups/filesystem/{backup_id}"))["status"] != "SUCCESS":
            assert found["status"] != "FAILED", found
            await asyncio.sleep(0.2)


def read_all(root: Path, backup_id: str, descriptor: NodeDescriptor, node: str) -> dict[str, int]:
    """Every file of the node's chunks with its size."""
    sizes: dict[str, int] = {}
    for collection in descriptor.classes:
        for number in collection.chunk_numbers:
            with (root / keys.chunk(backup_id, node, collection.name, number)).open("rb") as stream:
                for entry in read_chunk(
                    stream, compression=descriptor.compression_type, collection=collection.name, limit_bytes=1 << 30
                ):
                    sizes[entry.path] = entry.offset + sum(len(block) for block in entry.blocks)
                assert stream.read() == b""
    return sizes


async def test_a_stock_servers_backups_are_read(tmp_path: Path) -> None:
    root = tmp_path / "backups"
    environment = {"ENABLE_MODULES": "backup-filesystem", "BACKUP_FILESYSTEM_PATH": str(root)}
    async with weaviate_cluster(tmp_path / "cluster", environment=environment) as cluster:
        await cluster.create({"class": "Article", "properties": [{"name": "title", "dataType": ["text"]}]})
        await cluster.insert(
            [{"class": "Article", "properties": {"title": f"t{i}"}, "vector": [float(i), 1.0]} for i in range(300)]
        )
        node = cluster.nodes[0]
        for number, level in enumerate(("DefaultCompression", "ZstdBestSpeed", "NoCompression")):
            backup_id = f"native-{number}"
            await back_up(cluster, backup_id, level)
            config_key = keys.backup_config(backup_id)
            config = parse_backup_config((root / config_key).read_bytes(), key=config_key)
            assert (config.collections, config.version) == (("Article",), STRUCTURE_VERSION)
            node_key = keys.node_descriptor(backup_id, node.name)
            descriptor = parse_node_descriptor((root / node_key).read_bytes(), key=node_key)
            assert descriptor.compression_type is LEVELS[level].type
            (shard,) = descriptor.classes[0].shards
            sizes = read_all(root, backup_id, descriptor, node.name)
            assert sizes[f"article/{shard.name}/indexcount"] == 8
            assert {f"article/{shard.name}/version", f"article/{shard.name}/proplengths"} <= sizes.keys()
            on_disk = node.data_path / f"article/{shard.name}/lsm/objects"
            for segment in on_disk.glob("segment-*.db"):
                assert sizes[segment.relative_to(node.data_path).as_posix()] == segment.stat().st_size
            assert any("/lsm/objects/segment-" in path for path in sizes)
