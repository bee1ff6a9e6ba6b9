"""A backup is copied from provider to provider with kubectl, and comes back from the last of them."""

import pytest
from e2e.cluster import manifests, objects
from tests.scenarios.world import World

pytestmark = pytest.mark.lab


def test_what_comes_back_from_the_last_copy_is_what_was(world: World) -> None:
    before, name = world.loaded(), world.name()
    stores = world.lab.stores
    world.complete(manifests.backup(name))
    stored = objects.listing(stores["s3"], f"{name}/")

    copy = ("weaviate-backup", "copy", name)
    world.kubectl.plugin(*copy, "--to", "gcs")
    world.kubectl.plugin(*copy, "--from", "gcs", "--to", "azure")
    mounted = str(stores["filesystem"].directory)
    said = world.kubectl.plugin(*copy, "--from", "azure", "--to", "filesystem", "--to-directory", mounted)
    assert "every byte matched the backup's manifests and was read back" in said
    for kind in ("gcs", "azure", "filesystem"):
        assert objects.listing(stores[kind], f"{name}/") == stored

    world.remove_data()
    source = {"locationRef": {"name": "filesystem"}, "backupID": name}
    world.complete(manifests.restore(world.name(), source=source))
    world.assert_unchanged(before)
