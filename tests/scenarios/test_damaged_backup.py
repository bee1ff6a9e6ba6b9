"""A backup that was damaged in the store after it was completed is not restored: nothing is left of the attempt."""

from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.cluster import manifests
from tests.scenarios.world import World

pytestmark = pytest.mark.lab


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [flip_a_bit, cut_off_the_end, remove])
def test_a_damaged_chunk_is_found_before_anything_is_applied(world: World, damage: Callable[[Path], None]) -> None:
    world.loaded()
    name = world.name()
    world.complete(manifests.backup(name))
    chunk = max(
        (key for key in world.stored(name) if key.rsplit("/", 1)[-1].startswith("chunk-")),
        key=lambda key: world.stored(name)[key].size_bytes,
    )
    damage(world.lab.store.bucket_directory / chunk)
    world.remove_data()
    world.forget()
    view = world.run(manifests.restore(name, source={"backupRef": {"name": name}}))
    assert view.phase == "Failed"
    assert chunk.removeprefix(f"{name}/") in view.message, f"{view.reason}: {view.message}"
    assert world.weaviate.collections() == {}
    for ordinal in range(len(world.lab.weaviate_urls)):
        assert not list(world.lab.volume(ordinal).glob("photo/*/lsm"))
