"""A tenant with two replicas that is deleted, offloaded or brought back between the cuts of its nodes: the backup is
completed, and what is restored has no replica that holds nothing."""

from typing import Any

import pytest

from weaviate_backup.agent import journal
from weaviate_backup.agent.commit import _without_vanished
from weaviate_backup.agent.describing import state_as_cut
from weaviate_backup.agent.fates import Fate
from weaviate_backup.layout.integrity import compare_shards
from weaviate_backup.layout.sharding_state import as_cut
from weaviate_backup.weaviate import inactive_tenants

FROZEN, ASLEEP = (Fate(journal.SHARD, 0, driver) for driver in ("replica-snapshot", inactive_tenants.DRIVER))
GONE, OFFLOADED = (Fate(kind, 0) for kind in (journal.GONE, journal.OFFLOADED))
ABSENT = None
"""The node read the schema when the tenant was not in it."""
CASES: dict[str, tuple[Any, Any, list[str], str]] = {
    "both hold it": (FROZEN, FROZEN, ["A", "B"], "HOT"),
    "asleep on both": (ASLEEP, ASLEEP, ["A", "B"], "COLD"),
    "woke before the second cut": (ASLEEP, FROZEN, ["A", "B"], "HOT"),
    "deleted between the cuts": (FROZEN, GONE, ["A"], "HOT"),
    "deleted between the cuts, the leader's later": (GONE, FROZEN, ["B"], "HOT"),
    "deleted before both": (GONE, GONE, [], ""),
    "deleted before the other one looked": (FROZEN, ABSENT, ["A"], "HOT"),
    "offloaded between the cuts": (FROZEN, OFFLOADED, ["A"], "HOT"),
    "offloaded between the cuts, the leader's later": (OFFLOADED, ASLEEP, ["B"], "COLD"),
    "offloaded before both": (OFFLOADED, OFFLOADED, ["A", "B"], "FROZEN"),
}


def state_of(node: str, fate: Any, status: str) -> dict[str, Any]:
    physical = {} if fate is ABSENT else {"t": {"name": "t", "belongsToNodes": ["A", "B"], "status": status}}
    state = {"partitioningEnabled": True, "physical": physical}
    return state_as_cut(state, {} if fate is ABSENT else {"t": fate}, node=node)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("read_as", ["HOT", "COLD", "FROZEN"])
def test_the_backup_is_whole_and_no_replica_comes_back_empty(case: str, read_as: str) -> None:
    of_leader, of_other, nodes, status = CASES[case]
    own = {"A": state_of("A", of_leader, read_as), "B": state_of("B", of_other, read_as)}
    held = {node: {"t"} if fate in (FROZEN, ASLEEP) else set() for node, fate in (("A", of_leader), ("B", of_other))}
    seen = own["A"]
    for node, state in own.items():
        seen = _without_vanished(seen, state, node)
    assert compare_shards({"C": seen}, {node: {"C": shards} for node, shards in held.items()}) == ()
    statuses = {
        node: {name: shard["status"] for name, shard in state["physical"].items() if node in shard["belongsToNodes"]}
        for node, state in own.items()
    }
    restored = as_cut(own["A"], held, statuses)["physical"].get("t", {"belongsToNodes": [], "status": ""})
    assert (restored["belongsToNodes"], restored["status"]) == (nodes, status)
