"""The operator is away for minutes, an hour or a day in the middle: agents end by themselves, and all goes on.

Nobody waits that long. The agents' lease is short, and ends while they are alone; and before the operator is back every
time that a status remembers is moved back by what the absence is to last.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from e2e.cluster import manifests
from e2e.cluster.following import reach
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.throttle import Throttle
from tests.scenarios.slow_location import slow_location
from tests.scenarios.world import AGENT_LABEL, World

pytestmark = pytest.mark.lab
LEASE_SECONDS = 30
ALONE_SECONDS = 3 * LEASE_SECONDS
AWAY_SECONDS = [int(each) for each in os.environ.get("WVB_AWAY_SECONDS", "86400").split()]
SLOW_BYTES_PER_SECOND = 1_500_000
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
LEASE = "WVB_AGENT_LEASE_SECONDS"


@pytest.fixture(scope="module", autouse=True)
def _short_leases(_world: World) -> Iterator[None]:
    deployment = _Deployment(_world)
    deployment.run("set", "env", deployment.name, f"{LEASE}={LEASE_SECONDS}")
    deployment.roll_out()
    yield
    deployment.run("set", "env", deployment.name, f"{LEASE}-")
    deployment.roll_out()


@pytest.fixture
def slow_store(world: World) -> Iterator[Throttle]:
    with slow_location(world, bytes_per_second=SLOW_BYTES_PER_SECOND) as throttle:
        yield throttle
        throttle.bytes_per_second = 0
        world.tidy()


@pytest.mark.parametrize("away_seconds", AWAY_SECONDS)
@pytest.mark.parametrize("phase", ["Preparing", "Uploading", "Finalizing"])
def test_a_backup_goes_on(world: World, slow_store: Throttle, phase: str, away_seconds: int) -> None:
    before, name = world.loaded(), world.name()
    manifest = manifests.backup(name, location="slow", config={"chunkSize": 2})
    world.kubectl.apply(manifest)
    assert reach(world.kubectl, "weaviatebackup", name, phase, timeout_seconds=120).phase == phase
    with _operator_away(world, "weaviatebackup", name, away_seconds):
        slow_store.bytes_per_second = 0
        _wait_for_agents_to_end(world)
        alone = world.stored(name)
    world.assert_completed(world.finish(manifest))
    stored = world.stored(name)
    assert [key for key in alone if stored.get(key) != alone[key]] == [], "nothing is sent twice"
    if phase == "Uploading":
        assert any("/chunk-" in key for key in alone), "the agents sent nothing while nobody asked them"
    world.remove_data()
    world.complete(manifests.restore(name, source={"backupRef": {"name": name}}))
    world.assert_unchanged(before)


@pytest.mark.parametrize("away_seconds", AWAY_SECONDS)
def test_a_backup_that_is_canceled_meanwhile_leaves_nothing(
    world: World, slow_store: Throttle, away_seconds: int
) -> None:
    before, name = world.loaded(), world.name()
    manifest = manifests.backup(name, location="slow")
    world.kubectl.apply(manifest)
    assert reach(world.kubectl, "weaviatebackup", name, "Uploading", timeout_seconds=120).phase == "Uploading"
    with _operator_away(world, "weaviatebackup", name, away_seconds):
        world.kubectl.patch("weaviatebackup", name, {"spec": {"cancel": True}})
        slow_store.bytes_per_second = 0
        _wait_for_agents_to_end(world)
        assert world.stored(name), "nothing had been sent"
    assert world.finish(manifest).phase == "Canceled"
    assert world.stored(name) == {}
    world.assert_unchanged(before)


@pytest.mark.parametrize("away_seconds", AWAY_SECONDS)
@pytest.mark.parametrize("phase", ["Downloading", "Applying", "Verifying"])
def test_a_restore_goes_on(world: World, slow_store: Throttle, phase: str, away_seconds: int) -> None:
    before, name = world.loaded(), world.name()
    slow_store.bytes_per_second = 0
    world.complete(manifests.backup(name, location="slow"))
    world.remove_data()
    slow_store.bytes_per_second = 4 * SLOW_BYTES_PER_SECOND
    manifest = manifests.restore(name, source={"backupRef": {"name": name}})
    world.kubectl.apply(manifest)
    view = reach(world.kubectl, "weaviaterestore", name, phase, "Verifying", timeout_seconds=120)
    assert not view.is_terminal, "it was over before the operator could leave"
    with _operator_away(world, "weaviaterestore", name, away_seconds):
        slow_store.bytes_per_second = 0
        _wait_for_agents_to_end(world)
    world.assert_completed(world.finish(manifest))
    world.assert_unchanged(before)


class _Deployment:
    """The operator's."""

    def __init__(self, world: World) -> None:
        (pod,) = [each for each in world.operator_pods() if not each["metadata"].get("deletionTimestamp")][:1]
        self._kubectl = Kubectl(pod["metadata"]["namespace"])
        (replica_set,) = pod["metadata"]["ownerReferences"]
        found = self._kubectl.get("replicaset", replica_set["name"])
        assert found is not None
        self.name = f"deployment/{found['metadata']['ownerReferences'][0]['name']}"
        self.run: Callable[..., str] = self._kubectl.run

    def roll_out(self) -> None:
        self.run("rollout", "status", self.name, "--timeout=120s", timeout_seconds=130)


@contextmanager
def _operator_away(world: World, kind: str, name: str, away_seconds: int) -> Iterator[None]:
    """At its end so much time has passed, as far as the status says, and the operator is back."""
    deployment = _Deployment(world)
    deployment.run("scale", deployment.name, "--replicas=0")
    for pod in world.operator_pods():
        deployment.run("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", "--ignore-not-found")
    while world.operator_pods():
        time.sleep(0.2)
    try:
        yield
        earlier = _earlier(world.resource(kind, name)["status"], timedelta(seconds=away_seconds))
        patch = ("--subresource=status", "--type=merge", f"--patch={json.dumps({'status': earlier})}")
        world.kubectl.run("patch", kind, name, *patch)
    finally:
        deployment.run("scale", deployment.name, "--replicas=1")
    deployment.roll_out()


def _earlier(value: Any, by: timedelta) -> Any:
    """The same, with every time in it moved back."""
    if isinstance(value, dict):
        return {key: _earlier(each, by) for key, each in value.items()}
    if isinstance(value, list):
        return [_earlier(each, by) for each in value]
    if isinstance(value, str) and TIME.fullmatch(value):
        moved = datetime.fromisoformat(value) - by
        return moved.isoformat(timespec="milliseconds" if "." in value else "seconds").replace("+00:00", "Z")
    return value


def _wait_for_agents_to_end(world: World) -> None:
    """Nobody asks them for longer than their lease, and none has anything left to do."""
    deadline = time.monotonic() + ALONE_SECONDS
    while alive := [
        pod["metadata"]["name"]
        for pod in world.kubectl.items("pods", f"--selector={AGENT_LABEL}")
        if pod["status"].get("phase") not in ("Succeeded", "Failed")
    ]:
        assert time.monotonic() < deadline, f"{alive} still run, though nobody asks them"
        time.sleep(0.5)
