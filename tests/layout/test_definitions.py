"""A collection that was deleted and made anew is known; one that was updated is not taken for it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from weaviate_backup.layout.definitions import contradiction, other_shards

BEFORE: dict[str, Any] = {
    "class": "Things",
    "vectorIndexType": "hnsw",
    "vectorIndexConfig": {"distance": "cosine", "ef": -1},
    "multiTenancyConfig": {"enabled": True, "autoTenantActivation": False},
    "replicationConfig": {"factor": 1},
    "properties": [{"name": "title", "dataType": ["text"]}, {"name": "of", "dataType": ["Things"]}],
    "vectorConfig": {"small": {"vectorIndexType": "flat", "vectorIndexConfig": {"distance": "dot"}}},
}
Change = Callable[[dict[str, Any]], object]

UPDATES: dict[str, Change] = {
    "nothing": lambda made: None,
    "a longer search": lambda made: made["vectorIndexConfig"].update(ef=64),
    "another factor": lambda made: made["replicationConfig"].update(factor=3),
    "automatic activation": lambda made: made["multiTenancyConfig"].update(autoTenantActivation=True),
    "a new property": lambda made: made["properties"].append({"name": "more", "dataType": ["int"]}),
    "a new named vector": lambda made: made["vectorConfig"].update(large={"vectorIndexType": "hnsw"}),
    "one more target": lambda made: made["properties"][1]["dataType"].insert(0, "Others"),
    "a description": lambda made: made.update(description="new"),
}
ANOTHER: dict[str, tuple[str, Change]] = {
    "another index": ("vectorIndexType is 'hnsw' and 'flat'", lambda made: made.update(vectorIndexType="flat")),
    "another distance": (
        "vectorIndexConfig.distance is 'cosine' and 'dot'",
        lambda made: made["vectorIndexConfig"].update(distance="dot"),
    ),
    "no tenants": ("multiTenancyConfig.enabled is True and False", lambda made: made.pop("multiTenancyConfig")),
    "another type": (
        "properties.title.dataType is ['text'] and ['int']",
        lambda made: made["properties"][0].update(dataType=["int"]),
    ),
    "a reference": (
        "properties.title.dataType is ['text'] and 'a reference'",
        lambda made: made["properties"][0].update(dataType=["Things"]),
    ),
    "another named index": (
        "vectorConfig.small.vectorIndexType is 'flat' and 'dynamic'",
        lambda made: made["vectorConfig"]["small"].update(vectorIndexType="dynamic"),
    ),
}


@pytest.mark.parametrize("change", UPDATES)
def test_an_updated_collection_is_the_same(change: str) -> None:
    after = copy.deepcopy(BEFORE)
    UPDATES[change](after)
    assert contradiction(BEFORE, after) is None


@pytest.mark.parametrize("change", ANOTHER)
def test_what_no_update_changes_tells_another_collection(change: str) -> None:
    said, apply = ANOTHER[change]
    after = copy.deepcopy(BEFORE)
    apply(after)
    assert contradiction(BEFORE, after) == said


def test_a_definition_with_nothing_set_is_compared() -> None:
    assert contradiction({"class": "Things", "vectorConfig": None, "properties": None}, {"class": "Things"}) is None


@pytest.mark.parametrize("wrong", [None, 5, "x", [], {}, [1, None], {"small": 5}, True])
@pytest.mark.parametrize("field", ["multiTenancyConfig", "vectorConfig", "vectorIndexConfig", "properties"])
def test_fields_of_other_types_are_told_apart_without_an_error(field: str, wrong: object) -> None:
    """Whoever calls himself Weaviate can answer them."""
    made = copy.deepcopy(BEFORE) | {field: wrong}
    assert contradiction(made, made) is None
    assert contradiction(BEFORE, made) is None or isinstance(contradiction(BEFORE, made), str)
    odd = copy.deepcopy(BEFORE)
    odd["properties"] = [{"name": "title", "dataType": wrong}]
    assert contradiction(odd, odd) is None
    assert other_shards({"physical": wrong}, {"physical": {"s0": {}}}) is None or isinstance(wrong, dict)


def test_what_differs_is_told_in_short() -> None:
    made = copy.deepcopy(BEFORE) | {"vectorIndexType": "x" * 100_000 + "\x1b[2J"}
    told = contradiction(BEFORE, made)
    assert told is not None
    assert (len(told) <= 256, told.isprintable()) == (True, True)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"physical": {"a": {}, "b": {}}}, {"physical": {"a": {}, "b": {}}}, None),
        ({"physical": {"a": {}}}, {"physical": {"a": {}, "b": {}}}, None),
        ({"physical": {"a": {}, "b": {}}}, {"physical": {"b": {}}}, "shard a is no longer one of it"),
        ({"physical": {"a": {}}}, {}, "shard a is no longer one of it"),
        ({}, {"physical": {"a": {}}}, None),
        ({"partitioningEnabled": True, "physical": {"a": {}}}, {"physical": {}}, None),
        ({"physical": {"a": {}}}, {"partitioningEnabled": True, "physical": {}}, None),
    ],
)
def test_only_tenants_come_and_go(before: dict[str, Any], after: dict[str, Any], said: str | None) -> None:
    assert other_shards(before, after) == said
