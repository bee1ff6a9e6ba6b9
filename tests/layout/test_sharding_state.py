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


def test_only_inactive_tenants_become_active() -> None:
    state = {"physical": {name: {"status": name, "belongsToNodes": ["n0"]} for name in ("HOT", "COLD", "FROZEN")}}
    after = with_active(state, {"HOT", "COLD", "FROZEN", "unknown"})
    assert {name: shard["status"] for name, shard in after["physical"].items()} == {
        "HOT": "HOT",
        "COLD": "HOT",
        "FROZEN": "FROZEN",
    }
    assert with_active(state, set()) == state


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"physical": {"../s": {}}}, "'../s' is no name"),
        ({"physical": {"s": {"belongsToNodes": ["n0", "a/b"]}}}, "'a/b' is no name"),
        ({"physical": {"s": {"belongsToNode": ".."}}}, "'..' is no name"),
        ({"physical": {"s": {"name": "t"}}}, "shard 's' is named 't' inside"),
        ({"virtual": [{"name": "v"}, {"name": "../v"}]}, "'../v' is no name"),
        ({"virtual": [{"assignedToPhysical": "a\\b"}]}, "is no name"),
        ({"physical": {"s": 5}}, "int"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_wherever_it_stands(state: dict[str, Any], said: str) -> None:
    refuse_odd_names({"physical": {"s": {"name": "s", "belongsToNodes": ["n"]}}, "virtual": [{"name": "v"}]}, "it")
    refuse_odd_names({"physical": None, "virtual": None}, "it")
    with pytest.raises(Permanent, match="HostileBackup: it: ") as refused:
        refuse_odd_names(state, "it")
    assert said in refused.value.message


def test_states_without_shards_stay_as_they_are() -> None:
    assert without_tenants_held_nowhere({"indexID": "A", "physical": None}, {}) == {"indexID": "A", "physical": {}}
    assert with_active({"physical": None}, {"s"}) == {"physical": {}}
