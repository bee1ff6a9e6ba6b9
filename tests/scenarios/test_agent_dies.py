"""An agent is killed while it uploads: its successor goes on, and only what was in flight is sent a second time."""

import os
import signal
import time

import pytest
from e2e.bench.agent_memory import agent_processes
from e2e.cluster import bucket, manifests
from e2e.cluster.following import reach
from tests.scenarios.slow_location import slow_location
from tests.scenarios.world import World

pytestmark = pytest.mark.lab
SLOW_BYTES_PER_SECOND = 1_000_000
CHUNK_MEBIBYTES = 2
IN_FLIGHT_BYTES = 2 * CHUNK_MEBIBYTES * 1024 * 1024
"""The killed agent has at most one chunk for each of its two workers under way."""
OVERHEAD = 1.1
"""Headers of HTTP, signatures, descriptors, manifests and the probes of the location."""


def test_backup_goes_on_and_sends_little_twice(world: World) -> None:
    before, name = world.loaded(), world.name()
    with slow_location(world, bytes_per_second=SLOW_BYTES_PER_SECOND) as throttle:
        sent_before = throttle.bytes_up
        manifest = manifests.backup(name, location="slow", config={"chunkSize": CHUNK_MEBIBYTES})
        world.kubectl.apply(manifest)
        assert reach(world.kubectl, "weaviatebackup", name, "Uploading", timeout_seconds=120).phase == "Uploading"
        node = _node_with_chunks(world, name)
        early = world.stored(name)
        processes = agent_processes(node)
        assert processes, f"no agent process for {node} is seen"
        for process in processes:
            os.kill(process, signal.SIGKILL)
        view = world.assert_completed(world.finish(manifest))
        sent = throttle.bytes_up - sent_before
        throttle.bytes_per_second = 0
        assert sum(entry.restarts for entry in view.nodes) == 1
        stored = bucket.listing(world.lab.store, f"{name}/")
        assert sent <= OVERHEAD * sum(stored.values()) + IN_FLIGHT_BYTES
        late = world.stored(name)
        assert [key for key in early if late.get(key) != early[key]] == []
        world.remove_data()
        world.complete(manifests.restore(name, source={"backupRef": {"name": name}}))
        world.assert_unchanged(before)
        world.tidy()


def _node_with_chunks(world: World, name: str) -> str:
    """A node whose agent has stored a chunk already, so that there is something to lose."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        for key in world.stored(name):
            if key.rsplit("/", 1)[-1].startswith("chunk-"):
                return key.split("/")[1]
        time.sleep(0.2)
    raise AssertionError("no chunk was stored")
