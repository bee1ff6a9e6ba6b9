"""One cluster of three nodes per version of Weaviate: first the source of all backups, then the target of restores."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from e2e.dataset.loading import load, remove
from e2e.dataset.observation import Observation, observe
from e2e.dataset.shapes import Dataset, objects_of, small_dataset
from e2e.dataset.weaviate_http import Weaviate
from tests.agent.surroundings import Surroundings
from tests.interop.driving import our_backup, stock_backup
from tests.interop.named_vectors import NAME, load_posters, nearest_posters
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.layout.compression import CompressionType

NODES = 3
DATASET = small_dataset(objects=600, replicas=NODES)
COLLECTIONS = (*sorted(shape.name for shape in DATASET.shapes), NAME)
ADDED = 60
"""Objects that come to Article and Photo before each further backup of a chain."""
SMALL_CHUNKS = {
    "BACKUP_CHUNK_TARGET_SIZE": "65536",
    "BACKUP_MIN_CHUNK_SIZE": "4096",
    "BACKUP_SPLIT_FILE_SIZE": "32768",
    "PERSISTENCE_LSM_MAX_SEGMENT_SIZE": "4096",
}
"""So that little data has what much data has: many chunks, big files alone, files split, files left to a base, which no
compaction has replaced meanwhile."""
LEVELS = {
    CompressionType.GZIP: "DefaultCompression",
    CompressionType.ZSTD: "ZstdBestSpeed",
    CompressionType.NONE: "NoCompression",
}


@dataclass(frozen=True)
class Seen:
    """What a user sees of everything."""

    dataset: Dataset
    observation: Observation
    posters: dict[str, list[int]]


@dataclass
class Release:
    """A version's cluster, and what was to be seen when each backup was made."""

    version: str
    cluster: WeaviateCluster
    store: Surroundings
    seen: dict[str, Seen] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As part of a backup's identifier."""
        return self.version.replace(".", "-")

    async def see(self, dataset: Dataset) -> Seen:
        urls = [node.rest_url for node in self.cluster.nodes]
        return Seen(dataset, await asyncio.to_thread(observe, urls, dataset), await nearest_posters(self.cluster))

    async def empty(self) -> None:
        """All collections gone from the schema and from every disk."""
        weaviate = Weaviate(self.cluster.nodes[0].rest_url)
        await asyncio.to_thread(remove, weaviate, DATASET)
        await asyncio.to_thread(weaviate.delete_collection, NAME)
        lowered = [name.lower() for name in COLLECTIONS]
        for _ in range(600):
            if not any((node.data_path / name).exists() for node in self.cluster.nodes for name in lowered):
                return
            await asyncio.sleep(0.1)
        raise TimeoutError("collections were deleted, but their directories stay")

    async def make_full(self, directory: Path) -> None:
        """Load, then back up in every way."""
        await asyncio.to_thread(load, Weaviate(self.cluster.nodes[0].rest_url), DATASET)
        await load_posters(self.cluster)
        seen = await self.see(DATASET)
        for kind, level in LEVELS.items():
            await self._stock(f"stock-{kind}", seen, level=level)
            await self._ours(directory, f"ours-{kind}", seen, compression_level=level)
        small = {"chunk_size_bytes": 64 << 10, "split_file_bytes": 32 << 10}
        await self._ours(directory, "ours-split", seen, **small)

    async def make_chain(self) -> None:
        """Two further backups by the server, each on top of the one before, the first on `stock-zstd`."""
        base, dataset = "stock-zstd", DATASET
        for name in ("stock-chain-1", "stock-chain-2"):
            dataset = await self._grow(dataset)
            await self._stock(name, await self.see(dataset), level=LEVELS[CompressionType.ZSTD], base=base)
            base = name

    async def _grow(self, dataset: Dataset) -> Dataset:
        growing = ("Article", "Photo")
        shapes = []
        weaviate = Weaviate(self.cluster.nodes[0].rest_url)
        for shape in dataset.shapes:
            if shape.name not in growing:
                shapes.append(shape)
                continue
            shapes.append(dataclasses.replace(shape, objects=shape.objects + ADDED))
            new = list(islice(objects_of(shapes[-1], None), shape.objects, None))
            await asyncio.to_thread(weaviate.insert, new)
        return dataclasses.replace(dataset, shapes=tuple(shapes))

    def id_of(self, backup: str) -> str:
        return f"{backup}-{self.name}"

    async def _stock(self, backup: str, seen: Seen, *, level: str, base: str | None = None) -> None:
        base_id = self.id_of(base) if base else None
        await stock_backup(self.cluster, self.store, self.id_of(backup), level=level, base=base_id)
        self.seen[backup] = seen

    async def _ours(self, directory: Path, backup: str, seen: Seen, **how: Any) -> None:
        backup_id = self.id_of(backup)
        await our_backup(
            directory / backup_id,
            self.cluster,
            self.store,
            backup_id,
            version=self.version,
            collections=COLLECTIONS,
            **how,
        )
        self.seen[backup] = seen


@asynccontextmanager
async def release(directory: Path, store: Surroundings, version: str) -> AsyncIterator[Release]:
    """Running, every backup made, and empty."""
    environment = store.weaviate_environment | SMALL_CHUNKS
    async with weaviate_cluster(
        directory / "weaviate", nodes=NODES, environment=environment, version=version
    ) as cluster:
        made = Release(version, cluster, store)
        await made.make_full(directory)
        await made.make_chain()
        await made.empty()
        yield made
