"""A shard that the restored sharding state does not place on a node is not placed there: nobody would ever remove it,
and a tenant that is made later with its name would have its objects."""

import base64
import json
from pathlib import Path

import pytest
from tests.agent.foreign_backup import COLLECTION, ForeignBackup, Json
from tests.agent.small_restore import Restore, stock

from weaviate_backup.agent.place import _place_all
from weaviate_backup.stored.meter import Meter

STATES: dict[str, tuple[Json, bool]] = {
    "named": ({"belongsToNodes": ["n0"]}, True),
    "active": ({"belongsToNodes": ["n0"], "status": "HOT"}, True),
    "inactive": ({"belongsToNodes": ["n0", "n1"], "status": "COLD"}, True),
    "offloaded": ({"belongsToNodes": ["n0"], "status": "FROZEN"}, False),
    "of another node": ({"belongsToNodes": ["n1"]}, False),
    "deleted": ({}, False),
}


def with_state(backup: ForeignBackup, shard: Json) -> None:
    def change(document: Json) -> None:
        (collection,) = document["classes"]
        state = {"physical": ({"s0": shard} if shard else {}) | {"s1": {"belongsToNodes": ["n1"]}}}
        collection["shardingState"] = base64.b64encode(json.dumps(state).encode()).decode()

    backup.change("n0/backup.json", change)


@pytest.mark.parametrize("case", STATES)
def test_only_shards_that_the_state_names_are_placed(tmp_path: Path, case: str) -> None:
    shard, placed = STATES[case]
    backup = stock(tmp_path)
    with_state(backup, shard)
    restore = Restore(tmp_path / "node", backup)
    restore.judge()
    restore.download()
    for _ in range(2):  # the second time as by an agent that goes on
        _place_all(restore.workspace, (COLLECTION,), Meter())
    taken = tmp_path / "node" / "data" / ".backup.tmp" / COLLECTION / COLLECTION.lower()
    assert taken.is_dir(), "the collection itself is"
    assert [each.name for each in taken.iterdir()] == (["s0"] if placed else [])
    (record,) = restore.workspace.journal.of("placed")
    assert list(record["shards"]) == (["s0"] if placed else [])
    assert record["files"] == (4 if placed else 0)
