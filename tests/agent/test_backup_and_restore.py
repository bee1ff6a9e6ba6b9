"""The strongest proofs there are: Weaviate itself restores what we wrote, and we restore it, and nobody can tell."""

import asyncio
from pathlib import Path

import pytest
from e2e.dataset.comparison import compare
from tests.agent.conftest import Source, differences, emptied, observed
from tests.agent.surroundings import (
    backup_order,
    directory_store,
    nothing_left,
    restore_order,
    whole_backup,
    whole_restore,
)
from tests.weaviate_server import WeaviateCluster

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
SECONDS = 120


async def succeeded(cluster: WeaviateCluster, path: str) -> None:
    """Wait for the end of an operation of Weaviate's own engine."""
    async with asyncio.timeout(SECONDS):
        while True:
            status = await cluster.call("GET", path)
            if status["status"] == "SUCCESS":
                return
            assert status["status"] not in ("FAILED", "CANCELED"), status
            await asyncio.sleep(0.5)


async def test_weaviate_restores_our_backup_and_so_do_we(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    store, collections = source.store, source.collections
    order = backup_order(source.cluster, store, collections, backup_id="round-trip")
    backup = await whole_backup(tmp_path / "backup", source.cluster, store, order, collections)
    assert nothing_left(source.cluster)
    assert backup.node.frozen is not None
    assert (backup.node.frozen.tenants_active, backup.node.frozen.tenants_inactive) == (3, 2)
    assert backup.node.committed is not None
    listed = {each["id"]: each["status"] for each in await source.cluster.call("GET", "/v1/backups/s3")}
    assert listed["round-trip"] == "SUCCESS"
    await emptied(target, source.dataset)
    await target.call("POST", "/v1/backups/s3/round-trip/restore", {})
    await succeeded(target, "/v1/backups/s3/round-trip/restore")
    native = await observed(target, source.dataset)
    assert differences(source.before, native) == []
    await emptied(target, source.dataset)
    order = restore_order(target, store, backup_id="round-trip")
    report = await whole_restore(tmp_path / "restore", target, store, order, collections)
    assert report.inspected is not None
    assert report.inspected.contents.verifiable
    assert report.inspected.contents.aliases == source.dataset.aliases
    assert report.confirmed is not None
    assert report.confirmed.objects in (None, backup_objects(source))
    assert compare(native, await observed(target, source.dataset)) == []
    assert nothing_left(target)


def backup_objects(source: Source) -> int:
    """Objects of active shards, which the server counts."""
    return sum(shape.objects * len(shape.active_tenants or (None,)) for shape in source.dataset.shapes)


async def test_round_trip_of_a_backup_that_a_server_made(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    """A backup without our manifests is restored as far as its own descriptor goes, here wholly."""
    store = source.store
    await source.cluster.call("POST", "/v1/backups/s3", {"id": "stock"})
    await succeeded(source.cluster, "/v1/backups/s3/stock")
    await emptied(target, source.dataset)
    order = restore_order(target, store, backup_id="stock")
    report = await whole_restore(tmp_path / "restore", target, store, order, source.collections)
    assert report.inspected is not None
    assert not report.inspected.contents.verifiable
    assert not report.inspected.contents.problems
    assert differences(source.before, await observed(target, source.dataset)) == []


async def test_round_trip_through_a_directory_without_compression(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    directory = tmp_path / "operation"
    store = directory_store(directory)
    order = backup_order(source.cluster, store, source.collections, compression_level="NoCompression")
    await whole_backup(directory, source.cluster, store, order, source.collections)
    await emptied(target, source.dataset)
    await whole_restore(directory, target, store, restore_order(target, store), source.collections)
    assert differences(source.before, await observed(target, source.dataset)) == []
