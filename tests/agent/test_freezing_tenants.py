"""Tenants are frozen by what they are when it is their turn, and none of them costs or holds up what others need."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from tests.agent.hand_frozen import COLLECTION, Node, shard_of

from weaviate_backup.agent import shard_freezer
from weaviate_backup.agent.access import KEPT_FILE, Access, _keep
from weaviate_backup.agent.expansion import LocalShards, TenantStatus
from weaviate_backup.agent.fates import Fate, fates
from weaviate_backup.agent.freeze import FrozenCollection, summarize
from weaviate_backup.agent.journal import GONE, SHARD
from weaviate_backup.agent.shard_freezer import ShardFreezer
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate import inactive_tenants
from weaviate_backup.weaviate.shard_source import ShardCut

NODE, DRIVER = "weaviate-0", "made up"
AN_ACTIVE, AN_INACTIVE, AN_OFFLOADED = TenantStatus.ACTIVE, TenantStatus.INACTIVE, TenantStatus.OFFLOADED
SECONDS = 30


class Server:
    """Raft, node and driver in one. `asked`: how often it was for what; `awake`: what it has in memory."""

    def __init__(self, statuses: Mapping[str, str]) -> None:
        self.statuses = dict(statuses)
        self.asked: Counter[str] = Counter()
        self.awake: set[str] = set()
        self.busy: set[str] = set()
        self.is_there = True
        self.versions: list[int] = []

    async def tenant_statuses(self, _: str, tenants: Sequence[str]) -> dict[str, str]:
        self.asked["statuses"] += 1
        return {name: self.statuses[name] for name in tenants if name in self.statuses}

    async def sharding_state(self, _: str) -> tuple[dict[str, Any], int]:
        self.asked["state"] += 1
        physical = {name: {"belongsToNodes": [NODE], "status": each} for name, each in self.statuses.items()}
        return {"partitioningEnabled": True, "physical": physical}, 1

    async def collection(self, name: str) -> tuple[dict[str, Any], int]:
        if not self.is_there:
            raise Permanent("CollectionNotFound", f"no collection {name}")
        return {}, 1

    async def has_open(self, _: str, shard: str) -> bool:
        return shard in self.awake

    async def cut(self, collection: str, shard: str, *, schema_version: int) -> ShardCut:
        self.versions.append(schema_version)
        if shard in self.busy:
            raise Transient("ShardBusy", f"{shard} is busy")
        return ShardCut(collection, shard, driver=DRIVER, files=(), halt_seconds=0.0)

    async def release(self, _: ShardCut) -> None:
        pass


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(shard_freezer._Turn, "pause_seconds", 0.01)
    monkeypatch.setattr(shard_freezer, "LONGEST_PAUSE_SECONDS", 0.01)
    return Node(tmp_path / "node", tmp_path / "store", "0b5f2c1e", {})


def freezer_of(workspace: Workspace, server: Server) -> ShardFreezer:
    made_up = cast(Any, server)
    return ShardFreezer(workspace, Meter(), raft=made_up, node=made_up, driver=made_up)


def frozen(
    node: Node, server: Server, statuses: Mapping[str, TenantStatus], offloaded: Sequence[str] = ()
) -> Mapping[str, Fate]:
    async def freeze(freezer: ShardFreezer) -> None:
        async with asyncio.timeout(SECONDS):
            await freezer.freeze(COLLECTION, statuses, 1, multi_tenant=True)
            await freezer.freeze_brought_back(COLLECTION, offloaded, 1)

    workspace = node.workspace()
    with workspace.journal:
        asyncio.run(freeze(freezer_of(workspace, server)))
        return fates(workspace.journal).get(COLLECTION, {})


def lay(node: Node, tenant: str) -> None:
    """Files of an inactive tenant."""
    for name, content in shard_of("x").items():
        path = node.data / COLLECTION.lower() / tenant / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_tenants_that_were_never_active_are_asked_for_in_a_few_questions(node: Node) -> None:
    names = [f"t{number:04}" for number in range(2500)]
    server = Server(dict.fromkeys(names, "COLD"))
    lay(node, names[7])
    found = frozen(node, server, dict.fromkeys(names, AN_INACTIVE))
    assert {name: fate.files for name, fate in found.items() if fate.files} == {names[7]: len(shard_of("x"))}
    assert len(found) == len(names)
    assert server.asked == {"statuses": 3}


def test_one_that_wakes_for_the_first_time_meanwhile_is_cut(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"a": "COLD"})
    ask = server.tenant_statuses

    async def then_wake(collection: str, tenants: Sequence[str]) -> dict[str, str]:
        found = await ask(collection, tenants)
        lay(node, "a")
        server.awake.add("a")
        server.statuses["a"] = "HOT"
        return found

    monkeypatch.setattr(server, "tenant_statuses", then_wake)
    assert frozen(node, server, {"a": AN_INACTIVE})["a"].driver == DRIVER


def test_one_that_woke_is_not_read_from_disk(node: Node) -> None:
    """The server has its last writes in memory."""
    server = Server({"a": "HOT"})
    server.awake.add("a")
    lay(node, "a")
    assert frozen(node, server, {"a": AN_INACTIVE})["a"].driver == DRIVER


def test_busy_shards_take_the_place_of_no_other(node: Node) -> None:
    busy, others = [f"b{number}" for number in range(8)], [f"t{number}" for number in range(20)]
    server = Server(dict.fromkeys((*busy, *others), "HOT"))
    server.busy = {*busy}
    workspace = node.workspace()

    async def run() -> None:
        statuses = dict.fromkeys((*busy, *others), AN_ACTIVE)
        freezing = asyncio.create_task(freezer_of(workspace, server).freeze(COLLECTION, statuses, 1, multi_tenant=True))
        async with asyncio.timeout(SECONDS):
            while fates(workspace.journal).get(COLLECTION, {}).keys() != {*others}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        server.busy.clear()
        await freezing

    with workspace.journal:
        asyncio.run(run())
        assert fates(workspace.journal)[COLLECTION].keys() == {*busy, *others}


def test_an_offloaded_tenant_that_is_back_by_then_is_frozen(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is left where it was offloaded to."""
    server = Server({"away": "FROZEN", "back": "HOT", "asleep": "COLD", "coming": "UNFREEZING"})
    lay(node, "asleep")
    server.busy = {"coming"}
    offloaded = ("away", "back", "asleep", "coming", "deleted")

    def arrive() -> None:
        server.statuses["coming"] = "HOT"
        server.busy.clear()

    ask = server.tenant_statuses

    async def then_arrive(collection: str, tenants: Sequence[str]) -> dict[str, str]:
        found = await ask(collection, tenants)
        if tenants == ("coming",):
            arrive()
        return found

    monkeypatch.setattr(server, "tenant_statuses", then_arrive)
    found = frozen(node, server, {}, offloaded)
    assert {name: (fate.kind, fate.driver) for name, fate in found.items()} == {
        "back": (SHARD, DRIVER),
        "asleep": (SHARD, inactive_tenants.DRIVER),
        "coming": (SHARD, DRIVER),
        "deleted": (GONE, ""),
    }
    workspace = node.workspace()
    with workspace.journal:
        shards = LocalShards(dict.fromkeys(offloaded, AN_OFFLOADED), multi_tenant=True)
        _keep(workspace.directory / KEPT_FILE, Access())
        told = summarize(workspace, (COLLECTION,), {COLLECTION: FrozenCollection(COLLECTION, shards)})
    assert (told.tenants_active, told.tenants_inactive, told.tenants_offloaded_names) == (2, 1, (f"{COLLECTION}/away",))


