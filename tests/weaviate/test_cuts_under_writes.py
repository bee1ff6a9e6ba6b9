"""Writes that go on while a shard is cut lose nothing: inserts, updates and deletes, with and without tenants."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.weaviate.conftest import DIMENSIONS
from tests.weaviate_cuts import all_objects, ask, restore, take
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.snapshot_driver import SnapshotDriver

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]

EVERYTHING = 'path: ["all"], operator: Equal, valueBoolean: true'
PRELOADED = 600
PROPERTIES = [
    {"name": "tag", "dataType": ["int"]},
    {"name": "title", "dataType": ["text"]},
    {"name": "all", "dataType": ["boolean"]},
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[WeaviateCluster, WeaviateCluster]]:
    """A source and an empty target."""
    directory = tmp_path_factory.mktemp("pair")
    async with weaviate_cluster(directory / "a") as source, weaviate_cluster(directory / "b") as target:
        yield source, target


class Writers:
    """Inserts, updates and deletes, all acknowledged, until told to stop. Tags are never used twice."""

    def __init__(self, cluster: WeaviateCluster, collection: str, tenant: str) -> None:
        self._cluster = cluster
        self._of = {"class": collection} | ({"tenant": tenant} if tenant else {})
        self._suffix = f"?tenant={tenant}" if tenant else ""
        self._random = random.Random(5)
        self._tag = 0
        self._ids: list[str] = []
        self.written = 0
        self.stopping = False

    def item(self, identity: str) -> dict[str, Any]:
        self._tag += 1
        return self._of | {
            "id": identity,
            "properties": {"tag": self._tag, "title": f"word{self._tag % 50} text", "all": True},
            "vector": [self._random.gauss(0, 1) for _ in range(DIMENSIONS)],
        }

    async def preload(self, count: int) -> None:
        new = [str(uuid.UUID(int=self._random.getrandbits(128))) for _ in range(count)]
        await self._cluster.insert([self.item(each) for each in new])
        self._ids += new

    async def run(self) -> None:
        while not self.stopping:
            await self.preload(5)
            some = {self._random.choice(self._ids) for _ in range(10)}
            await self._cluster.insert([self.item(each) for each in some])
            gone = self._ids.pop(self._random.randrange(len(self._ids)))
            await self._cluster.call("DELETE", f"/v1/objects/{self._of['class']}/{gone}{self._suffix}")
            self.written += 6 + len(some)


@pytest.mark.parametrize("tenant", ["", "t1"])
async def test_no_object_is_missed(tenant: str, pair: tuple[WeaviateCluster, WeaviateCluster], tmp_path: Path) -> None:
    source, target = pair
    collection = "Tenanted" if tenant else "Busy"
    await source.create(
        {"class": collection, "properties": PROPERTIES, "multiTenancyConfig": {"enabled": bool(tenant)}}
    )
    if tenant:
        await source.call("POST", f"/v1/schema/{collection}/tenants", [{"name": tenant}])
    class_json, state, shard = await cut_under_writes(source, collection, tenant, tmp_path)
    taken = tmp_path / collection.lower() / shard
    assert late_writes.prepare(taken) and not late_writes.prepare(taken)
    await restore(target, collection, tmp_path, class_json=class_json, state=state)
    there = target.nodes[0]
    path = there.data_path / collection.lower() / shard / late_writes.LATE_WRITES
    for _ in range(2):  # repeating a replay changes nothing
        touched = await late_writes.replay(there.host, there.data_port, collection=collection, shard=shard, path=path)
        assert touched > 0
    answers = await ask(target, collection, tag="tag", everything=EVERYTHING, tenant=tenant)
    assert (answers.vector_misses, answers.filter_misses) == ((), ())
    objects = await all_objects(target, collection, tenant=tenant)
    assert len(objects) == answers.counted > PRELOADED / 2
    for write in late_writes.final_writes(path):
        found = objects.get(str(write.uuid))
        assert (found is None) is write.is_delete, "each object is as its last captured write left it"
        assert found is None or found["lastUpdateTimeUnix"] == write.updated_milliseconds


async def cut_under_writes(
    source: WeaviateCluster, collection: str, tenant: str, directory: Path
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Class, sharding state and shard of a cut taken to `directory` while writers were writing."""
    node = source.nodes[0]
    driver = SnapshotDriver(node.host, node.data_port, data_path=node.data_path, operation_uid="c" * 32)
    writers = Writers(source, collection, tenant)
    await writers.preload(PRELOADED)
    running = [asyncio.create_task(writers.run()) for _ in range(3)]
    try:
        async with RaftClient(node.host, node.raft_rpc_port) as raft:
            class_json, state, version = await raft.snapshot(collection)
        (shard,) = state["physical"]
        written_before = writers.written
        cut = await driver.cut(collection, shard, schema_version=version)
        assert writers.written - written_before > 20, "the cut was not tried under load"
    finally:
        writers.stopping = True
        await asyncio.gather(*running)
    names = {file.path for file in cut.files}
    assert late_writes.LATE_WRITES in names and any(name.startswith(late_writes.LATE_OBJECTS) for name in names)
    take(cut, directory)
    await driver.release(cut)
    await driver.close()
    assert not list((node.data_path / collection.lower() / shard).glob("changelog/*.log")), "the capture was stopped"
    return class_json, state, shard
