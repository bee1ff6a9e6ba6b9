"""Raft names a shard that the server does not know: a delay, a deletion, an offloading, or an error that is told."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from tests.agent.hand_frozen import COLLECTION, Node

from weaviate_backup.agent import shard_freezer
from weaviate_backup.agent.expansion import TenantStatus
from weaviate_backup.agent.fates import fates
from weaviate_backup.agent.shard_freezer import CONTRADICTIONS, ShardFreezer
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.shard_source import ShardCut

SHARD, NODE = "s1", "weaviate-0"


class Driver:
    """Knows the shard after so many cuts that were refused."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.cuts = 0

    async def cut(self, collection: str, shard: str, *, schema_version: int) -> ShardCut:
        self.cuts += 1
        if self.cuts <= self.refusals:
            raise Permanent("ShardNotFound", f"no shard {shard}")
        return ShardCut(collection, shard, driver="made up", files=(), halt_seconds=0.0)

    async def release(self, _: ShardCut) -> None:
        pass


class Raft:
    """What it says of the shard at each look; the last of it from then on."""

    def __init__(self, *statuses: str | None) -> None:
        self.statuses = list(statuses)

    async def tenant_statuses(self, _: str, tenants: Sequence[str]) -> dict[str, str]:
        status = self.statuses[0]
        return {} if status is None else dict.fromkeys(tenants, status)

    async def sharding_state(self, _: str) -> tuple[dict[str, Any], int]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        shard = {"belongsToNodes": [NODE], "status": status}
        return {"partitioningEnabled": True, "physical": {SHARD: shard}}, 1

    async def collection(self, _: str) -> tuple[dict[str, Any], int]:
        return {}, 1


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_freezer._Turn, "pause_seconds", 0.0)
    monkeypatch.setattr(shard_freezer, "LONGEST_PAUSE_SECONDS", 0.0)


def frozen(directory: Path, driver: Driver, raft: Raft) -> dict[tuple[str, str], str]:
    """Shard -> what became of it."""
    workspace = Node(directory / "node", directory / "store", "0b5f2c1e", {}).workspace()
    with workspace.journal as journal:
        made_up = cast(Any, raft)
        freezer = ShardFreezer(workspace, Meter(), raft=made_up, node=made_up, driver=cast(Any, driver))
        asyncio.run(freezer.freeze(COLLECTION, {SHARD: TenantStatus.ACTIVE}, 1, multi_tenant=True))
        return {(name, shard): fate.kind for name, of in fates(journal).items() for shard, fate in of.items()}


@pytest.mark.parametrize("refusals", [1, CONTRADICTIONS])
def test_a_server_that_is_late_is_waited_for(tmp_path: Path, refusals: int) -> None:
    driver = Driver(refusals)
    assert frozen(tmp_path, driver, Raft("HOT")) == {(COLLECTION, SHARD): "shard"}
    assert driver.cuts == refusals + 1


def test_one_that_never_knows_it_makes_no_backup(tmp_path: Path) -> None:
    driver = Driver(1000)
    with pytest.raises(Permanent, match="ShardNotFound: no shard s1"):
        frozen(tmp_path, driver, Raft("HOT"))
    assert driver.cuts == CONTRADICTIONS + 1


@pytest.mark.parametrize(("status", "fate"), [(None, "gone"), ("FROZEN", "offloaded")])
def test_what_is_not_there_any_more_is_no_contradiction(tmp_path: Path, status: str | None, fate: str) -> None:
    assert frozen(tmp_path, Driver(1000), Raft(status)) == {(COLLECTION, SHARD): fate}
