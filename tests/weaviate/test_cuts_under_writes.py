"""Writes that go on while a shard is cut lose nothing, whatever the kind of index: inserts, updates and deletes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.open_files import open_below
from tests.places import place_of
from tests.weaviate_cuts import all_objects, ask, restore, take
from tests.weaviate_server import WeaviateCluster, weaviate_cluster
from tests.weaviate_writers import EVERYTHING, KINDS, IndexKind, Writers

from weaviate_backup.errors import Transient
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.shard_source import ShardCut
from weaviate_backup.weaviate.snapshot_driver import SnapshotDriver

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]

PRELOADED = 300
WRITERS = 2
BATCH = 8
PAUSE_SECONDS = 0.05
ATTEMPTS = 10
GEO_WRITES = "i"
"""A server that was merely restarted finds few of the places that were updated or deleted before."""
TRIED = ("hnsw", "hnsw-async", "rq", "sq", "named", "flat", "dynamic-flat", "dynamic-hnsw", "geo")
"""The others are for e2e/bench/cut_under_writes.py."""

Pair = tuple[WeaviateCluster, WeaviateCluster]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pairs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[bool, Pair]]:
    """A source and an empty target, by whether they index asynchronously."""
    directory = tmp_path_factory.mktemp("pairs")
    at_once, later = {"ASYNC_INDEXING": "false"}, {"ASYNC_INDEXING": "true"}
    async with (
        weaviate_cluster(directory / "a", environment=at_once) as a,
        weaviate_cluster(directory / "b", environment=at_once) as b,
        weaviate_cluster(directory / "c", environment=later) as c,
        weaviate_cluster(directory / "d", environment=later) as d,
    ):
        yield {False: (a, b), True: (c, d)}


@dataclass(frozen=True)
class Taken:
    """A cut of the one shard, linked away."""

    class_json: dict[str, Any]
    state: dict[str, Any]
    shard: str
    late: Path


@pytest.mark.parametrize("name", TRIED)
async def test_no_object_is_missed(name: str, pairs: dict[bool, Pair], tmp_path: Path) -> None:
    kind = KINDS[name]
    collection = "Kind" + name.replace("-", "").capitalize()
    await lose_nothing(pairs[kind.asynchronous], kind, collection, tmp_path)


async def test_no_object_of_a_tenant_is_missed(pairs: dict[bool, Pair], tmp_path: Path) -> None:
    await lose_nothing(pairs[False], KINDS["hnsw"], "Tenanted", tmp_path, tenant="t1")


async def lose_nothing(pair: Pair, kind: IndexKind, collection: str, directory: Path, *, tenant: str = "") -> None:
    """Cut under writes, restore as we do, search every object by all it has."""
    source, target = pair
    await source.create(kind.definition(collection, tenants=bool(tenant)))
    if tenant:
        await source.call("POST", f"/v1/schema/{collection}/tenants", [{"name": tenant}])
    writers = Writers(source, collection, kind, tenant=tenant, kinds=GEO_WRITES if kind.geo else "iud")
    await writers.insert(PRELOADED)
    await source.wait_until_indexed()
    taken = await cut_under_writes(source, collection, writers, directory)
    await restore(target, collection, directory, class_json=taken.class_json, state=taken.state)
    there = target.nodes[0]
    for _ in range(2):  # repeating a replay changes nothing
        touched = await late_writes.replay(
            there.host,
            there.data_port,
            collection=collection,
            shard=taken.shard,
            captured=place_of(taken.late.parent) / taken.late.name,
        )
        assert touched > 0
    await target.wait_until_indexed()
    answers = await ask(target, collection, tag="tag", everything=EVERYTHING, tenant=tenant)
    assert (answers.vector_misses, answers.filter_misses) == ((), ())
    objects = await all_objects(target, collection, tenant=tenant)
    assert len(objects) == answers.counted > PRELOADED / 2
    assert answers.extra_postings <= touched, "only what was written meanwhile may leave postings"
    for write in late_writes.final_writes(place_of(taken.late.parent) / taken.late.name):
        found = objects.get(str(write.uuid))
        assert (found is None) is write.is_delete, "each object is as its last captured write left it"
        assert found is None or found["lastUpdateTimeUnix"] == write.updated_milliseconds


async def cut_of_a_busy_shard(driver: SnapshotDriver, collection: str, shard: str, version: int) -> ShardCut:
    """A cut during which there were writes; a shard may be quiet for a moment, as when its vectors are compressed."""
    for _ in range(ATTEMPTS):
        await asyncio.sleep(0.3)
        try:
            cut = await driver.cut(collection, shard, schema_version=version)
        except Transient:
            continue  # an agent waits, too: the vector index may be about to change its kind
        if late_writes.LATE_WRITES in {file.path for file in cut.files}:
            return cut
        await driver.release(cut)
    raise AssertionError("no cut was tried under load")


async def cut_under_writes(source: WeaviateCluster, collection: str, writers: Writers, directory: Path) -> Taken:
    """A cut taken to `directory` while writers were writing, released, with nothing left in the server."""
    node = source.nodes[0]
    driver = SnapshotDriver(node.host, node.data_port, data_root=place_of(node.data_path), operation_uid="c" * 32)
    try:
        async with writers.running(WRITERS, batch=BATCH, pause_seconds=PAUSE_SECONDS):
            async with RaftClient(node.host, node.raft_rpc_port) as raft:
                class_json, state, version = await raft.snapshot(collection)
            (shard,) = state["physical"]
            cut = await cut_of_a_busy_shard(driver, collection, shard, version)
            await asyncio.to_thread(take, cut, directory)
            await driver.release(cut)
    finally:
        await driver.close()
    assert not open_below(node.data_path / collection.lower() / shard / "changelog"), "the capture was stopped"
    assert not list((node.data_path / collection.lower() / shard).glob("changelog/*.log"))
    assert not list(node.data_path.glob(".replica-staging-*"))
    late = directory / collection.lower() / shard / late_writes.LATE_WRITES
    return Taken(class_json, state, shard, late)
