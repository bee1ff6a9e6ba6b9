"""One loaded Weaviate and one S3 server for all agent tests; each test uses backup ids of its own."""

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from e2e.dataset.comparison import compare
from e2e.dataset.loading import load, remove
from e2e.dataset.observation import Observation, observe
from e2e.dataset.shapes import Dataset, small_dataset
from e2e.dataset.weaviate_http import Weaviate
from tests.agent.surroundings import Surroundings, s3_server
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

DATASET = small_dataset(objects=1500, replicas=1)


@dataclass(frozen=True)
class Source:
    """A server with the data set, what a user sees in it, and a store."""

    cluster: WeaviateCluster
    store: Surroundings
    dataset: Dataset
    before: Observation

    @property
    def collections(self) -> tuple[str, ...]:
        return tuple(sorted(shape.name for shape in self.dataset.shapes))


async def observed(cluster: WeaviateCluster, dataset: Dataset) -> Observation:
    return await asyncio.to_thread(observe, [cluster.nodes[0].rest_url], dataset)


def differences(before: Observation, after: Observation) -> list[str]:
    """What a user could tell apart.

    Keyword scores carry the average length of a property, of which a server under load holds a newer value in memory
    than on disk, so that its own backup and restore move them by less than a thousandth, too: same results, in the same
    order, with nearly the same score are the same.
    """
    rankings = {
        key: tuple(
            old if (old.id == new.id and math.isclose(old.score, new.score, rel_tol=1e-3)) else new
            for old, new in zip(before.rankings.get(key, hits), hits, strict=False)
        )
        if len(before.rankings.get(key, ())) == len(hits)
        else hits
        for key, hits in after.rankings.items()
    }
    return compare(before, dataclasses.replace(after, rankings=rankings))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def target(tmp_path_factory: pytest.TempPathFactory, source: Source) -> AsyncIterator[WeaviateCluster]:
    """An empty server to restore to, with Weaviate's own backup module on the same store; tests empty it first."""
    directory = tmp_path_factory.mktemp("target")
    async with weaviate_cluster(directory, environment=source.store.weaviate_environment) as cluster:
        yield cluster


async def emptied(cluster: WeaviateCluster, dataset: Dataset) -> None:
    """All collections gone from the schema and the disk."""
    await asyncio.to_thread(remove, Weaviate(cluster.nodes[0].rest_url), dataset)
    data_path = cluster.nodes[0].data_path
    for _ in range(600):
        if not any((data_path / shape.name.lower()).exists() for shape in dataset.shapes):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("collections were deleted, but their directories stay")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def source(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Source]:
    directory = tmp_path_factory.mktemp("source")
    async with (
        s3_server(directory) as store,
        weaviate_cluster(directory / "weaviate", environment=store.weaviate_environment) as cluster,
    ):
        await asyncio.to_thread(load, Weaviate(cluster.nodes[0].rest_url), DATASET)
        yield Source(cluster, store, DATASET, await observed(cluster, DATASET))
