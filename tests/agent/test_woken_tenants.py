"""A tenant that was inactive when the schema was read, and was woken and written to before its turn, comes back whole:
by id, by its own vectors and by filters. The server keeps the last writes to a graph in memory, however still its files
lie."""

import asyncio
import random
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from e2e.lab.programs import OLDER_WEAVIATE_VERSION, WEAVIATE_VERSION
from tests.agent.hand_frozen import Node
from tests.places import path_of, place_of
from tests.weaviate_cuts import ask, restore
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.agent.expansion import TenantStatus, local_shards
from weaviate_backup.agent.shard_freezer import ShardFreezer
from weaviate_backup.agent.workspace import FROZEN, Workspace
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.probing import choose_driver
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.rest import NodeClient
from weaviate_backup.weaviate.shard_source import ShardSource

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
CLASS = "Multi"
UID = "12121212-0000-4000-8000-000000000012"
CHANCE = random.Random(2)
DEFINITION = {
    "class": CLASS,
    "properties": [{"name": "tag", "dataType": ["int"]}],
    "multiTenancyConfig": {"enabled": True, "autoTenantActivation": True},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=[WEAVIATE_VERSION, OLDER_WEAVIATE_VERSION])
async def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[WeaviateCluster]:
    async with weaviate_cluster(tmp_path_factory.mktemp("woken"), version=request.param) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def driver(cluster: WeaviateCluster) -> AsyncIterator[ShardSource]:
    node = cluster.nodes[0]
    chosen = await choose_driver(
        node.host, node.data_port, data_root=place_of(node.data_path), operation_uid=UID, server_version=""
    )
    yield chosen
    await chosen.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_shards(cluster: WeaviateCluster) -> AsyncIterator[NodeClient]:
    async with NodeClient(cluster.nodes[0].host, cluster.nodes[0].data_port) as client:
        yield client


def objects(tenant: str, first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "class": CLASS,
            "tenant": tenant,
            "id": str(uuid.UUID(int=number)),
            "vector": [CHANCE.gauss(0, 1) for _ in range(16)],
            "properties": {"tag": number},
        }
        for number in range(first, first + count)
    ]


async def set_status(cluster: WeaviateCluster, tenant: str, status: str) -> None:
    await cluster.call("PUT", f"/v1/schema/{CLASS}/tenants", [{"name": tenant, "activityStatus": status}])


async def delete(cluster: WeaviateCluster) -> None:
    await cluster.call("DELETE", f"/v1/schema/{CLASS}")
    for _ in range(300):
        if not (cluster.nodes[0].data_path / CLASS.lower()).exists():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the collection was deleted, but its directory stays")


async def test_a_server_tells_which_tenants_it_has_open(cluster: WeaviateCluster, open_shards: NodeClient) -> None:
    await cluster.create(DEFINITION)
    try:
        await cluster.call("POST", f"/v1/schema/{CLASS}/tenants", [{"name": "awake"}, {"name": "asleep"}])
        await cluster.call("POST", f"/v1/schema/{CLASS}/tenants", [{"name": "never", "activityStatus": "COLD"}])
        for tenant in ("awake", "asleep"):
            await cluster.insert(objects(tenant, 1, 5))
        await set_status(cluster, "asleep", "COLD")
        for _ in range(300):  # it is unloaded behind the answer
            if not await open_shards.has_open(CLASS, "asleep"):
                break
            await asyncio.sleep(0.1)
        for _ in range(2):
            assert await open_shards.has_open(CLASS, "awake")
            assert not await open_shards.has_open(CLASS, "asleep")
            assert not await open_shards.has_open(CLASS, "never")
            assert not await open_shards.has_open(CLASS, "unknown")
        assert (await ask_tenant(cluster, "awake")).objects == 5, "it serves on"
    finally:
        await delete(cluster)


async def ask_tenant(cluster: WeaviateCluster, tenant: str) -> Any:
    everything = 'path: ["tag"], operator: GreaterThan, valueInt: 0'
    return await ask(cluster, CLASS, tag="tag", everything=everything, tenant=tenant)


@pytest.mark.parametrize("then_to_sleep", [False, True])
async def test_a_woken_tenant_is_whole(
    cluster: WeaviateCluster, driver: ShardSource, open_shards: NodeClient, tmp_path: Path, then_to_sleep: bool
) -> None:
    node = cluster.nodes[0]
    await cluster.create(DEFINITION)
    await cluster.call("POST", f"/v1/schema/{CLASS}/tenants", [{"name": "a"}])
    await cluster.insert(objects("a", 1, 200))
    await set_status(cluster, "a", "COLD")
    async with RaftClient(node.host, node.raft_rpc_port) as raft:
        class_json, state, version = await raft.snapshot(CLASS)
        statuses = local_shards(state, node.name, collection=CLASS).statuses
        assert statuses == {"a": TenantStatus.INACTIVE}
        for first in (201, 221):  # the last batch lies in memory only
            await cluster.insert(objects("a", first, 20))
        if then_to_sleep:
            await set_status(cluster, "a", "COLD")
        hand = Node(tmp_path, tmp_path / "store", UID, {}, name=node.name).workspace()
        with hand.journal:
            settings = hand.settings.model_copy(update={"data_path": node.data_path})
            workspace = Workspace(settings, hand.order, hand.journal)
            freezer = ShardFreezer(workspace, Meter(), raft=raft, node=open_shards, driver=driver)
            await freezer.freeze(CLASS, statuses, version, multi_tenant=True)
            taken = shutil.copytree(path_of(workspace.directory / FROZEN), tmp_path / "taken")
    await delete(cluster)
    state["physical"]["a"]["status"] = "HOT"
    await restore(cluster, CLASS, taken, class_json=class_json, state=state)
    await asyncio.sleep(1)
    back = await ask_tenant(cluster, "a")
    try:
        assert (back.objects, back.counted, back.counted_filtered) == (240, 240, 240)
        assert (back.vector_misses, back.filter_misses) == ((), ())
    finally:
        await delete(cluster)
