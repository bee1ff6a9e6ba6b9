"""A backup of other nodes than the target's is refused before anything is written, and says how they differ."""

import pytest
from e2e.cluster import manifests
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
