"""What a cut of each kind of shard holds, and that nothing of it stays in the server."""

from pathlib import Path

import pytest
import pytest_asyncio
from tests.places import path_of, place_of
from tests.weaviate.conftest import items
from tests.weaviate_server import WeaviateCluster, WeaviateNode

from weaviate_backup.errors import Permanent
from weaviate_backup.weaviate import snapshot_staging
from weaviate_backup.weaviate.probing import choose_driver
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.shard_source import ShardCut, ShardSource
from weaviate_backup.weaviate.snapshot_driver import SnapshotDriver, combine

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]

UID = "6f1c2a9e-0d3b-4a52-9a3e-1f0d8c7b6a55"


async def cut_of(driver: ShardSource, raft: RaftClient, collection: str, shard: str = "") -> tuple[ShardCut, set[str]]:
    state, version = await raft.sharding_state(collection)
    cut = await driver.cut(collection, shard or next(iter(state["physical"])), schema_version=version)
    return cut, {file.path for file in cut.files}


def pinned(data_path: Path) -> list[str]:
    return [path.name for path in data_path.glob(".replica-staging-*")]


@pytest_asyncio.fixture(loop_scope="session")
async def driver(node: WeaviateNode) -> SnapshotDriver:
    return SnapshotDriver(node.host, node.data_port, data_root=place_of(node.data_path), operation_uid=UID)


@pytest.mark.parametrize(
    ("collection", "wanted"),
    [
        ("Article", {"main.hnsw.commitlog.d/", "geo.place.hnsw.commitlog.d/"}),
        ("Flat", {"meta.db", "lsm/vectors/", "lsm/vectors_compressed/"}),
        ("Dyn", {"index.db", "main.hnsw.commitlog.d/"}),
        ("Multi", {"main.hnsw.commitlog.d/"}),
    ],
)
async def test_a_cut_is_whole_and_released(
    driver: SnapshotDriver, raft: RaftClient, data_path: Path, collection: str, wanted: set[str]
) -> None:
    cut, names = await cut_of(driver, raft, collection, "hot" if collection == "Multi" else "")
    always = {"lsm/objects/segment-", "lsm/property_tag/", "lsm/property_title_searchable/"}
    for start in wanted | always | {"proplengths", "version"}:
        assert any(name.startswith(start) for name in names), start
    assert cut.files[-1].path == "indexcount", "the doc id counter is the newest file"
    assert len(names) == len(cut.files)
    assert 0 < cut.halt_seconds < 10
    live = path_of(snapshot_staging.shard_directory(place_of(data_path), collection, cut.shard))
    for file in cut.files:
        assert file.source.is_file() and not file.mutable, file.path
    for name in ("index.db", "meta.db", "indexcount"):
        private = next((path_of(file.source) for file in cut.files if file.path == name), None)
        if private is not None:
            assert private.stat().st_ino != (live / name).stat().st_ino, "a copy of what changes in place"
            assert private.read_bytes() == (live / name).read_bytes(), "nobody writes here"
    forgotten = {
        path.relative_to(live).as_posix()
        for path in live.rglob("*")
        if path.is_file() and path.stat().st_size and path.suffix not in (".wal", ".tmp")
    } - names
    assert {name for name in forgotten if ".queue.d/" not in name and not name.startswith("hashtree")} == set()
    assert pinned(data_path)
    await driver.release(cut)
    assert pinned(data_path) == []
    await driver.release(cut)


async def test_a_quiet_shard_is_called_twice_a_busy_one_more(
    driver: SnapshotDriver, raft: RaftClient, data_path: Path
) -> None:
    cut, _ = await cut_of(driver, raft, "Flat")
    assert len(pinned(data_path)) == 2
    await driver.release(cut)


async def test_a_repeated_cut_replaces_its_snapshots(driver: SnapshotDriver, raft: RaftClient, data_path: Path) -> None:
    """As after a restart of the agent between cut and release."""
    first, _ = await cut_of(driver, raft, "Flat")
    before = sorted(pinned(data_path))
    second, names = await cut_of(driver, raft, "Flat")
    assert sorted(pinned(data_path)) == before
    assert names == {file.path for file in first.files}
    assert all(file.source.is_file() for file in second.files)
    await driver.release(ShardCut(second.collection, second.shard, driver="", files=(), halt_seconds=0))
    assert pinned(data_path) == [], "the names are enough to release"


