"""Measures what is lost when a shard is cut while it is written to.

    python -m e2e.bench.cut_under_writes [--kinds i iud] [--replay yes no]

Writers insert, update and delete through REST; in the middle the driver cuts the one shard; the cut is restored into an
empty server, and every object that came back is searched by its own vector and by its own value. Prints one line per
run. Nothing is decided here.
"""

import argparse
import asyncio
import random
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.weaviate_cuts import ask, restore, take
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.snapshot_driver import SnapshotDriver

CLASS = "Load"
DIMENSIONS = 32
PRELOADED = 3000


class Writers:
    """A stream of acknowledged inserts, updates (new vector, new value) and deletes."""

    def __init__(self, cluster: WeaviateCluster, kinds: str, batch: int) -> None:
        self._cluster = cluster
        self._kinds = kinds
        self._batch = batch
        self._random = random.Random(7)
        self._tag = 0
        self._live: list[str] = []
        self.done: Counter[str] = Counter()
        self.stopping = False

    def item(self, identity: str | None = None) -> dict[str, Any]:
        self._tag += 1
        return {
            "class": CLASS,
            "id": identity or str(uuid.UUID(int=self._random.getrandbits(128))),
            "properties": {"tag": self._tag, "title": f"word{self._tag % 50} text", "all": True},
            "vector": [self._random.gauss(0, 1) for _ in range(DIMENSIONS)],
        }

    async def preload(self, count: int) -> None:
        objects = [self.item() for _ in range(count)]
        await self._cluster.insert(objects)
        self._live += [each["id"] for each in objects]

    async def run(self) -> None:
        while not self.stopping:
            kind = self._random.choice(self._kinds)
            if kind == "i":
                objects = [self.item() for _ in range(self._batch)]
                await self._cluster.insert(objects)
                self._live += [each["id"] for each in objects]
            elif kind == "u":
                objects = [self.item(self._random.choice(self._live)) for _ in range(self._batch)]
                objects = list({each["id"]: each for each in objects}.values())
                await self._cluster.insert(objects)
            else:
                objects = [{}] * max(1, self._batch // 4)
                for _ in objects:
                    victim = self._live.pop(self._random.randrange(len(self._live)))
                    await self._cluster.call("DELETE", f"/v1/objects/{CLASS}/{victim}")
            self.done[kind] += len(objects)


async def measure(
    directory: Path, *, replayed: bool, kinds: str, batch: int, writers: int, vector_index: str, asynchronous: bool
) -> None:
    environment = {"ASYNC_INDEXING": str(asynchronous).lower()}
    async with weaviate_cluster(directory / "a", environment=environment) as source:
        await source.create(
            {
                "class": CLASS,
                "vectorIndexType": vector_index,
                "properties": [
                    {"name": "tag", "dataType": ["int"]},
                    {"name": "title", "dataType": ["text"]},
                    {"name": "all", "dataType": ["boolean"]},
                ],
            }
        )
        load = Writers(source, kinds, batch)
        await load.preload(PRELOADED)
        tasks = [asyncio.create_task(load.run()) for _ in range(writers if kinds else 0)]
        await asyncio.sleep(3)
        node = source.nodes[0]
        async with RaftClient(node.host, node.raft_rpc_port) as raft:
            class_json, state, version = await raft.snapshot(CLASS)
        (shard,) = state["physical"]
        driver = SnapshotDriver(node.host, node.data_port, data_path=node.data_path, operation_uid="0" * 32)
        before, started = load.done.total(), time.monotonic()
        cut = await driver.cut(CLASS, shard, schema_version=version)
        elapsed = time.monotonic() - started
        during = load.done.total() - before
        await asyncio.to_thread(take, cut, directory / "taken")
        await driver.release(cut)
        await driver.close()
        await asyncio.sleep(0.5)
        load.stopping = True
        await asyncio.gather(*tasks)
    async with weaviate_cluster(directory / "b", environment=environment) as target:
        if replayed:
            late_writes.prepare(directory / "taken" / CLASS.lower() / shard)
        await restore(target, CLASS, directory / "taken", class_json=class_json, state=state)
        late = directory / "taken" / CLASS.lower() / shard / late_writes.LATE_WRITES
        touched = 0
        if replayed and late.exists():
            there = target.nodes[0]
            touched = await late_writes.replay(there.host, there.data_port, collection=CLASS, shard=shard, path=late)
        await asyncio.sleep(3 if asynchronous else 0)
        await target.wait_until_indexed()
        answers = await ask(target, CLASS, tag="tag", everything='path: ["all"], operator: Equal, valueBoolean: true')
    print(
        f"replayed={touched} {vector_index}{' async' if asynchronous else ''} kinds={kinds or '-'} batch={batch}: "
        f"{dict(load.done)} written, "
        f"~{during} during the cut of {elapsed * 1000:.0f} ms (longest {cut.halt_seconds * 1000:.0f} ms): "
        f"{answers.objects} objects, "
        f"vector misses {len(answers.vector_misses)}, filter misses {len(answers.filter_misses)}, "
        f"extra postings {answers.counted_filtered - answers.counted}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag: Callable[..., Any] = parser.add_argument
    flag("--replay", nargs="+", default=["yes", "no"])
    flag("--kinds", nargs="+", default=["i", "iud"])
    flag("--batch", type=int, default=20)
    flag("--writers", type=int, default=4)
    flag("--runs", type=int, default=1)
    flag("--vector-index", default="hnsw")
    flag("--async-indexing", action="store_true")
    options = parser.parse_args()
    for _ in range(options.runs):
        for kinds in options.kinds:
            for replayed in options.replay:
                directory = Path(tempfile.mkdtemp(prefix="cut-"))
                try:
                    asyncio.run(
                        measure(
                            directory,
                            replayed=replayed == "yes",
                            kinds=kinds,
                            batch=options.batch,
                            writers=options.writers,
                            vector_index=options.vector_index,
                            asynchronous=options.async_indexing,
                        )
                    )
                finally:
                    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
