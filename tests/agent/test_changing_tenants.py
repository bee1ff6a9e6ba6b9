"""Tenants that are activated, deactivated, deleted and made while they are read come back as they were at their cut."""

import asyncio
import base64
import contextlib
import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from e2e.lab.programs import WEAVIATE_VERSION
from tests.agent.surroundings import (
    backup_order,
    directory_store,
    restore_order,
    s3_server,
    whole_restore,
    worker_order,
)
from tests.agent_process import Agent, agent_process
from tests.interop.driving import our_backup, our_restore
from tests.weaviate_cuts import all_objects, ask
from tests.weaviate_server import WeaviateCluster, weaviate_cluster
from tests.weaviate_writers import EVERYTHING, KINDS, Writers

from weaviate_backup.agent.journal import GONE
from weaviate_backup.agent.workspace import SCHEMA
from weaviate_backup.core.session import DATA_DIRECTORY, Step
from weaviate_backup.layout import keys
from weaviate_backup.layout.manifests import ShardRecord, read_node_manifest
from weaviate_backup.weaviate.late_writes import LATE_WRITES
from weaviate_backup.weaviate.raft import RaftClient

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]

CLASS = "Tenants"
TENANTS = 40
TOGGLES_PER_SECOND = 5
DIMENSIONS = 8


@dataclass
class Life:
    """What is known of one tenant."""

    tried: set[str] = field(default_factory=set)
    acknowledged: dict[str, datetime] = field(default_factory=dict)
    deleted_at: list[datetime] = field(default_factory=list)


