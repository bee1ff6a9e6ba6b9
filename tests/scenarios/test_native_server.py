"""The layout is Weaviate's own: a plain server restores our backups by its public API, and we restore the server's."""

import pytest
from e2e.bench import server_backup
from e2e.cluster import bucket, manifests
from tests.scenarios.world import World

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("level", ["ZstdBestSpeed", "DefaultCompression", "NoCompression"])
def test_a_plain_server_restores_our_backup(world: World, level: str) -> None:
    before, name = world.loaded(), world.name()
    config = {"compressionLevel": level, "chunkSize": 2}
    world.complete(manifests.backup(name, config=config))
    world.remove_data()
    world.forget()
    server_backup.restore(world.weaviate, name)
    world.assert_unchanged(before)


def test_we_restore_a_plain_servers_backup(world: World) -> None:
    before, name = world.loaded(), world.name()
    server_backup.back_up(world.weaviate, name, level="DefaultCompression")
    stored = bucket.listing(world.lab.store, f"{name}/")
    world.remove_data()
    world.forget()
    world.complete(manifests.restore(name, source={"locationRef": {"name": "s3"}, "backupID": name}))
    world.assert_unchanged(before)
    assert bucket.listing(world.lab.store, f"{name}/") == stored
