"""Tenants that were offloaded to a bucket are named as not covered, and come back as they were: offloaded."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from e2e.lab.programs import OLDER_WEAVIATE_VERSION, WEAVIATE_VERSION
from tests.agent.surroundings import (
    BUCKET,
    Surroundings,
    backup_order,
    nothing_left,
    restore_order,
    s3_server,
    whole_backup,
    whole_restore,
)
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

pytestmark = pytest.mark.weaviate
CLASS = "Diary"
TENANTS = ("active", "inactive", "offloaded")
SECONDS = 60


def offloading(store: Surroundings) -> dict[str, str]:
    """Weaviate's module for offloading, on the bucket of the backups."""
    spec = store.location.s3
    assert spec is not None
    return {
        **store.weaviate_environment,
        "ENABLE_MODULES": "backup-s3,offload-s3",
        "OFFLOAD_S3_BUCKET": BUCKET,
        "OFFLOAD_S3_ENDPOINT": f"http://{spec.endpoint}",
    }


async def statuses(cluster: WeaviateCluster) -> dict[str, str]:
    return {each["name"]: each["activityStatus"] for each in await cluster.call("GET", f"/v1/schema/{CLASS}/tenants")}


async def turn(cluster: WeaviateCluster, tenant: str, status: str) -> None:
    """Until the server says that it is so."""
    body = [{"name": tenant, "activityStatus": status}]
    await cluster.call("PUT", f"/v1/schema/{CLASS}/tenants", body)
    async with asyncio.timeout(SECONDS):
        while True:
            if (await statuses(cluster))[tenant] == status:
                return
            await asyncio.sleep(0.2)


async def object_of(cluster: WeaviateCluster, tenant: str) -> dict[str, Any]:
    found = await cluster.call("GET", f"/v1/objects/{CLASS}/{uuid.UUID(int=1)}?tenant={tenant}")
    return dict(found["properties"])


@pytest.mark.parametrize("version", [WEAVIATE_VERSION, OLDER_WEAVIATE_VERSION])
async def test_offloaded_tenants_are_named_and_stay_offloaded(version: str, tmp_path: Path) -> None:
    async with s3_server(tmp_path) as store:
        environment = offloading(store)
        async with weaviate_cluster(tmp_path / "source", environment=environment, version=version) as source:
            await source.create(
                {
                    "class": CLASS,
                    "properties": [{"name": "text", "dataType": ["text"]}],
                    "multiTenancyConfig": {"enabled": True},
                }
            )
            await source.call("POST", f"/v1/schema/{CLASS}/tenants", [{"name": name} for name in TENANTS])
            entry = {"class": CLASS, "id": str(uuid.UUID(int=1)), "vector": [1.0, 0.0]}
            await source.insert([{**entry, "tenant": name, "properties": {"text": name}} for name in TENANTS])
            await turn(source, "inactive", "COLD")
            await turn(source, "offloaded", "FROZEN")
            order = backup_order(source, store, (CLASS,), backup_id="covered", server_version=version)
            backup = await whole_backup(tmp_path / "backup", source, store, order, (CLASS,))
            frozen = backup.node.frozen
            assert frozen is not None
            assert (frozen.tenants_active, frozen.tenants_inactive, frozen.tenants_offloaded) == (1, 1, 1)
            assert frozen.tenants_offloaded_names == (f"{CLASS}/offloaded",)
            assert nothing_left(source)
        async with weaviate_cluster(tmp_path / "target", environment=environment, version=version) as target:
            restore = restore_order(target, store, backup_id="covered")
            await whole_restore(tmp_path / "restore", target, store, restore, (CLASS,))
            assert await statuses(target) == {"active": "HOT", "inactive": "COLD", "offloaded": "FROZEN"}
            for name in ("inactive", "offloaded"):
                await turn(target, name, "HOT")
            assert [await object_of(target, name) for name in TENANTS] == [{"text": name} for name in TENANTS]
