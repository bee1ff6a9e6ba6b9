"""The driver of servers before 1.38.3, on 1.37.14: what a cut holds, that it is one instant, and that halts end."""

import asyncio
import shutil
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.places import path_of, place_of
from tests.weaviate.conftest import COLLECTIONS, OBJECTS, items
from tests.weaviate_cuts import ask, restore, take
from tests.weaviate_server import WeaviateCluster, weaviate_cluster
from tests.weaviate_writers import EVERYTHING, KINDS, Writers

from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate import pause_staging, snapshot_staging
from weaviate_backup.weaviate.commit_log import end_at_instant
from weaviate_backup.weaviate.pause_driver import BETWEEN_HALTS_SECONDS, PauseDriver
from weaviate_backup.weaviate.probing import choose_driver
from weaviate_backup.weaviate.protocol import file_replication_pb2, file_replication_pb2_grpc
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.shard_source import ShardCut

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
RELEASE = "1.37.14"
UID = "6f1c2a9e-0d3b-4a52-9a3e-1f0d8c7b6a55"
WATCHDOG_SECONDS = 4
PRELOADED = 300


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def source(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateCluster]:
    """Loaded as the usual server of these tests is, with a short watchdog, and indexing at once."""
    environment = {"TRANSFER_INACTIVITY_TIMEOUT": f"{WATCHDOG_SECONDS}s"}
    directory = tmp_path_factory.mktemp("pause")
    async with weaviate_cluster(directory, environment=environment, version=RELEASE) as cluster:
        for definition in COLLECTIONS:
            if definition["class"] != "Dyn":  # dynamic indexes need asynchronous indexing
                await cluster.create(definition)
        await cluster.call("POST", "/v1/schema/Multi/tenants", [{"name": "hot"}, {"name": "cold"}])
        for collection in ("Article", "Flat"):
            await cluster.insert(items(collection, OBJECTS))
        for tenant in ("hot", "cold"):
            await cluster.insert(items("Multi", 60, tenant=tenant))
        await cluster.call("PUT", "/v1/schema/Multi/tenants", [{"name": "cold", "activityStatus": "COLD"}])
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateCluster]:
    async with weaviate_cluster(tmp_path_factory.mktemp("target"), version=RELEASE) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def driver(source: WeaviateCluster) -> AsyncIterator[PauseDriver]:
    node = source.nodes[0]
    chosen = await choose_driver(
        node.host, node.data_port, data_root=place_of(node.data_path), operation_uid=UID, server_version=RELEASE
    )
    assert isinstance(chosen, PauseDriver)
    yield chosen
    await chosen.close()


async def shard_of(source: WeaviateCluster, collection: str) -> str:
    node = source.nodes[0]
    async with RaftClient(node.host, node.raft_rpc_port) as raft:
        return str(next(iter((await raft.sharding_state(collection))[0]["physical"])))


async def call(source: WeaviateCluster, method: str, message: str, collection: str, shard: str) -> None:
    """One call of the service itself, for what the driver would not do."""
    node = source.nodes[0]
    async with grpc.aio.insecure_channel(f"{node.host}:{node.data_port}") as channel:
        stub = file_replication_pb2_grpc.FileReplicationServiceStub(channel)
        await getattr(stub, method)(getattr(file_replication_pb2, message)(collection=collection, shard=shard))


async def is_halted(source: WeaviateCluster, collection: str, shard: str) -> bool:
    """A shard that is not halted refuses to be listed."""
    try:
        await call(source, "ListFiles", "ListRequest", collection, shard)
    except grpc.aio.AioRpcError as error:
        assert "not paused" in str(error.details())
        return False
    return True


def staged(source: WeaviateCluster) -> list[str]:
    return [path.name for path in source.nodes[0].data_path.glob(".replica-staging-*")]


