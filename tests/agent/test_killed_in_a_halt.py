"""An agent killed while a shard is halted for it: the shard is let go by whoever comes next, and is cut as before.

On a server whose halts are calls of their own, counted, and not undone when the caller goes.
"""

import asyncio
import signal
from pathlib import Path

import grpc
import pytest
from e2e.dataset.loading import load
from e2e.dataset.shapes import small_dataset
from e2e.dataset.weaviate_http import Weaviate
from e2e.lab.programs import OLDER_WEAVIATE_VERSION
from tests.agent.surroundings import backup_order, nothing_left, s3_server
from tests.agent_process import Agent, agent_process
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.core.session import Step
from weaviate_backup.weaviate.pause_staging import HALTED
from weaviate_backup.weaviate.protocol import file_replication_pb2, file_replication_pb2_grpc
from weaviate_backup.weaviate.raft import RaftClient

pytestmark = pytest.mark.weaviate
DATASET = small_dataset(objects=300, replicas=1)
COLLECTIONS = tuple(sorted(shape.name for shape in DATASET.shapes))
KILLS = 3
SECONDS = 60


def halted_for_us(data_path: Path) -> list[Path]:
    return list(data_path.glob(f".replica-staging-*/{HALTED}"))


async def halted_shards(cluster: WeaviateCluster) -> set[str]:
    """Of all active shards those which the server lists, as it does while they are halted and not otherwise."""
    node = cluster.nodes[0]
    async with RaftClient(node.host, node.raft_rpc_port) as raft:
        shards = [
            (name, shard)
            for name in COLLECTIONS
            for shard, state in (await raft.sharding_state(name))[0]["physical"].items()
            if state.get("status", "HOT") in ("", "HOT")
        ]
    halted = set()
    async with grpc.aio.insecure_channel(f"{node.host}:{node.data_port}") as channel:
        stub = file_replication_pb2_grpc.FileReplicationServiceStub(channel)
        for name, shard in shards:
            try:
                await stub.ListFiles(file_replication_pb2.ListRequest(collection=name, shard=shard))
                halted.add(f"{name}/{shard}")
            except grpc.aio.AioRpcError as error:
                assert "not paused" in str(error.details()), error.details()
    assert len(shards) >= len(COLLECTIONS)
    return halted


async def killed_in_a_halt(agent: Agent, cluster: WeaviateCluster) -> None:
    """Stop the agent in a freeze whenever it may have halted a shard, kill it once the server says that it has."""
    await agent.take(Step.FREEZE)
    assert agent.process is not None
    async with asyncio.timeout(SECONDS):
        while True:
            await asyncio.sleep(0.002)
            if not halted_for_us(cluster.nodes[0].data_path):
                continue
            agent.process.send_signal(signal.SIGSTOP)
            if await halted_shards(cluster):
                agent.kill()
                return
            agent.process.send_signal(signal.SIGCONT)


async def test_a_shard_halted_for_a_killed_agent_is_let_go_and_cut_again(tmp_path: Path) -> None:
    async with (
        s3_server(tmp_path) as store,
        weaviate_cluster(
            tmp_path / "weaviate", environment=store.weaviate_environment, version=OLDER_WEAVIATE_VERSION
        ) as cluster,
    ):
        data_path = cluster.nodes[0].data_path
        await asyncio.to_thread(load, Weaviate(cluster.nodes[0].rest_url), DATASET)
        order = backup_order(cluster, store, COLLECTIONS, backup_id="killed-halted")
        async with agent_process(tmp_path, order=order, data_path=data_path, credentials=store.credentials) as agent:
            for _ in range(KILLS):
                await killed_in_a_halt(agent, cluster)
                assert await halted_shards(cluster), "the server let go by itself: nothing was tried"
                await agent.start()
            report = await agent.step(Step.FREEZE)
            assert report.frozen is not None
            assert report.frozen.collections == COLLECTIONS
            assert halted_for_us(data_path) == []
            assert await halted_shards(cluster) == set()
            await agent.step(Step.RELEASE)
        order = backup_order(cluster, store, COLLECTIONS, backup_id="killed-given-up")
        async with agent_process(
            tmp_path / "given-up", order=order, data_path=data_path, credentials=store.credentials
        ) as agent:
            await killed_in_a_halt(agent, cluster)
            await agent.start()
            await agent.step(Step.RELEASE)
            assert await halted_shards(cluster) == set(), "released without another freeze"
        assert nothing_left(cluster)