class Tenants:
    """The tenants of a collection and all that was done to them."""

    def __init__(self, cluster: WeaviateCluster) -> None:
        self._cluster = cluster
        self._random = random.Random(11)
        self._active: set[str] = set()
        self.lives: dict[str, Life] = {}
        self.toggled = self.written = 0
        self.stopping = False

    async def make(self, *names: str, status: str = "HOT") -> None:
        body = [{"name": name, "activityStatus": status} for name in names]
        await self._cluster.call("POST", f"/v1/schema/{CLASS}/tenants", body)
        for name in names:
            self.lives.setdefault(name, Life())
        self._active |= set(names) if status == "HOT" else set()

    async def set_status(self, name: str, status: str) -> None:
        self._active.discard(name)
        await self._cluster.call("PUT", f"/v1/schema/{CLASS}/tenants", [{"name": name, "activityStatus": status}])
        if status == "HOT":
            self._active.add(name)

    async def write(self, name: str, count: int) -> None:
        """Objects, remembered as acknowledged only if they were."""
        life = self.lives[name]
        ids = [str(uuid.UUID(int=self._random.getrandbits(128))) for _ in range(count)]
        life.tried |= set(ids)
        vector = [self._random.gauss(0, 1) for _ in range(DIMENSIONS)]
        objects = [{"class": CLASS, "tenant": name, "id": each, "properties": {}, "vector": vector} for each in ids]
        answers = await self._cluster.call("POST", "/v1/batch/objects", {"objects": objects})
        now = datetime.now(UTC)
        for answer in answers:
            if not (answer.get("result") or {}).get("errors"):
                life.acknowledged[answer["id"]] = now
                self.written += 1

    async def toggle(self) -> None:
        """One after the other goes to sleep and wakes again; some are deleted, some of those are made again."""
        names = sorted(name for name in self.lives if name.startswith("t"))
        while not self.stopping:
            name = self._random.choice(names)
            await self.set_status(name, "COLD" if name in self._active else "HOT")
            self.toggled += 1
            await asyncio.sleep(1 / TOGGLES_PER_SECOND)

    async def delete_and_make(self) -> None:
        for number in range(TENANTS // 8):
            if self.stopping:
                return
            name = f"doomed{number}"
            self._active.discard(name)
            await self._cluster.call("DELETE", f"/v1/schema/{CLASS}/tenants", [name])
            self.lives[name].deleted_at.append(datetime.now(UTC))
            if number % 2:
                await self.make(name)
                await self.write(name, 3)
            await self.make(f"new{number}")
            await self.write(f"new{number}", 3)
            await asyncio.sleep(0.3)

    async def keep_writing(self) -> None:
        while not self.stopping:
            if self._active:
                with contextlib.suppress(AssertionError):  # the tenant fell asleep, or is gone
                    await self.write(self._random.choice(sorted(self._active)), 2)
            await asyncio.sleep(0.01)


async def loaded(cluster: WeaviateCluster) -> Tenants:
    """Half of them asleep; `wal*` went to sleep right after a write, `never*` were never awake."""
    tenants = Tenants(cluster)
    await cluster.create({"class": CLASS, "properties": [], "multiTenancyConfig": {"enabled": True}})
    ordinary = [f"t{number}" for number in range(TENANTS)]
    doomed = [f"doomed{number}" for number in range(TENANTS // 8)]
    await tenants.make(*ordinary, *doomed, "wal0", "wal1")
    await tenants.make("never0", status="COLD")
    for name in (*ordinary, *doomed):
        await tenants.write(name, 10)
    for name in ordinary[::2]:
        await tenants.set_status(name, "COLD")
    for name in ("wal0", "wal1"):
        await tenants.write(name, 7)
        await tenants.set_status(name, "COLD")
    return tenants


async def freeze_while_they_change(agent: Agent, tenants: Tenants) -> dict[str, Any]:
    running = [
        asyncio.create_task(work) for work in (tenants.toggle(), tenants.keep_writing(), tenants.delete_and_make())
    ]
    try:
        await asyncio.sleep(1)
        report = await agent.step(Step.FREEZE)
    finally:
        tenants.stopping = True
        await asyncio.gather(*running)
    assert report.frozen is not None
    return report.frozen.model_dump()


async def test_no_tenant_comes_back_short(tmp_path: Path) -> None:
    store = directory_store(tmp_path)
    source_directory, target_directory, worker_directory = (tmp_path / name for name in ("a", "b", "worker"))
    async with weaviate_cluster(source_directory) as source:
        tenants = await loaded(source)
        server_version = (await source.call("GET", "/v1/meta"))["version"]
        order = backup_order(source, store, (CLASS,), server_version=server_version)
        data_path = source.nodes[0].data_path
        async with agent_process(tmp_path, order=order, data_path=data_path) as agent:
            frozen = await freeze_while_they_change(agent, tenants)
            uploaded = (await agent.step(Step.UPLOAD, collections=(CLASS,))).uploaded
            assert uploaded is not None
            worker_directory.mkdir()
            (worker_directory / "store").symlink_to(store.objects)
            async with agent_process(worker_directory, order=worker_order(order), data_path=None) as worker:
                await worker.step(Step.VERIFY, verify_node=order.node)
            await agent.step(Step.COMMIT, verified={order.node: uploaded.manifest_sha256})
            await agent.step(Step.RELEASE)
    assert tenants.toggled > 5 and tenants.written > 20, "the tenants were left alone"
    assert frozen["tenants_offloaded"] == 0
    manifest = store.objects / keys.node_manifest("b1", order.node)
    with manifest.open("rb") as stream:
        lines = list(read_node_manifest(stream, key=manifest.name))
    cuts = {line.shard: line for line in lines if isinstance(line, ShardRecord)}
    async with weaviate_cluster(target_directory) as target:
        again = restore_order(target, store).model_copy(update={"server_version": server_version})
        restore_directory = tmp_path / "restore"
        restore_directory.mkdir()
        (restore_directory / "store").symlink_to(store.objects)
        await whole_restore(restore_directory, target, store, again, (CLASS,))
        await compare(target, tenants, cuts)


async def compare(target: WeaviateCluster, tenants: Tenants, cuts: dict[str, ShardRecord]) -> None:
    """Everything acknowledged before a tenant's cut is there, nothing that nobody wrote, and no empty ghosts."""
    restored = {each["name"] for each in await target.call("GET", f"/v1/schema/{CLASS}/tenants")}
    whole = {name for name, cut in cuts.items() if cut.driver != GONE}
    assert restored == whole | {"never0"}
    assert {name for name, life in tenants.lives.items() if not life.deleted_at and name[0] != "n"} <= restored
    waking = [{"name": name, "activityStatus": "HOT"} for name in sorted(restored)]
    await target.call("PUT", f"/v1/schema/{CLASS}/tenants", waking)
    for name in sorted(whole):
        life = tenants.lives[name]
        began = cuts[name].started_at
        ended = cuts[name].ended_at
        reborn = max((at for at in life.deleted_at if at < ended), default=datetime.min.replace(tzinfo=UTC))
        found = set(await all_objects(target, CLASS, tenant=name))
        owed = {each for each, at in life.acknowledged.items() if reborn < at < began}
        assert owed <= found, f"{name} ({cuts[name].driver}) lost {len(owed - found)} of {len(owed)}"
        assert found <= life.tried, name


async def test_what_a_tenant_was_told_while_it_woke_up_is_not_lost(tmp_path: Path) -> None:
    """Inactive when the schema was read, written to while it was cut: it comes back active, with its late writes."""
    store = directory_store(tmp_path)
    async with weaviate_cluster(tmp_path / "weaviate") as cluster:
        data_path = cluster.nodes[0].data_path
        await cluster.create(KINDS["hnsw"].definition(CLASS) | {"multiTenancyConfig": {"enabled": True}})
        await cluster.call("POST", f"/v1/schema/{CLASS}/tenants", [{"name": "woken"}])
        writers = Writers(cluster, CLASS, KINDS["hnsw"], tenant="woken")
        await writers.insert(600)
        order = backup_order(cluster, store, (CLASS,))
        async with agent_process(tmp_path, order=order, data_path=data_path) as agent:
            async with writers.running(3, batch=20):
                await agent.step(Step.FREEZE)
            (late,) = (data_path / DATA_DIRECTORY / order.operation_uid).rglob(LATE_WRITES)
            assert late.stat().st_size > 100, "nothing was written late"
            (schema,) = (data_path / DATA_DIRECTORY / order.operation_uid / SCHEMA).iterdir()
            content = json.loads(schema.read_text())
            content["state"]["physical"]["woken"]["status"] = "COLD"
            schema.write_text(json.dumps(content))
            uploaded = (await agent.step(Step.UPLOAD, collections=(CLASS,))).uploaded
            assert uploaded is not None
            await agent.step(Step.VERIFY, verify_node=order.node)
            await agent.step(Step.COMMIT, verified={order.node: uploaded.manifest_sha256})
            await agent.step(Step.RELEASE)
        await cluster.call("DELETE", f"/v1/schema/{CLASS}")
        (tmp_path / "restore").mkdir()
        (tmp_path / "restore" / "store").symlink_to(store.objects)
        await whole_restore(tmp_path / "restore", cluster, store, restore_order(cluster, store), (CLASS,))
        (tenant,) = await cluster.call("GET", f"/v1/schema/{CLASS}/tenants")
        assert tenant["activityStatus"] == "HOT"
        answers = await ask(cluster, CLASS, tag="tag", everything=EVERYTHING, tenant="woken")
        assert (answers.vector_misses, answers.filter_misses) == ((), ())
        assert answers.objects > 300


async def test_a_tenant_deleted_before_its_nodes_cut_is_not_made_again_empty(tmp_path: Path) -> None:
    """The leader was cut while the tenant lived, and its descriptor, from which the schema is restored, names it."""
    async with (
        s3_server(tmp_path) as store,
        weaviate_cluster(tmp_path / "weaviate", nodes=3, environment=store.weaviate_environment) as cluster,
    ):
        await cluster.create({"class": CLASS, "multiTenancyConfig": {"enabled": True}})
        tenants = Tenants(cluster)
        names = [f"t{number}" for number in range(9)]
        await tenants.make(*names)
        for name in names:
            await tenants.write(name, 3)
        async with RaftClient(cluster.nodes[0].host, cluster.nodes[0].raft_rpc_port) as raft:
            state, _ = await raft.sharding_state(CLASS)
        deleted = next(name for name in names if state["physical"][name]["belongsToNodes"] != ["weaviate-0"])

        async def delete_one() -> None:
            await cluster.call("DELETE", f"/v1/schema/{CLASS}/tenants", [deleted])

        await our_backup(
            tmp_path / "backup",
            cluster,
            store,
            "shrunk",
            version=WEAVIATE_VERSION,
            collections=(CLASS,),
            after_first_cut=delete_one,
        )
        leader = (store.objects / "shrunk" / "weaviate-0" / "backup.json").read_text()
        assert deleted in base64.b64decode(json.loads(leader)["classes"][0]["shardingState"]).decode()
        definition = await cluster.call("GET", f"/v1/schema/{CLASS}")
        await cluster.call("DELETE", f"/v1/schema/{CLASS}")
        verdict = await our_restore(tmp_path / "restore", cluster, store, "shrunk", version=WEAVIATE_VERSION)
        assert verdict.refusals == ()
        assert await cluster.call("GET", f"/v1/schema/{CLASS}") == definition
        left = {each["name"] for each in await cluster.call("GET", f"/v1/schema/{CLASS}/tenants")}
        assert left == set(names) - {deleted}
        for name in left:
            assert len(await all_objects(cluster, CLASS, tenant=name)) == 3