@pytest.mark.parametrize(
    ("collection", "wanted"),
    [
        ("Article", {"main.hnsw.commitlog.d/", "geo.place.hnsw.commitlog.d/"}),
        ("Flat", {"meta.db", "lsm/vectors/", "lsm/vectors_compressed/"}),
        ("Multi", {"main.hnsw.commitlog.d/"}),
    ],
)
async def test_a_cut_is_whole_and_the_shard_is_let_go_before_it_is_read(
    driver: PauseDriver, source: WeaviateCluster, collection: str, wanted: set[str]
) -> None:
    shard = "hot" if collection == "Multi" else await shard_of(source, collection)
    cut = await driver.cut(collection, shard, schema_version=0)
    assert not await is_halted(source, collection, shard)
    names = {file.path for file in cut.files}
    always = {"lsm/objects/segment-", "lsm/property_tag/", "lsm/property_title_searchable/", "proplengths", "version"}
    for start in wanted | always:
        assert any(name.startswith(start) for name in names), start
    assert cut.files[-1].path == "indexcount"
    assert len(names) == len(cut.files)
    assert 0 < cut.halt_seconds < 30
    live = path_of(snapshot_staging.shard_directory(place_of(source.nodes[0].data_path), collection, shard))
    assert all(file.source.is_file() and not file.mutable for file in cut.files)
    forgotten = {
        path.relative_to(live).as_posix()
        for path in live.rglob("*")
        if path.is_file() and path.stat().st_size and path.suffix not in (".wal", ".tmp")
    } - names
    assert {name for name in forgotten if not name.startswith("hashtree")} == set()
    assert staged(source)
    await driver.release(cut)
    await driver.release(cut)
    assert staged(source) == []


async def test_an_inactive_tenant_or_unknown_shard_is_refused(driver: PauseDriver, source: WeaviateCluster) -> None:
    for collection, shard in (("Multi", "cold"), ("Article", "nosuchshard"), ("Missing", "shard")):
        (source.nodes[0].data_path / collection.lower() / shard).mkdir(parents=True, exist_ok=True)
        with pytest.raises(Permanent) as caught:
            await driver.cut(collection, shard, schema_version=0)
        assert caught.value.reason == "ShardNotFound"
        if shard != "cold":
            shutil.rmtree(source.nodes[0].data_path / collection.lower() / shard)
    assert staged(source) == []


async def test_what_a_killed_agent_left_halted_is_resumed_once(driver: PauseDriver, source: WeaviateCluster) -> None:
    """The mark beside the data tells whether there is anything to resume; another's halt is not lifted."""
    shard = await shard_of(source, "Flat")
    left = ShardCut("Flat", shard, driver="", files=(), halt_seconds=0.0)
    await call(source, "ResumeFileActivity", "ResumeRequest", "Flat", shard)  # of nothing: harmless
    await call(source, "PauseFileActivity", "PauseRequest", "Flat", shard)
    await driver.release(left)
    assert await is_halted(source, "Flat", shard), "not ours, as far as can be told"
    live = snapshot_staging.shard_directory(place_of(source.nodes[0].data_path), "Flat", shard)
    pause_staging.prepare(driver._staging("Flat", shard), live)
    await driver.release(left)
    assert not await is_halted(source, "Flat", shard)
    assert staged(source) == []


async def test_a_cancelled_or_failed_cut_leaves_nothing_halted(driver: PauseDriver, source: WeaviateCluster) -> None:
    shard = await shard_of(source, "Article")
    for seconds in (0.0, 0.01, 0.05, 0.1):
        task = asyncio.create_task(driver.cut("Article", shard, schema_version=0))
        await asyncio.sleep(BETWEEN_HALTS_SECONDS + seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.5)
        assert not await is_halted(source, "Article", shard), seconds
        await driver.release(ShardCut("Article", shard, driver="", files=(), halt_seconds=0.0))
    assert staged(source) == []


