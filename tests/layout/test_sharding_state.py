"""Tenants that no node of a backup holds are left out of a restored sharding state."""

from typing import Any

import pytest

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.sharding_state import (
    nodes_of,
    refuse_odd_names,
    with_active,
    without_tenants_held_nowhere,
)


def test_only_tenants_that_all_their_nodes_miss_are_left_out() -> None:
    state: dict[str, Any] = {
        "partitioningEnabled": True,
        "physical": {
            "kept": {"belongsToNodes": ["n0"], "status": "HOT"},
            "one replica": {"belongsToNodes": ["n0", "n1"], "status": "COLD"},
            "deleted": {"belongsToNodes": ["n0", "n1"], "status": "HOT"},
            "deleted, old form": {"belongsToNode": "n1"},
            "offloaded": {"belongsToNodes": ["n1"], "status": "FROZEN"},
            "of a node without the collection": {"belongsToNodes": ["n2"], "status": "COLD"},
        },
    }
    left = without_tenants_held_nowhere(state, {"n0": {"kept"}, "n1": {"one replica"}})
    assert set(left["physical"]) == {"kept", "one replica", "offloaded"}
    assert left["partitioningEnabled"]
    assert len(state["physical"]) == 6, "the given state is not changed"


def test_old_states_name_a_single_node() -> None:
    assert nodes_of({"belongsToNode": "n0", "belongsToNodes": None}) == ("n0",)
    assert nodes_of({"belongsToNodes": ["n0", "n1"]}) == ("n0", "n1")
    assert nodes_of({}) == ()


@pytest.mark.parametrize(
    "shard",
    [None, 5, [], {"status": []}, {"status": None}, {"status": 1}, {"belongsToNodes": 5}, {"belongsToNodes": ["../n"]}],
)
def test_shards_that_are_none_are_refused(shard: object) -> None:
    with pytest.raises(Permanent, match="HostileBackup: the state"):
        refuse_odd_names({"physical": {"s0": {"status": "HOT", "belongsToNodes": ["n0"]}, "s1": shard}}, "the state")


def test_only_inactive_tenants_become_active() -> None:
    state = {"physical": {name: {"status": name, "belongsToNodes": ["n0"]} for name in ("HOT", "COLD", "FROZEN")}}
    after = with_active(state, {"HOT", "COLD", "FROZEN", "unknown"})
    assert {name: shard["status"] for name, shard in after["physical"].items()} == {
        "HOT": "HOT",
        "COLD": "HOT",
        "FROZEN": "FROZEN",
    }
    assert with_active(state, set()) == state
