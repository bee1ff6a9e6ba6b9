"""A restored sharding state has each tenant as the nodes that hold it cut it, and none that no node holds."""

from typing import Any

import pytest

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.sharding_state import as_cut, nodes_of, refuse_odd_names

Seen = dict[str, dict[str, str]]


def statuses_of(physical: dict[str, Any], held: dict[str, set[str]], seen: Seen, **late: set[str]) -> dict[str, str]:
    state = {"partitioningEnabled": True, "physical": physical}
    restored = as_cut(state, held, seen, **late)
    assert restored["partitioningEnabled"]
    assert state["physical"] is physical, "the given state is not changed"
    return {name: shard.get("status", "") for name, shard in restored["physical"].items()}


def test_tenants_that_all_their_nodes_miss_are_left_out() -> None:
    physical: dict[str, Any] = {
        "kept": {"belongsToNodes": ["n0"], "status": "HOT"},
        "one replica": {"belongsToNodes": ["n0", "n1"], "status": "COLD"},
        "deleted": {"belongsToNodes": ["n0", "n1"], "status": "HOT"},
        "deleted, old form": {"belongsToNode": "n1"},
        "offloaded": {"belongsToNodes": ["n1"], "status": "FROZEN"},
        "of a node without the collection": {"belongsToNodes": ["n2"], "status": "COLD"},
    }
    held = {"n0": {"kept"}, "n1": {"one replica"}}
    seen = {"n0": {"kept": "HOT"}, "n1": {"one replica": "COLD", "offloaded": "FROZEN"}}
    assert statuses_of(physical, held, seen) == {"kept": "HOT", "one replica": "COLD", "offloaded": "FROZEN"}


def test_what_changed_after_the_leader_looked_is_as_it_was_cut() -> None:
    changes = {
        "woken": ("COLD", "HOT"),
        "put to sleep": ("HOT", "COLD"),
        "brought back": ("FROZEN", "HOT"),
        "on its way back": ("UNFREEZING", "COLD"),
        "offloaded": ("HOT", "FROZEN"),
        "on its way out": ("COLD", "FREEZING"),
    }
    physical = {name: {"belongsToNodes": ["n0"], "status": before} for name, (before, _) in changes.items()}
    held = {"n0": {name for name, (_, after) in changes.items() if after in ("HOT", "COLD")}}
    seen = {"n0": {name: after for name, (_, after) in changes.items()}}
    assert statuses_of(physical, held, seen) == {name: after for name, (_, after) in changes.items()}


def test_one_active_replica_makes_a_tenant_active() -> None:
    physical = {"t": {"belongsToNodes": ["n0", "n1"], "status": "COLD"}}
    held = {"n0": {"t"}, "n1": {"t"}}
    assert statuses_of(physical, held, {"n0": {"t": "COLD"}, "n1": {"t": "HOT"}}) == {"t": "HOT"}
    assert statuses_of(physical, held, {"n0": {"t": "COLD"}, "n1": {"t": "COLD"}}) == {"t": "COLD"}


def test_a_replica_that_holds_nothing_is_not_restored_as_an_empty_one() -> None:
    """It would answer for the tenant, too."""
    physical = {"t": {"belongsToNodes": ["n0", "n1"], "status": "HOT"}}
    for of_n1 in ({}, {"t": "FROZEN"}):
        seen = {"n0": {"t": "HOT"}, "n1": of_n1}
        restored = as_cut({"physical": physical}, {"n0": {"t"}, "n1": set()}, seen)
        assert restored["physical"] == {"t": {"belongsToNodes": ["n0"], "status": "HOT"}}


def test_one_that_was_written_to_while_it_was_cut_is_active() -> None:
    """Of backups whose descriptors have statuses as they were read."""
    physical = {"t": {"belongsToNodes": ["n0"], "status": "COLD"}}
    assert statuses_of(physical, {"n0": {"t"}}, {"n0": {"t": "COLD"}}, written_late={"t", "unknown"}) == {"t": "HOT"}


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


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"physical": {"../s": {}}}, "'../s' is no name"),
        ({"physical": {"s": {"belongsToNodes": ["n0", "a/b"]}}}, "'a/b' is no name"),
        ({"physical": {"s": {"belongsToNode": ".."}}}, "'..' is no name"),
        ({"physical": {"s": {"name": "t"}}}, "shard 's' is named 't' inside"),
        ({"virtual": [{"name": "v"}, {"name": "../v"}]}, "'../v' is no name"),
        ({"virtual": [{"assignedToPhysical": "a\\b"}]}, "is no name"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_wherever_it_stands(state: dict[str, Any], said: str) -> None:
    refuse_odd_names({"physical": {"s": {"name": "s", "belongsToNodes": ["n"]}}, "virtual": [{"name": "v"}]}, "it")
    refuse_odd_names({"physical": None, "virtual": None}, "it")
    with pytest.raises(Permanent, match="HostileBackup: it: ") as refused:
        refuse_odd_names(state, "it")
    assert said in refused.value.message


def test_a_state_without_shards_stays_as_it_is() -> None:
    assert as_cut({"indexID": "A", "physical": None}, {}, {}) == {"indexID": "A", "physical": {}}
