"""The strongest proofs there are: Weaviate itself restores what we wrote, and we restore it, and nobody can tell."""

import asyncio
from pathlib import Path

import pytest
from e2e.dataset.comparison import compare
from e2e.dataset.loading import load
from e2e.dataset.observation import Observation, observe
from e2e.dataset.shapes import small_dataset
from e2e.dataset.weaviate_http import Weaviate
from tests.agent.surroundings import (
    backup_order,
    directory_store,
    restore_order,
    s3_server,
    whole_backup,
    whole_restore,
)
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.core.session import DATA_DIRECTORY

pytestmark = pytest.mark.weaviate
DATASET = small_dataset(objects=1500, replicas=1)
COLLECTIONS = tuple(sorted(shape.name for shape in DATASET.shapes))
RESTORE_SECONDS = 120


async def observed(cluster: WeaviateCluster) -> Observation:
    return await asyncio.to_thread(observe, [cluster.nodes[0].rest_url], DATASET)


async def loaded(cluster: WeaviateCluster) -> Observation:
    await asyncio.to_thread(load, Weaviate(cluster.nodes[0].rest_url), DATASET)
    return await observed(cluster)


def nothing_left(cluster: WeaviateCluster) -> bool:
    data_path = cluster.nodes[0].data_path
    return not (data_path / DATA_DIRECTORY).exists() and not list(data_path.glob(".replica-staging-*"))


async def native_restore(cluster: WeaviateCluster, backup_id: str) -> None:
    await cluster.call("POST", f"/v1/backups/s3/{backup_id}/restore", {})
    async with asyncio.timeout(RESTORE_SECONDS):
        while True:
            status = await cluster.call("GET", f"/v1/backups/s3/{backup_id}/restore")
            if status["status"] == "SUCCESS":
                return
            assert status["status"] not in ("FAILED", "CANCELED"), status
            await asyncio.sleep(0.5)


async def test_weaviate_restores_our_backup_and_so_do_we(tmp_path: Path) -> None:
    async with s3_server(tmp_path) as store:
        async with weaviate_cluster(tmp_path / "source", environment=store.weaviate_environment) as source:
            before = await loaded(source)
            order = backup_order(source, store, COLLECTIONS)
            backup = await whole_backup(tmp_path / "backup", source, store, order, COLLECTIONS)
            assert nothing_left(source)
            assert backup.node.frozen is not None
            assert backup.node.frozen.tenants_inactive == len(DATASET.shapes[2].inactive_tenants)
            listed = await source.call("GET", "/v1/backups/s3")
            assert [(each["id"], each["status"]) for each in listed] == [("b1", "SUCCESS")]
        async with weaviate_cluster(tmp_path / "native", environment=store.weaviate_environment) as native:
            await native_restore(native, "b1")
            assert compare(before, await observed(native)) == []
        async with weaviate_cluster(tmp_path / "ours") as ours:
            report = await whole_restore(tmp_path / "restore", ours, store, restore_order(ours, store), COLLECTIONS)
            assert report.confirmed is not None
            assert compare(before, await observed(ours)) == []
            assert nothing_left(ours)


async def test_round_trip_through_a_directory(tmp_path: Path) -> None:
    store = directory_store(tmp_path / "backup")
    async with weaviate_cluster(tmp_path / "source") as source:
        before = await loaded(source)
        order = backup_order(source, store, COLLECTIONS, compression_level="NoCompression")
        await whole_backup(tmp_path / "backup", source, store, order, COLLECTIONS)
    (tmp_path / "restore").mkdir()
    (tmp_path / "restore" / "store").symlink_to(store.objects)
    async with weaviate_cluster(tmp_path / "target") as target:
        await whole_restore(tmp_path / "restore", target, store, restore_order(target, store), COLLECTIONS)
        assert compare(before, await observed(target)) == []
