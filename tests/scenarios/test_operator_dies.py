"""The operator is killed in the middle: the operation goes on, happens once, and no object is written a second time."""

import time
from collections.abc import Iterator

import pytest
from e2e.cluster import manifests
from e2e.cluster.following import reach
from e2e.cluster.throttle import Throttle
from tests.scenarios.slow_location import slow_location
from tests.scenarios.world import World

pytestmark = pytest.mark.lab
SLOW_BYTES_PER_SECOND = 1_500_000
SMALL_CHUNKS = {"chunkSize": 2}


@pytest.fixture
def slow_store(world: World) -> Iterator[Throttle]:
    with slow_location(world, bytes_per_second=SLOW_BYTES_PER_SECOND) as throttle:
        yield throttle
        throttle.bytes_per_second = 0
        world.tidy()


@pytest.mark.parametrize("phase", ["Preparing", "Uploading", "Finalizing"])
def test_backup_goes_on_and_writes_every_object_once(world: World, slow_store: Throttle, phase: str) -> None:
    before, name = world.loaded(), world.name()
    manifest = manifests.backup(name, location="slow", config=SMALL_CHUNKS)
    world.kubectl.apply(manifest)
    view = reach(world.kubectl, "weaviatebackup", name, phase, timeout_seconds=120)
    assert view.phase == phase
    if phase == "Uploading":
        _wait_for_objects(world, name)
    sessions = _sessions(world, name)
    early = world.stored(name)
    world.kill_operator()
    slow_store.bytes_per_second *= 3
    world.assert_completed(world.finish(manifest))
    stored = world.stored(name)
    rewritten = [key for key in early if stored.get(key) != early[key]]
    assert rewritten == []
    if phase != "Preparing":
        assert early, "nothing had been stored when the operator was killed: the test proves nothing"
        assert _sessions(world, name) == sessions
    world.remove_data()
    world.complete(manifests.restore(name, source={"backupRef": {"name": name}}))
    world.assert_unchanged(before)


@pytest.mark.parametrize("phase", ["Downloading", "Applying", "Verifying"])
def test_restore_goes_on_and_happens_once(world: World, slow_store: Throttle, phase: str) -> None:
    before, name = world.loaded(), world.name()
    slow_store.bytes_per_second = 0
    world.complete(manifests.backup(name, location="slow"))
    world.remove_data()
    slow_store.bytes_per_second = SLOW_BYTES_PER_SECOND * 4
    manifest = manifests.restore(name, source={"backupRef": {"name": name}})
    world.kubectl.apply(manifest)
    view = reach(world.kubectl, "weaviaterestore", name, phase, "Verifying", timeout_seconds=120)
    assert not view.is_terminal or view.is_completed
    world.kill_operator()
    world.assert_completed(world.finish(manifest))
    world.assert_unchanged(before)


def _wait_for_objects(world: World, name: str) -> None:
    deadline = time.monotonic() + 60
    while not any(key.rsplit("/", 1)[-1].startswith("chunk-") for key in world.stored(name)):
        assert time.monotonic() < deadline, "no chunk was stored"
        time.sleep(0.2)


def _sessions(world: World, name: str) -> list[str]:
    """Changes when an agent started anew."""
    return [node.get("sessionID", "") for node in world.resource("weaviatebackup", name)["status"].get("nodes", [])]
