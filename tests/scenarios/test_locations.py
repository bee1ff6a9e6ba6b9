"""Locations on real nodes: tried from two of them, a private volume found out, a changed Secret noticed."""

import time
from collections.abc import Callable

import pytest
from e2e.cluster import manifests
from tests.scenarios.world import World

pytestmark = pytest.mark.lab
NOTICED_SECONDS = 90
"""A changed Secret: until the operator looks, and two pods have tried."""


def wait_for(world: World, name: str, condition: Callable[[manifests.Manifest], bool]) -> manifests.Manifest:
    """The status once it is so."""
    deadline = time.monotonic() + NOTICED_SECONDS
    while True:
        status: manifests.Manifest = world.resource("weaviatebackuplocation", name).get("status") or {}
        if condition(status):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.5)


def reason(status: manifests.Manifest) -> str:
    return next((str(each["reason"]) for each in status.get("conditions", ()) if each["type"] == "Ready"), "")


def test_two_nodes_try_a_location_and_its_new_secret(world: World) -> None:
    name = world.name()
    world.locate(name)
    began = time.monotonic()
    status = wait_for(world, name, lambda status: reason(status) == "Ready")
    print(f"ready after {time.monotonic() - began:.1f} s, the probe took {status['lastProbeSeconds']} s")
    assert len({probe["node"] for probe in status["probes"]}) == 2
    assert set(status["capabilities"].values()) == {True}
    assert all(abs(probe["clockSkewSeconds"]) < 5 for probe in status["probes"])
    right = manifests.secret(name, world.lab.store)
    wrong = {**right, "stringData": {**right["stringData"], "AWS_SECRET_ACCESS_KEY": "rotated-wrongly"}}
    world.kubectl.apply(wrong)
    began = time.monotonic()
    wait_for(world, name, lambda status: reason(status) == "InvalidCredentials")
    print(f"a wrong Secret was told after {time.monotonic() - began:.1f} s")
    world.kubectl.apply(right)
    began = time.monotonic()
    wait_for(world, name, lambda status: reason(status) == "Ready")
    print(f"a mended Secret was told after {time.monotonic() - began:.1f} s")
    world.loaded()
    world.complete(manifests.backup(world.name(), location=name))


def test_a_volume_of_one_node_is_no_location(world: World) -> None:
    name = world.name()
    location: manifests.Manifest = {
        "apiVersion": manifests.API_VERSION,
        "kind": "WeaviateBackupLocation",
        "metadata": {"name": name},
        "spec": {"filesystem": {"volume": {"hostPath": {"path": f"/run/{name}", "type": "DirectoryOrCreate"}}}},
    }
    world.kubectl.apply(location)
    began = time.monotonic()
    view = world.run(manifests.backup(world.name(), location=name))
    assert (view.phase, view.reason) == ("Failed", "LocationNotShared")
    assert "spec.filesystem.volume must be one that all nodes share" in view.message
    assert time.monotonic() - began < 30
    world.kubectl.delete("weaviatebackuplocation", name)


def test_workers_hold_no_token(world: World) -> None:
    """Neither they nor anything in them can speak to the API server."""
    name = world.name()
    world.locate(name)
    seen: dict[str, manifests.Manifest] = {}
    deadline = time.monotonic() + NOTICED_SECONDS
    while len(seen) < 2 and time.monotonic() < deadline:
        owner = world.resource("weaviatebackuplocation", name)["metadata"]["uid"]
        pods = world.kubectl.items("pods", f"--selector=app.kubernetes.io/instance={owner}")
        seen |= {pod["metadata"]["name"]: pod["spec"] for pod in pods}
    assert len(seen) == 2
    for spec in seen.values():
        assert spec["automountServiceAccountToken"] is False
        assert "serviceAccountToken" not in str(spec["volumes"])
    wait_for(world, name, lambda status: reason(status) == "Ready")
