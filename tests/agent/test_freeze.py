"""FREEZE without a server: what is looked at before and after the cuts, and what is told of them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.agent.hand_frozen import STARTED_AT, Node
from tests.agent.small_restore import PLACE

from weaviate_backup.agent import freeze as freezing
from weaviate_backup.agent import survey
from weaviate_backup.agent.access import KEPT_FILE, Access, _keep
from weaviate_backup.agent.durability import boot_id
from weaviate_backup.agent.expansion import LocalShards, TenantStatus
from weaviate_backup.agent.freeze import (
    COLLECTIONS_AT_ONCE,
    NAMES_LIMIT,
    FrozenCollection,
    _freeze_all,
    _refuse_made_anew,
    summarize,
    take_place,
)
from weaviate_backup.agent.survey import read_schema, take_schema
from weaviate_backup.agent.workspace import FROZEN, Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.session import Step, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.storage.retry import Retrying
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate import inactive_tenants

NODE = "weaviate-0"
CLASS = {"class": "Article", "vectorIndexType": "hnsw"}
STATE: dict[str, Any] = {
    "partitioningEnabled": True,
    "physical": {
        "awake": {"belongsToNodes": [NODE], "status": "HOT"},
        "asleep": {"belongsToNodes": [NODE], "status": "COLD"},
        "away": {"belongsToNodes": [NODE], "status": "FROZEN"},
        "moving": {"belongsToNodes": [NODE], "status": "FREEZING"},
        "elsewhere": {"belongsToNodes": ["weaviate-1"], "status": "HOT"},
    },
}
GONE = Permanent("CollectionNotFound", "gone")


class Raft:
    """`failures`: instead of an answer, by collection; `afterwards`: what a class is after the cut."""

    watch = None

    def __init__(self, failures: Mapping[str, BackupError] | None = None) -> None:
        self.failures = failures or {}
        self.afterwards: dict[str, Any] | BackupError = dict(CLASS)

    async def snapshot(self, name: str) -> tuple[dict[str, Any], dict[str, Any], int]:
        if failure := self.failures.get(name):
            raise failure
        return dict(CLASS), dict(STATE), 7

    async def aliases(self) -> dict[str, str]:
        return {"News": "Article"}

    async def collection(self, _: str) -> tuple[dict[str, Any], int]:
        if isinstance(self.afterwards, BackupError):
            raise self.afterwards
        return self.afterwards, 1


class Freezer:
    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, TenantStatus], int, bool]] = []
        self.looked_at: list[tuple[str, tuple[str, ...], int]] = []
        self.now = self.most = 0
        self.enough = asyncio.Event()
        self.wait = False

    async def freeze(
        self, name: str, statuses: Mapping[str, TenantStatus], version: int, *, multi_tenant: bool
    ) -> None:
        self.asked.append((name, dict(statuses), version, multi_tenant))
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == COLLECTIONS_AT_ONCE:
            self.enough.set()
        if self.wait:
            await asyncio.wait_for(self.enough.wait(), 10)
        self.now -= 1

    async def freeze_brought_back(self, name: str, offloaded: Sequence[str], version: int) -> None:
        self.looked_at.append((name, tuple(offloaded), version))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "store").mkdir()
    return Node(tmp_path / "node", tmp_path / "store", "0b5f2c1e", {})


def freeze_all(
    workspace: Workspace, raft: Any, *names: str, wait: bool = False
) -> tuple[dict[str, FrozenCollection], Freezer]:
    freezer: Any = Freezer()
    freezer.wait = wait
    work = workspace.backup.model_copy(update={"collections": names})
    workspace = replace(workspace, order=workspace.order.model_copy(update={"work": work}))

    async def run() -> dict[str, FrozenCollection]:
        command = StepCommand(operation_uid=workspace.uid, step=Step.FREEZE)
        taken = await take_schema(workspace, command, raft, Meter())
        return await _freeze_all(workspace, sorted(taken.collections), raft, freezer)

    with workspace.journal:
        take_place(workspace)
        return asyncio.run(run()), freezer


def test_all_but_offloaded_shards_of_this_node_are_frozen_and_the_schema_is_kept(node: Node) -> None:
    workspace = node.workspace()
    frozen, freezer = freeze_all(workspace, Raft(), "Article")
    statuses = {"asleep": TenantStatus.INACTIVE, "awake": TenantStatus.ACTIVE, "moving": TenantStatus.MOVING}
    assert freezer.asked == [("Article", statuses, 7, True)]
    assert freezer.looked_at == [("Article", ("away",), 7)]
    assert list(frozen["Article"].shards.statuses) == ["awake", "asleep", "away", "moving"]
    assert read_schema(workspace, "Article") == {
        "class": CLASS,
        "state": STATE,
        "aliases": {"News": "Article"},
        "version": 7,
    }


def test_some_collections_are_frozen_at_a_time(node: Node) -> None:
    frozen, freezer = freeze_all(node.workspace(), Raft(), *(f"C{number}" for number in range(10)), wait=True)
    assert len(frozen) == len(freezer.asked) == 10
    assert freezer.most == COLLECTIONS_AT_ONCE


def test_a_collection_that_is_gone_is_missing_and_nothing_of_it_stays(node: Node) -> None:
    workspace = node.workspace()
    for name in ("article", "book"):
        (Path(str(workspace.directory / FROZEN)) / name).mkdir(parents=True)
    frozen, _ = freeze_all(workspace, Raft({"Article": GONE}), "Article", "Book")
    assert list(frozen) == ["Book"]
    assert [each.name for each in Path(str(workspace.directory / FROZEN)).iterdir()] == ["book"]


@pytest.mark.parametrize(
    "failure", [Permanent("PermissionDenied", "no"), Transient("SchemaChanging", "not now")], ids=lambda it: it.reason
)
def test_a_collection_that_cannot_be_read_is_not_left_out(node: Node, failure: BackupError) -> None:
    with pytest.raises(type(failure), match=failure.reason):
        freeze_all(node.workspace(), Raft({"Article": failure}), "Article", "Book")


@pytest.mark.parametrize(
    ("afterwards", "reason"),
    [
        (CLASS, None),
        (GONE, None),
        ({**CLASS, "description": "updated"}, None),
        ({**CLASS, "vectorIndexType": "flat"}, "CollectionChanged"),
        (Permanent("PermissionDenied", "no"), "PermissionDenied"),
        (Transient("ServerUnavailable", "no"), "ServerUnavailable"),
    ],
    ids=["the same", "deleted after its cut", "updated", "made anew", "refused", "without an answer"],
)
def test_a_collection_is_looked_at_again_after_its_cut(
    node: Node, afterwards: dict[str, Any] | BackupError, reason: str | None
) -> None:
    raft: Any = Raft()
    raft.afterwards = afterwards
    if reason is None:
        asyncio.run(_refuse_made_anew(raft, "Article", CLASS))
        frozen, _ = freeze_all(node.workspace(), raft, "Article")
        assert list(frozen) == ["Article"]
        return
    with pytest.raises(BackupError, match=reason):
        freeze_all(node.workspace(), raft, "Article")


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ({}, None),
        ({"version": 8}, None),
        ({"class": {**CLASS, "vectorIndexType": "flat"}}, "vectorIndexType is 'hnsw' and 'flat'"),
        ({"state": {"physical": {"another": {}}}}, "shard one is no longer one of it"),
    ],
    ids=["the same", "updated", "another definition", "other shards"],
)
def test_an_agent_that_goes_on_finds_the_same_collection(node: Node, later: dict[str, Any], said: str | None) -> None:
    """Its predecessor has cut some of its shards."""
    workspace = node.workspace()
    schema = {"class": CLASS, "state": {"physical": {"one": {}}}, "aliases": {}, "version": 7}
    survey._keep(workspace, "Article", schema)
    if said is None:
        survey._keep(workspace, "Article", schema | later)
        return
    with pytest.raises(Permanent, match=f"CollectionChanged: collection Article was deleted and made anew .*: {said}"):
        survey._keep(workspace, "Article", schema | later)


# What is told


def shards(multi_tenant: bool, **statuses: TenantStatus) -> LocalShards:
    return LocalShards(statuses, multi_tenant)


def test_a_freeze_tells_what_it_froze(node: Node) -> None:
    workspace = node.workspace()
    at = STARTED_AT.isoformat()
    cut = {"boot": boot_id(), "object_count": None, "started_at": at, "ended_at": at}
    active, inactive, offloaded = TenantStatus.ACTIVE, TenantStatus.INACTIVE, TenantStatus.OFFLOADED
    _keep(workspace.directory / KEPT_FILE, Access())
    with workspace.journal as journal:
        for collection, shard, driver, size, files, halt in (
            ("Article", "a", "hand", 10, 1, 0.5),
            ("Article", "b", inactive_tenants.DRIVER, 20, 2, 0.25),
            ("Book", "s", "hand", 40, 4, 0.125),
            ("Gone", "s", "hand", 80, 8, 9.0),
        ):
            record: dict[str, Any] = {**cut, "driver": driver, "bytes": size, "files": files, "halt_seconds": halt}
            journal.append("shard", collection=collection, shard=shard, **record)
        for kind, shard in (("gone", "deleted"), ("offloaded", "late")):
            journal.append(kind, collection="Article", shard=shard, at=at)
        journal.append("offloaded", collection="Gone", shard="late", at=at)
        tenants = shards(True, a=active, b=inactive, deleted=active, late=inactive, c=offloaded)
        frozen = {
            "Article": FrozenCollection("Article", tenants),
            "Book": FrozenCollection("Book", shards(False, s=active)),
        }
        told = summarize(workspace, ("Article", "Book", "Gone"), frozen)
    assert told.collections == ("Article", "Book")
    assert told.missing_collections == ("Gone",)
    assert (told.shards, told.bytes_total, told.files_total, told.longest_halt_seconds) == (3, 70, 7, 0.5)
    assert (told.tenants_active, told.tenants_inactive, told.tenants_offloaded) == (1, 1, 2)
    assert told.tenants_offloaded_names == ("Article/c", "Article/late")


def test_many_offloaded_tenants_are_counted_and_some_named(node: Node) -> None:
    many = {f"t{number:03}": TenantStatus.OFFLOADED for number in range(NAMES_LIMIT + 6)}
    workspace = node.workspace()
    _keep(workspace.directory / KEPT_FILE, Access())
    with workspace.journal:
        told = summarize(workspace, ("Article",), {"Article": FrozenCollection("Article", shards(True, **many))})
    assert told.tenants_offloaded == NAMES_LIMIT + 6
    assert told.tenants_offloaded_names == tuple(f"Article/t{number:03}" for number in range(NAMES_LIMIT))
    assert NAMES_LIMIT == 64, "what the status of an operation has room for"
    assert told.longest_halt_seconds == 0


# Before anything is cut


def claim_of(node: Node) -> Path:
    return node.store / node.backup_id / "operation.json"


def test_a_store_that_cannot_be_used_gets_no_claim(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> None:
        raise Permanent("AccessDenied", "no")

    monkeypatch.setattr(Retrying, "check", refused)
    workspace = node.workspace()
    with workspace.journal, pytest.raises(Permanent, match="AccessDenied"):
        take_place(workspace)
    assert not claim_of(node).exists()


def test_nothing_is_written_to_a_location_that_is_read_only(node: Node) -> None:
    workspace = replace(node, location=LocationSpec.model_validate({**PLACE, "readOnly": True})).workspace()
    with workspace.journal, pytest.raises(Permanent, match="LocationReadOnly"):
        take_place(workspace)
    assert not claim_of(node).exists()


@pytest.mark.parametrize("leads", [True, False])
def test_a_signing_key_that_is_not_there_is_missed_by_who_will_sign(node: Node, leads: bool) -> None:
    signed = LocationSpec.model_validate({**PLACE, "signing": {"keySecretRef": {"name": "signer", "key": "pem"}}})
    names = (NODE, "weaviate-1") if leads else ("weaviate-1", NODE)
    workspace = replace(node, location=signed, nodes=names).workspace()
    with workspace.journal:
        if not leads:
            take_place(workspace)
            assert claim_of(node).exists()
            return
        with pytest.raises(BackupError, match="SecretKeyNotFound: Secret 'signer' has no key 'pem'"):
            take_place(workspace)
    assert not claim_of(node).exists()


def test_a_freeze_that_ended_is_told_again(node: Node) -> None:
    node.freeze()
    workspace = node.workspace()
    with workspace.journal:
        told = asyncio.run(freezing.freeze(workspace, None, None))  # type: ignore[arg-type]
    assert told.collections == ("Article",)
