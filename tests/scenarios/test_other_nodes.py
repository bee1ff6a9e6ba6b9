"""A backup of other nodes than the target's is refused before anything is written, and says how they differ; a mapping
of its nodes to the target's brings it back."""

import dataclasses
from collections.abc import Mapping

import pytest
from e2e.cluster import manifests
from e2e.dataset.observation import Observation
from tests.scenarios.renamed_backup import copy_backup
from tests.scenarios.world import World

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("nodes", "reason", "message"),
    [
        (
            {"weaviate-2": "production-2"},
            "NodeNotFound",
            "the target has no node production-2, only weaviate-0, weaviate-1, weaviate-2; use nodeMapping",
        ),
        (
            {"weaviate-2": None},
            "NodeCountMismatch",
            "the backup has 2 nodes, the target 3; scale the target",
        ),
    ],
)
def test_other_nodes_are_refused(world: World, nodes: dict[str, str | None], reason: str, message: str) -> None:
    world.loaded()
    name, other = world.name(), world.name()
    world.complete(manifests.backup(name))
    copy_backup(world.lab.store, name, other, nodes)
    world.remove_data()
    world.forget()
    stored = world.stored()
    source = {"locationRef": {"name": "s3"}, "backupID": other}
    view = world.run(manifests.restore(world.name(), source=source))
    assert (view.phase, view.reason) == ("Failed", reason)
    assert message in view.message
    assert world.weaviate.collections() == {}
    assert world.volume_left_overs() == []
    assert world.stored() == stored


def moved(seen: Observation, nodes: Mapping[str, str]) -> Observation:
    """The same data with every shard on another node."""
    held = {shard: {nodes.get(node, node): count for node, count in of.items()} for shard, of in seen.held.items()}
    return dataclasses.replace(seen, held=held)


@pytest.mark.parametrize("method", [{}, {"method": "Server"}])
def test_mapped_nodes_come_back(world: World, method: dict[str, str]) -> None:
    """Two names change places, so that a mapping which is not followed to its end brings shards to the wrong node."""
    before = world.loaded()
    name, other = world.name(), world.name()
    world.complete(manifests.backup(name))
    copy_backup(world.lab.store, name, other, {"weaviate-0": "production-0", "weaviate-2": "production-2"})
    world.remove_data()
    source = {"locationRef": {"name": "s3"}, "backupID": other}
    mapping = {"production-0": "weaviate-2", "production-2": "weaviate-0"}
    world.complete(manifests.restore(world.name(), source=source, nodeMapping=mapping, **method))
    world.assert_unchanged(moved(before, {"weaviate-0": "weaviate-2", "weaviate-2": "weaviate-0"}))