async def test_two_halts_of_a_shard_are_apart(driver: PauseDriver, source: WeaviateCluster) -> None:
    shard = await shard_of(source, "Flat")
    await driver.release(await driver.cut("Flat", shard, schema_version=0))
    ended = time.monotonic()
    await driver.release(await driver.cut("Flat", shard, schema_version=0))
    assert time.monotonic() - ended >= BETWEEN_HALTS_SECONDS * 0.9


async def test_the_watchdog_lets_a_shard_go_whose_agent_never_comes_back(source: WeaviateCluster) -> None:
    shard = await shard_of(source, "Flat")
    await call(source, "PauseFileActivity", "PauseRequest", "Flat", shard)
    assert await is_halted(source, "Flat", shard)
    await asyncio.sleep(WATCHDOG_SECONDS + 2)
    assert not await is_halted(source, "Flat", shard)


@pytest.mark.parametrize("name", ["hnsw", "sq", "rq", "named", "flat"])
async def test_a_cut_under_writes_misses_nothing(
    name: str, driver: PauseDriver, source: WeaviateCluster, target: WeaviateCluster, tmp_path: Path
) -> None:
    busy = f"Busy{name.capitalize()}"
    await source.create(KINDS[name].definition(busy))
    writers = Writers(source, busy, KINDS[name])
    await writers.insert(PRELOADED)
    async with writers.running(3, batch=8):
        node = source.nodes[0]
        async with RaftClient(node.host, node.raft_rpc_port) as raft:
            class_json, state, version = await raft.snapshot(busy)
        (shard,) = state["physical"]
        before = writers.written
        cut = await driver.cut(busy, shard, schema_version=version)
        assert writers.written > before, "the cut was not tried under load"
    take(cut, tmp_path)
    await driver.release(cut)
    await restore(target, busy, tmp_path, class_json=class_json, state=state)
    answers = await ask(target, busy, tag="tag", everything=EVERYTHING)
    assert (answers.vector_misses, answers.filter_misses) == ((), ())
    assert answers.counted_filtered == answers.counted == answers.objects > PRELOADED / 2


def entry(kind: int, *fields: Any) -> bytes:
    formats = {0: "<BQH", 1: "<BQH", 4: "<BQ", 11: "<B"}
    return struct.pack(formats[kind], kind, *fields)


def links(node: int, *targets: int) -> bytes:
    return struct.pack(f"<BQHH{len(targets)}Q", 10, node, 0, len(targets), *targets)


async def test_a_log_ends_before_the_first_later_insert(tmp_path: Path) -> None:
    """Kept: all that was on disk, and hidden entries but deletions; a torn end is left away."""
    path = tmp_path / "1764000000"
    on_disk = entry(0, 5, 1) + links(5, 1, 2) + entry(4, 3)
    hidden = entry(0, 6, 0) + links(6, 5)
    path.write_bytes(on_disk + hidden + entry(4, 2) + entry(0, 7, 0) + links(7, 6))
    end_at_instant(place_of(path.parent) / path.name, len(on_disk) + 4, 7)
    assert path.read_bytes() == on_disk + hidden
    path.write_bytes(on_disk + hidden[:-3])
    end_at_instant(place_of(path.parent) / path.name, len(on_disk), 7)
    assert path.read_bytes() == on_disk + entry(0, 6, 0)
    drawn = struct.pack("<BIIII", 14, 2, 8, 2, 3) + bytes(6 * 2 * 3)
    path.write_bytes(drawn + on_disk + hidden + entry(0, 7, 0))
    end_at_instant(place_of(path.parent) / path.name, len(drawn), 7)
    assert path.read_bytes() == drawn + entry(0, 5, 1) + links(5, 1, 2) + hidden
    path.write_bytes(on_disk + entry(11))
    with pytest.raises(Transient) as caught:
        end_at_instant(place_of(path.parent) / path.name, len(on_disk), 7)
    assert caught.value.reason == "CutNotRecognized"
