"""A real cluster of three: followers forward, replicas are cut each on its own node."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.places import place_of
from tests.weaviate.conftest import PROPERTIES, items
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.rest import NodeClient, RestClient
from weaviate_backup.weaviate.snapshot_driver import SnapshotDriver

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]

NAMES = {"weaviate-0", "weaviate-1", "weaviate-2"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateCluster]:
    """Collection Wide: three shards of two replicas."""
    async with weaviate_cluster(tmp_path_factory.mktemp("three"), nodes=3) as cluster:
        wide = {"class": "Wide", "properties": PROPERTIES, "replicationConfig": {"factor": 2}}
        await cluster.create(wide | {"shardingConfig": {"desiredCount": 3}})
        await cluster.insert([each | {"class": "Wide"} for each in items("Flat", 90)])
        yield cluster


async def test_every_node_answers_and_forwards(three: WeaviateCluster) -> None:
    pictures = []
    for number, node in enumerate(three.nodes):
        async with RaftClient(node.host, node.raft_rpc_port) as raft:
            pictures.append(await raft.snapshot("Wide"))
            assert await raft.create_alias(f"Alias{number}", "Wide") > 0
            assert f"Alias{number}" in await raft.aliases("Wide")
            assert await raft.delete_alias(f"Alias{number}") > 0
    assert pictures[0] == pictures[1] == pictures[2]
    async with RestClient(three.nodes[1].rest_url) as rest:
        positions = await rest.positions()
        assert {each.node for each in positions} == NAMES
        (leader,) = {each.leader for each in positions}
        assert [each.node for each in positions if each.leads] == [leader]
        assert await rest.nodes(lambda nodes: {each["name"] for each in nodes}) == NAMES


async def test_each_node_cuts_its_own_replicas(three: WeaviateCluster) -> None:
    async with RaftClient(three.nodes[0].host, three.nodes[0].raft_rpc_port) as raft:
        state, version = await raft.sharding_state("Wide")
    cuts = 0
    for node in three.nodes:
        mine = {name for name, shard in state["physical"].items() if node.name in shard["belongsToNodes"]}
        async with NodeClient(node.host, node.data_port) as one:
            assert {shard.shard for shard in await one.shards("Wide")} == mine
        driver = SnapshotDriver(node.host, node.data_port, data_root=place_of(node.data_path), operation_uid="e" * 32)
        for shard in mine:
            cut = await driver.cut("Wide", shard, schema_version=version)
            assert any(file.path.startswith("lsm/objects/segment-") for file in cut.files)
            assert all(file.source.root.path == node.data_path and file.source.exists() for file in cut.files)
            await driver.release(cut)
            cuts += 1
        await driver.close()
        assert not list(node.data_path.glob(".replica-staging-*"))
    assert cuts == 6
