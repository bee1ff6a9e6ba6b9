"""Measures what is lost when a shard is cut while it is written to, for every kind of index.

    python -m e2e.bench.cut_under_writes [--server-version V] [--kinds hnsw hnsw-async …] [--writes u iud] [--control]

Writers insert, update and delete through REST. Meanwhile the driver cuts the one shard, then the server backs itself
up. Each is restored into an empty server: our cut by us (late writes replayed), the same cut by stock (late writes
ignored), and the server's own backup. Then every object that came back is searched by its own vectors and by its own
values. One line per restore; `--control` adds what the source itself answers once it is quiet, and after a restart.
Nothing is decided here.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tenacity
from e2e.lab.programs import WEAVIATE_VERSION
from tests.places import place_of
from tests.weaviate_cuts import Answers, ask, restore, take
from tests.weaviate_server import WeaviateCluster, weaviate_cluster
from tests.weaviate_writers import EVERYTHING, KINDS, IndexKind, Writers

from weaviate_backup.errors import Transient
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.probing import choose_driver
from weaviate_backup.weaviate.raft import RaftClient

CLASS = "Load"
OWN = "own"
COLUMNS = "{:<14} {:<25} {:>8} {:>14} {:>14} {:>15}  {}"
WAIT_SECONDS = 120


@dataclass(frozen=True)
class Load:
    """Which server is written to, and how hard."""

    server_version: str
    writes: str
    objects: int
    batch: int
    writers: int
    pause_seconds: float
    warm_up_seconds: float


@dataclass(frozen=True)
class Taken:
    """Our cut of the one shard, linked away."""

    directory: Path
    shard: str
    class_json: dict[str, Any]
    state: dict[str, Any]
    remark: str


async def cut(source: WeaviateCluster, writers: Writers, load: Load, directory: Path) -> Taken:
    node = source.nodes[0]
    async with RaftClient(node.host, node.raft_rpc_port) as raft:
        class_json, state, version = await raft.snapshot(CLASS)
    (shard,) = state["physical"]
    driver = await choose_driver(
        node.host,
        node.data_port,
        data_root=place_of(node.data_path),
        operation_uid="0" * 32,
        server_version=load.server_version,
    )
    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(Transient),  # as an agent waits for an index that is made anew
        wait=tenacity.wait_fixed(1),
        stop=tenacity.stop_after_delay(WAIT_SECONDS),
        reraise=True,
    ):
        with attempt:
            before, started = writers.written, time.monotonic()
            frozen = await driver.cut(CLASS, shard, schema_version=version)
    elapsed, during = time.monotonic() - started, writers.written - before
    await asyncio.to_thread(take, frozen, directory)
    await driver.release(frozen)
    await driver.close()
    remark = f"{during} written during {elapsed * 1000:.0f} ms, longest halt {frozen.halt_seconds * 1000:.0f} ms"
    return Taken(directory, shard, class_json, state, remark)


async def own_backup(cluster: WeaviateCluster, action: str) -> None:
    """The server's own backup or restore, to its end."""
    path = "/v1/backups/filesystem" + (f"/{OWN}/restore" if action == "restore" else "")
    body: dict[str, Any] = {"config": {}} if action == "restore" else {"id": OWN, "include": [CLASS]}
    await cluster.call("POST", path, body)
    status = f"/v1/backups/filesystem/{OWN}" + ("/restore" if action == "restore" else "")
    async with asyncio.timeout(WAIT_SECONDS):
        while (answer := await cluster.call("GET", status))["status"] != "SUCCESS":
            assert answer["status"] not in ("FAILED", "CANCELED"), answer
            await asyncio.sleep(0.2)


