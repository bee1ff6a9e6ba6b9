"""Method Server: Weaviate's own engine does the work, with our status, refusals and look at what it stored."""

from typing import Any

import pytest
from e2e.cluster import manifests, objects
from e2e.cluster.following import reach
from e2e.cluster.throttle import throttled
from tests.scenarios.test_every_store import FOREIGN
from tests.scenarios.world import World

pytestmark = pytest.mark.lab
ELSEWHERE = "deep/place"


def status_of(world: World, kind: str, name: str) -> Any:
    return world.resource(kind, name)["status"]


def server_says(world: World, name: str) -> str:
    return str(world.weaviate.call("GET", f"/v1/backups/s3/{name}")["status"])


@pytest.mark.parametrize("location", ["s3", "elsewhere"])
def test_the_server_backs_up_and_both_bring_it_back(world: World, location: str) -> None:
    """`elsewhere` is another path than that of the server's module."""
    before, name = world.loaded(), world.name()
    if location == "elsewhere":
        world.locate(location, path=ELSEWHERE)
        world.kubectl.wait("weaviatebackuplocation", location, "condition=Ready", timeout_seconds=90)
    view = world.complete(manifests.backup(name, location=location, method="Server"))
    prefix = f"{ELSEWHERE}/{name}" if location == "elsewhere" else name
    stored = world.stored(prefix)
    status = status_of(world, "weaviatebackup", name)
    assert (status["method"], status["weaviateStatus"], status["backupID"]) == ("Server", "SUCCESS", name)
    assert status["objects"] == len(stored)
    assert f"{len(stored)} objects, every stream to its end" in view.message
    assert "the server records no checksums" in view.message
    assert not [key for key in stored if "manifest" in key]
    source = {"backupRef": {"name": name}}
    world.remove_data()
    restored = world.complete(manifests.restore(world.name(), source=source, method="Server"))
    assert "every active shard is listed as ready" in restored.message
    assert restored.objects
    world.assert_unchanged(before)
    world.remove_data()
    world.complete(manifests.restore(world.name(), source=source))
    world.assert_unchanged(before)


@pytest.mark.parametrize("kind", FOREIGN)
def test_on_other_stores(world: World, kind: str) -> None:
    before, name = world.loaded(), world.name()
    view = world.complete(manifests.backup(name, location=kind, method="Server"))
    stored = objects.listing(world.lab.stores[kind], f"{name}/")
    status = status_of(world, "weaviatebackup", name)
    assert (status["weaviateStatus"], status["objects"]) == ("SUCCESS", len(stored))
    assert f"{len(stored)} objects, every stream to its end" in view.message
    source = {"backupRef": {"name": name}}
    for more in ({"method": "Server"}, {}):
        world.remove_data()
        world.complete(manifests.restore(world.name(), source=source, **more))
        world.assert_unchanged(before)
    assert stored.items() <= objects.listing(world.lab.stores[kind], f"{name}/").items()  # its restore leaves a note


def test_the_server_brings_back_part_of_what_agents_stored(world: World) -> None:
    before, name = world.loaded(), world.name()
    world.complete(manifests.backup(name))
    source = {"backupRef": {"name": name}}
    dry = world.run(manifests.restore(world.name(), source=source, method="Server", dryRun=True))
    assert (dry.phase, dry.reason) == ("Failed", "CollectionExists")
    world.remove_data()
    world.complete(manifests.restore(world.name(), source=source, method="Server", include=["Art*"]))
    assert set(world.weaviate.collections()) == {"Article"}
    world.complete(manifests.restore(world.name(), source=source, method="Server", exclude=["Article"]))
    world.assert_unchanged(before)


def test_refusals_name_the_cure(world: World) -> None:
    world.loaded()
    name = world.name()
    world.complete(manifests.backup(name))
    stored = world.stored()
    view = world.run(manifests.backup(world.name(), backupID=name, method="Server"))
    assert (view.phase, view.reason) == ("Failed", "BackupExists")
    assert "choose another backupID" in view.message
    host, port = world.lab.store.host_and_port.split(":")
    with throttled(host, (host, int(port)), bytes_per_second=0) as proxy:
        world.locate("proxied", endpoint=f"{host}:{proxy.port}")
        world.kubectl.wait("weaviatebackuplocation", "proxied", "condition=Ready", timeout_seconds=90)
        view = world.run(manifests.backup(world.name(), location="proxied", method="Server"))
        assert (view.phase, view.reason) == ("Failed", "ServerModuleMismatch")
        assert f"Weaviate's BACKUP_S3_ENDPOINT is '{host}:{port}'" in view.message
    assert world.stored() == stored


def test_cancel_stops_the_server(world: World) -> None:
    world.loaded()
    name = world.name()
    manifest = manifests.backup(name, method="Server")
    world.kubectl.apply(manifest)
    view = reach(world.kubectl, "weaviatebackup", name, "Uploading", timeout_seconds=120)
    assert view.phase == "Uploading"
    world.kubectl.apply(manifests.backup(name, method="Server", cancel=True))
    view = world.finish(manifest)
    assert (view.phase, view.reason) == ("Canceled", "Canceled")
    assert server_says(world, name) in ("CANCELED", "CANCELLED", "SUCCESS")
    assert (server_says(world, name) == "SUCCESS") == ("completed its own backup" in view.message)


@pytest.mark.parametrize("phase", ["Preparing", "Uploading", "Finalizing"])
def test_a_backup_goes_on_when_the_operator_is_killed(world: World, phase: str) -> None:
    world.loaded()
    name = world.name()
    manifest = manifests.backup(name, method="Server")
    world.kubectl.apply(manifest)
    view = reach(world.kubectl, "weaviatebackup", name, phase, timeout_seconds=120)
    assert view.phase == phase
    world.kill_operator()
    world.assert_completed(world.finish(manifest))
    assert server_says(world, name) == "SUCCESS"


@pytest.mark.parametrize("phase", ["Validating", "Downloading"])
def test_a_restore_goes_on_when_the_operator_is_killed(world: World, phase: str) -> None:
    before, name = world.loaded(), world.name()
    world.complete(manifests.backup(name, method="Server"))
    world.remove_data()
    manifest = manifests.restore(name, source={"backupRef": {"name": name}}, method="Server")
    world.kubectl.apply(manifest)
    view = reach(world.kubectl, "weaviaterestore", name, phase, timeout_seconds=120)
    assert view.phase == phase
    world.kill_operator()
    world.assert_completed(world.finish(manifest))
    world.assert_unchanged(before)