def test_of_a_collection_that_is_gone_after_its_cuts_offloaded_tenants_stay(node: Node) -> None:
    server = Server({})
    server.is_there = False
    assert frozen(node, server, {}, ("away",)) == {}


def test_one_that_woke_for_a_moment_and_was_written_to_is_not_whole_without_files(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the sharding state that says it sleeps was on its way."""
    server, statuses = Server({"a": "COLD"}), iter(["HOT"])
    ask = server.sharding_state

    async def awake(_: str, tenants: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(tenants, next(statuses, "COLD"))

    async def then_write(collection: str) -> tuple[dict[str, Any], int]:
        answer = await ask(collection)
        lay(node, "a")
        return answer

    monkeypatch.setattr(server, "tenant_statuses", awake)
    monkeypatch.setattr(server, "sharding_state", then_write)
    assert frozen(node, server, {"a": AN_INACTIVE})["a"].files == len(shard_of("x"))


def test_one_that_sleeps_without_a_directory_is_whole_without_files(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it is not there after its status was asked for."""
    server, statuses = Server({"a": "COLD"}), iter(["HOT"])

    async def awake(_: str, tenants: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(tenants, next(statuses, "COLD"))

    monkeypatch.setattr(server, "tenant_statuses", awake)
    found = frozen(node, server, {"a": AN_INACTIVE})["a"]
    assert (found.kind, found.files) == (SHARD, 0)


def test_a_server_waits_for_the_schema_at_every_try(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that started again in between may know less of it than at the first."""
    server = Server({"a": "HOT", "back": "HOT"})
    server.busy = {"a"}
    ask = server.tenant_statuses

    async def then_free(collection: str, tenants: Sequence[str]) -> dict[str, str]:
        server.busy.clear()
        return await ask(collection, tenants)

    monkeypatch.setattr(server, "tenant_statuses", then_free)
    frozen(node, server, {"a": AN_ACTIVE}, ("back",))
    assert server.versions == [1, 1, 1]
