"""The comparison of the end-to-end tests must be able to fail: each kind of difference is found, and none invented."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from e2e.dataset.comparison import compare, uneven_replicas
from e2e.dataset.loading import load, remove
from e2e.dataset.observation import Hit, Observation, observe
from e2e.dataset.shapes import identifier, small_dataset
from e2e.dataset.weaviate_http import Weaviate
from tests.weaviate_server import weaviate_cluster

OBSERVATION = Observation(
    definitions={"Article": {"class": "Article"}},
    counts={"Article": 3},
    fingerprints={"Article": "3 objects, sha256 ab"},
    rankings={"nearVector 0": (Hit("a", 0.1), Hit("b", 0.2))},
    selections={"words": ("a", "b")},
    aliases={"Headline": "Article"},
    tenants={"Note/acme": "HOT"},
    held={"Article/a": {"weaviate-0": 3, "weaviate-1": 3}},
)
CHANGES: dict[str, dict[str, Any]] = {
    "definitions": {"Article": {"class": "Article", "description": "x"}},
    "counts": {"Article": 2},
    "fingerprints": {"Article": "3 objects, sha256 cd"},
    "rankings": {"nearVector 0": (Hit("b", 0.1), Hit("a", 0.2))},
    "selections": {"words": ("a",)},
    "aliases": {},
    "tenants": {"Note/acme": "COLD"},
    "held": {"Article/a": {"weaviate-0": 3}},
}


def test_equal_observations_do_not_differ() -> None:
    assert compare(OBSERVATION, Observation.from_json(OBSERVATION.to_json())) == []


@pytest.mark.parametrize("field", CHANGES)
def test_every_kind_of_difference_is_found(field: str) -> None:
    changed = dataclasses.replace(OBSERVATION, **{field: CHANGES[field]})
    assert len(compare(OBSERVATION, changed)) == 1
    assert len(compare(changed, OBSERVATION)) == 1


def test_scores_may_differ_in_their_last_digits_only() -> None:
    near = dataclasses.replace(OBSERVATION, rankings={"nearVector 0": (Hit("a", 0.10005), Hit("b", 0.2))})
    far = dataclasses.replace(OBSERVATION, rankings={"nearVector 0": (Hit("a", 0.1002), Hit("b", 0.2))})
    assert compare(OBSERVATION, near) == []
    assert compare(OBSERVATION, far) == ["search nearVector 0: a scored 0.100000, now 0.100200"]


def test_keyword_scores_may_differ_by_what_flushing_changes() -> None:
    def scored(score: float) -> Observation:
        return dataclasses.replace(OBSERVATION, rankings={"bm25 bakotu": (Hit("a", score),)})

    assert compare(scored(1.7604), scored(1.7602)) == []
    assert len(compare(scored(1.7604), scored(1.7580))) == 1


def test_a_replica_that_came_back_empty_is_found() -> None:
    empty = dataclasses.replace(OBSERVATION, held={"Article/a": {"weaviate-0": 3, "weaviate-1": 0}})
    lost = dataclasses.replace(OBSERVATION, held={"Article/a": {"weaviate-0": 2, "weaviate-1": 2}})
    assert list(uneven_replicas(empty)) == ["replicas of shard Article/a: weaviate-0 has 3, weaviate-1 has 0"]
    assert list(uneven_replicas(lost)) == ["shards of Article: hold 2 objects, 3 are counted"]
    assert list(uneven_replicas(OBSERVATION)) == []


@pytest.mark.weaviate
async def test_one_changed_object_on_a_real_server_is_found(tmp_path: Path) -> None:
    dataset = small_dataset(objects=300, replicas=1)
    async with weaviate_cluster(tmp_path) as cluster:
        url = cluster.nodes[0].rest_url
        weaviate = Weaviate(url)
        load(weaviate, dataset)
        before = observe([url], dataset)
        assert compare(before, observe([url], dataset)) == []
        assert before.tenants["Note/hooli"] in ("COLD", "INACTIVE")
        assert before.counts["Note/hooli through node 0"] == 20
        assert before.counts["alias Headline"] == 100

        path = f"/v1/objects/Photo/{identifier('Photo', None, 7)}"
        weaviate.call("PATCH", path, {"class": "Photo", "properties": {"title": "changed"}})
        differences = compare(before, observe([url], dataset))
        assert any(line.startswith("contents of Photo:") for line in differences), differences
        assert not any("Article" in line or "Note" in line for line in differences), differences

        remove(weaviate, dataset)
        assert observe([url], dataset).counts == {}
