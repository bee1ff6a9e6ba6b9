"""One real Weaviate for all tests of these adapters, with a collection of each kind of index."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.weaviate_server import WeaviateCluster, WeaviateNode, weaviate_cluster

from weaviate_backup.weaviate.raft import RaftClient

OBJECTS = 300
TENANT_OBJECTS = 60
DIMENSIONS = 16

PROPERTIES = [
    {"name": "tag", "dataType": ["int"]},
    {"name": "title", "dataType": ["text"]},
    {"name": "all", "dataType": ["boolean"]},
]
COLLECTIONS: list[dict[str, Any]] = [
    {"class": "Article", "properties": [*PROPERTIES, {"name": "place", "dataType": ["geoCoordinates"]}]},
    {
        "class": "Flat",
        "properties": PROPERTIES,
        "vectorIndexType": "flat",
        "vectorIndexConfig": {"bq": {"enabled": True}},
    },
    {
        "class": "Dyn",
        "properties": PROPERTIES,
        "vectorIndexType": "dynamic",
        "vectorIndexConfig": {"threshold": 100},
    },
    {"class": "Multi", "properties": PROPERTIES, "multiTenancyConfig": {"enabled": True}},
]


def items(collection: str, count: int, *, tenant: str = "", seed: int = 1) -> list[dict[str, Any]]:
    """Objects with a unique `tag`, a word of fifty, a place, and a random vector."""
    source = random.Random(f"{collection}/{tenant}/{seed}")
    made = []
    for number in range(count):
        properties: dict[str, Any] = {"tag": number, "title": f"word{number % 50} text", "all": True}
        if collection == "Article":
            properties["place"] = {"latitude": number % 80, "longitude": number % 170}
        item: dict[str, Any] = {
            "class": collection,
            "properties": properties,
            "vector": [source.gauss(0, 1) for _ in range(DIMENSIONS)],
        }
        made.append(item | ({"tenant": tenant} if tenant else {}))
    return made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def weaviate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateCluster]:
    """Loaded: Article (hnsw, geo), Flat, Dyn (dynamic, upgraded to hnsw), Multi with tenants `hot` and (COLD) `cold`.

    Tests must leave those as they are; what they change they make themselves.
    """
    environment = {"ASYNC_INDEXING": "true"}  # dynamic indexes need it
    async with weaviate_cluster(tmp_path_factory.mktemp("weaviate"), environment=environment) as cluster:
        for definition in COLLECTIONS:
            await cluster.create(definition)
        await cluster.call("POST", "/v1/schema/Multi/tenants", [{"name": "hot"}, {"name": "cold"}])
        for collection in ("Article", "Flat", "Dyn"):
            await cluster.insert(items(collection, OBJECTS))
        for tenant in ("hot", "cold"):
            await cluster.insert(items("Multi", TENANT_OBJECTS, tenant=tenant))
        await cluster.wait_until_indexed()
        await cluster.call("PUT", "/v1/schema/Multi/tenants", [{"name": "cold", "activityStatus": "COLD"}])
        yield cluster


@pytest.fixture
def node(weaviate: WeaviateCluster) -> WeaviateNode:
    return weaviate.nodes[0]


@pytest.fixture
def data_path(node: WeaviateNode) -> Path:
    return node.data_path


@pytest_asyncio.fixture(loop_scope="session")
async def raft(node: WeaviateNode) -> AsyncIterator[RaftClient]:
    async with RaftClient(node.host, node.raft_rpc_port) as client:
        yield client
