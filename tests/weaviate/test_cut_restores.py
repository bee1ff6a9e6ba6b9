"""The proof of a cut: put into an empty server, it answers as its source did. Writes going on lose nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.places import place_of
from tests.weaviate.conftest import OBJECTS, TENANT_OBJECTS, items
from tests.weaviate_cuts import ask, restore, take
from tests.weaviate_server import WeaviateCluster, WeaviateNode, weaviate_cluster

from weaviate_backup.weaviate.inactive_tenants import cut_inactive
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.snapshot_driver import SnapshotDriver

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]

EVERYTHING = 'path: ["all"], operator: Equal, valueBoolean: true'


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateCluster]:
    """A second, empty server."""
    environment = {"ASYNC_INDEXING": "true"}
    async with weaviate_cluster(tmp_path_factory.mktemp("target"), environment=environment) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def driver(node: WeaviateNode) -> SnapshotDriver:
    return SnapshotDriver(node.host, node.data_port, data_root=place_of(node.data_path), operation_uid="b" * 32)


async def move(
    collection: str, driver: SnapshotDriver, source: WeaviateCluster, target: WeaviateCluster, *, taken: Path
) -> None:
    """Cut every shard of a collection by its status, release, restore."""
    node = source.nodes[0]
    async with RaftClient(node.host, node.raft_rpc_port) as raft:
        class_json, state, version = await raft.snapshot(collection)
    for shard, details in state["physical"].items():
        if details.get("status") == "COLD":
            take(cut_inactive(place_of(node.data_path), collection, shard)[0], taken)
            continue
        cut = await driver.cut(collection, shard, schema_version=version)
        take(cut, taken)
        await driver.release(cut)
    await restore(target, collection, taken, class_json=class_json, state=state)


@pytest.mark.parametrize("collection", ["Article", "Flat", "Dyn"])
async def test_a_restored_cut_answers_as_its_source(
    collection: str, weaviate: WeaviateCluster, target: WeaviateCluster, driver: SnapshotDriver, tmp_path: Path
) -> None:
    await move(collection, driver, weaviate, target, taken=tmp_path)
    answers = await ask(target, collection, tag="tag", everything=EVERYTHING)
    assert (answers.objects, answers.counted, answers.counted_filtered) == (OBJECTS, OBJECTS, OBJECTS)
    assert (answers.vector_misses, answers.filter_misses) == ((), ())
    probe = items(collection, OBJECTS)[7]["vector"]
    queries = [
        f"limit: 20, nearVector: {{ vector: {probe} }}",
        'limit: 50, bm25: { query: "word7" }',
    ]
    if collection == "Article":
        around = "geoCoordinates: { latitude: 10, longitude: 10 }, distance: { max: 600000 }"
        within = f'path: ["place"], operator: WithinGeoRange, valueGeoRange: {{ {around} }}'
        queries.append(f"limit: 300, where: {{ {within} }}")
    for query in queries:
        before, after = [await answer_of(cluster, collection, query) for cluster in (weaviate, target)]
        assert before and after == before, query


async def answer_of(cluster: WeaviateCluster, collection: str, query: str) -> dict[str, Any]:
    """Ids with tag, score and distance, the latter as far as single precision carries across a restart."""
    fields = "tag _additional { id distance score }"
    found = (await cluster.graphql(f"{{ Get {{ {collection}({query}) {{ {fields} }} }} }}"))["Get"][collection]
    return {
        each["_additional"]["id"]: (
            each["tag"],
            each["_additional"]["score"],
            pytest.approx(each["_additional"]["distance"], abs=1e-5),
        )
        for each in found
    }


async def test_inactive_tenants_come_back_inactive_and_whole(
    weaviate: WeaviateCluster, target: WeaviateCluster, driver: SnapshotDriver, tmp_path: Path
) -> None:
    await move("Multi", driver, weaviate, target, taken=tmp_path)
    assert {each["name"]: each["activityStatus"] for each in await target.call("GET", "/v1/schema/Multi/tenants")} == {
        "hot": "HOT",
        "cold": "COLD",
    }
    await target.call("PUT", "/v1/schema/Multi/tenants", [{"name": "cold", "activityStatus": "HOT"}])
    for tenant in ("hot", "cold"):
        answers = await ask(target, "Multi", tag="tag", everything=EVERYTHING, tenant=tenant)
        assert (answers.objects, answers.counted, answers.counted_filtered) == (TENANT_OBJECTS,) * 3
        assert (answers.vector_misses, answers.filter_misses) == ((), ())
