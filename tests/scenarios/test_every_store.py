"""The main job on every kind of store, and with plain servers in both directions where they can use it."""

import pytest
from e2e.bench import server_backup
from e2e.cluster import manifests, objects
from tests.scenarios.world import World

pytestmark = pytest.mark.lab

FOREIGN = ("gcs", "azure")
"""S3 is what every other scenario uses, `test_native_server.py` among them."""


@pytest.mark.parametrize("kind", [*FOREIGN, "filesystem"])
def test_what_comes_back_is_what_was(world: World, kind: str) -> None:
    before, name = world.loaded(), world.name()
    backup = world.complete(manifests.backup(name, location=kind))
    stored = objects.listing(world.lab.stores[kind], f"{name}/")
    assert backup.objects == len(stored)
    assert backup.bytes_stored <= sum(stored.values())
    expected = {"backup_config.json", "manifest.json", *(f"{node}/backup.json" for node in world.lab.weaviate_nodes)}
    assert {f"{name}/{document}" for document in expected} <= set(stored)

    world.remove_data()
    world.complete(manifests.restore(world.name(), source={"backupRef": {"name": name}}))
    world.assert_unchanged(before)
    assert objects.listing(world.lab.stores[kind], f"{name}/") == stored


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_plain_server_restores_our_backup(world: World, kind: str) -> None:
    before, name = world.loaded(), world.name()
    world.complete(manifests.backup(name, location=kind))
    world.remove_data()
    server_backup.restore(world.weaviate, name, backend=kind)
    world.assert_unchanged(before)


@pytest.mark.parametrize("kind", FOREIGN)
def test_we_restore_a_plain_servers_backup(world: World, kind: str) -> None:
    before, name = world.loaded(), world.name()
    server_backup.back_up(world.weaviate, name, level="DefaultCompression", backend=kind)
    world.remove_data()
    world.complete(manifests.restore(name, source={"locationRef": {"name": kind}, "backupID": name}))
    world.assert_unchanged(before)