async def test_an_inactive_tenant_or_unknown_shard_is_refused(
    driver: SnapshotDriver, raft: RaftClient, data_path: Path
) -> None:
    for collection, shard in (("Multi", "cold"), ("Article", "nosuchshard"), ("Missing", "shard")):
        with pytest.raises(Permanent) as caught:
            await driver.cut(collection, shard, schema_version=0)
        assert caught.value.reason == "ShardNotFound"
    assert pinned(data_path) == []
    assert (await raft.sharding_state("Multi"))[0]["physical"]["cold"]["status"] == "COLD", "it was not woken"


async def test_release_works_when_the_collection_is_gone(
    driver: SnapshotDriver, raft: RaftClient, data_path: Path, weaviate: WeaviateCluster
) -> None:
    await weaviate.create({"class": "Brief", "properties": [{"name": "tag", "dataType": ["int"]}]})
    await weaviate.insert([each | {"class": "Brief"} for each in items("Flat", 20)])
    cut, _ = await cut_of(driver, raft, "Brief")
    await weaviate.call("DELETE", "/v1/schema/Brief")
    assert pinned(data_path)
    await driver.release(cut)
    assert pinned(data_path) == []


async def test_a_wrong_data_path_is_noticed(node: WeaviateNode, raft: RaftClient, tmp_path: Path) -> None:
    driver = SnapshotDriver(node.host, node.data_port, data_root=place_of(tmp_path), operation_uid=UID)
    with pytest.raises(Permanent) as caught:
        await cut_of(driver, raft, "Flat")
    assert caught.value.reason == "DataPathMismatch"
    assert pinned(node.data_path) == []


async def test_the_driver_is_found_by_asking(node: WeaviateNode, raft: RaftClient) -> None:
    driver = await choose_driver(
        node.host, node.data_port, data_root=place_of(node.data_path), operation_uid=UID, server_version="1.39.1"
    )
    cut, names = await cut_of(driver, raft, "Article")
    assert "indexcount" in names
    await driver.release(cut)
    await driver.close()


async def test_a_server_without_the_calls_is_named(node: WeaviateNode, tmp_path: Path) -> None:
    """The public gRPC port speaks gRPC and knows none of them."""
    with pytest.raises(Permanent) as caught:
        await choose_driver(
            node.host, node.grpc_port, data_root=place_of(tmp_path), operation_uid=UID, server_version="1.30.0"
        )
    assert caught.value.reason == "DriverUnsupported"
    assert "1.30.0" in caught.value.message and "1.38.3" in caught.value.message


async def test_staging_directories_are_named_as_the_server_names_them() -> None:
    root = place_of(Path("/data"))
    assert snapshot_staging.staging_directory(root, "op-1", "Article").name == (
        ".replica-staging-op-1-article-cde2a0412e74"
    )
    assert snapshot_staging.staging_directory(root, UID, "Article").name == (
        ".replica-staging-6f1c2a9e-0d3b-4a52-9-716dd444db53"
    )


async def test_operation_ids_are_unique_and_safe() -> None:
    ids = {
        snapshot_staging.operation_id(UID, collection, shard, cut)
        for collection in ("A", "B")
        for shard in ("s", "S")
        for cut in range(3)
    }
    assert len(ids) == 12
    assert all(set(each) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for each in ids)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "", "a//b", "a/./b", "a\\b"])
async def test_names_that_leave_a_shard_are_refused(name: str) -> None:
    with pytest.raises(Permanent):
        snapshot_staging.check_names((name,))


async def test_objects_and_postings_come_from_the_earlier_cut_and_all_else_from_the_later() -> None:
    earlier, later = place_of(Path("/one")), place_of(Path("/two"))
    old = (
        "lsm/objects/segment-1.db",
        "lsm/property_tag/segment-1.db",
        "lsm/vectors_compressed/segment-1.db",
        "main.queue.d/chunk-1.bin",
        "main.queue.d/chunk-2.bin",
        "indexcount",
    )
    new = (
        "lsm/objects/segment-2.db",
        "lsm/property_tag/segment-2.db",
        "lsm/vectors_compressed/segment-2.db",
        "main.hnsw.commitlog.d/1",
        "main.queue.d/chunk-3.bin",
        "indexcount",
    )
    files = combine(earlier, old, later, new, queued=frozenset({"main.queue.d/chunk-2.bin"}))
    assert [str(file.source) for file in files] == [
        "/one/lsm/objects/segment-1.db",
        "/one/lsm/property_tag/segment-1.db",
        "/one/main.queue.d/chunk-2.bin",
        "/two/lsm/vectors_compressed/segment-2.db",
        "/two/main.hnsw.commitlog.d/1",
        "/two/indexcount",
    ]