async def restore_ours(target: WeaviateCluster, taken: Taken, *, replayed: bool) -> None:
    """As this product does, or as stock Weaviate does with the same files."""
    shard = taken.directory / CLASS.lower() / taken.shard
    if not replayed:
        await restore(target, CLASS, taken.directory, class_json=taken.class_json, state=taken.state)
        return
    await restore(target, CLASS, taken.directory, class_json=taken.class_json, state=taken.state)
    late, there = shard / late_writes.LATE_WRITES, target.nodes[0]
    if late.exists():
        await late_writes.replay(
            there.host, there.data_port, collection=CLASS, shard=taken.shard, captured=place_of(shard) / late.name
        )


async def emptied(target: WeaviateCluster) -> None:
    await target.call("DELETE", f"/v1/schema/{CLASS}")
    for _ in range(10 * WAIT_SECONDS):
        if not (target.nodes[0].data_path / CLASS.lower()).exists():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the collection was deleted, but its directory stays")


async def answers_of(cluster: WeaviateCluster, kind: IndexKind) -> Answers:
    if kind.asynchronous:
        await asyncio.sleep(2)  # a queue that was just opened says it is empty
    await cluster.wait_until_indexed()
    return await ask(cluster, CLASS, tag="tag", everything=EVERYTHING)


def show(kind: IndexKind, way: str, answers: Answers, remark: str = "") -> None:
    vector, filters = len(answers.vector_misses), len(answers.filter_misses)
    print(COLUMNS.format(kind.name, way, answers.objects, vector, filters, answers.extra_postings, remark), flush=True)


async def measure(directory: Path, kind: IndexKind, load: Load, *, control: bool) -> None:
    environment = {
        "ASYNC_INDEXING": str(kind.asynchronous).lower(),
        "ENABLE_MODULES": "backup-filesystem",
        "BACKUP_FILESYSTEM_PATH": str(directory / "backups"),
    }
    async with weaviate_cluster(directory / "a", environment=environment, version=load.server_version) as source:
        await source.create(kind.definition(CLASS))
        writers = Writers(source, CLASS, kind, kinds=load.writes)
        await writers.insert(load.objects)
        async with writers.running(load.writers, batch=load.batch, pause_seconds=load.pause_seconds):
            await asyncio.sleep(load.warm_up_seconds)
            taken = await cut(source, writers, load, directory / "taken")
            await own_backup(source, "create")
        if control:
            show(kind, "source, quiet", await answers_of(source, kind), f"{writers.written} written in all")
            await source.stop_node(source.nodes[0])
            source.start_node(source.nodes[0])
            await source.wait_until_synchronized()
            show(kind, "source, restarted", await answers_of(source, kind))
    async with weaviate_cluster(directory / "b", environment=environment, version=load.server_version) as target:
        await own_backup(target, "restore")
        show(kind, "server's own", await answers_of(target, kind))
        await emptied(target)
        await restore_ours(target, taken, replayed=False)
        show(kind, "ours, restored by stock", await answers_of(target, kind), taken.remark)
        await emptied(target)
        await restore_ours(target, taken, replayed=True)
        show(kind, "ours, restored by us", await answers_of(target, kind))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag: Callable[..., Any] = parser.add_argument
    flag("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    flag("--server-version", default=WEAVIATE_VERSION)
    flag("--writes", default="iud", help="what writers do: inserts, updates, deletes")
    flag("--objects", type=int, default=1500)
    flag("--batch", type=int, default=20)
    flag("--writers", type=int, default=3)
    flag("--pause", type=float, default=0.1, help="seconds a writer rests between two batches")
    flag("--warm-up", type=float, default=2.0, help="seconds of load before the cut")
    flag("--control", action="store_true")
    flag("--runs", type=int, default=1)
    options = parser.parse_args()
    load = Load(
        options.server_version,
        options.writes,
        options.objects,
        options.batch,
        options.writers,
        options.pause,
        options.warm_up,
    )
    print(COLUMNS.format("kind", "way", "objects", "vector misses", "filter misses", "extra postings", ""))
    for _ in range(options.runs):
        for name in options.kinds:
            directory = Path(tempfile.mkdtemp(prefix="cut-"))
            try:
                asyncio.run(measure(directory, KINDS[name], load, control=options.control))
            finally:
                shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
