"""Everything comes back as it was, and Completed is true: the status says what store and volumes hold."""

import json

import pytest
from e2e.cluster import manifests
from e2e.cluster.following import reach
from tests.scenarios.world import World

pytestmark = pytest.mark.lab


def test_what_comes_back_is_what_was(world: World) -> None:
    before, name = world.loaded(), world.name()
    manifest = manifests.backup(name)
    backup = world.complete(manifest)
    stored = world.stored(name)
    assert backup.objects == len(stored)
    assert backup.bytes_stored <= sum(file.size_bytes for file in stored.values())
    assert backup.percent == 100
    assert backup.bytes_done == backup.bytes_total > 0
    assert {f"{name}/backup_config.json", f"{name}/manifest.json"} <= set(stored)
    assert {f"{name}/{node}/backup.json" for node in world.lab.weaviate_nodes} <= set(stored)
    assert {f"{name}/{node}/manifest.json.zst" for node in world.lab.weaviate_nodes} <= set(stored)
    last_written = max(stored, key=lambda key: stored[key].modified_ns)
    assert last_written == f"{name}/backup_config.json"
    assert backup.longest_halt_seconds is not None
    assert backup.seconds is not None
    assert 0 < backup.longest_halt_seconds < backup.seconds

    world.remove_data()
    restore_name = world.name()
    dry = world.complete(manifests.restore(world.name(), source={"backupRef": {"name": name}}, dryRun=True))
    assert dry.bytes_done == 0
    assert world.weaviate.collections() == {}
    assert world.left_overs() == []

    world.complete(manifests.restore(restore_name, source={"backupRef": {"name": name}}))
    world.assert_unchanged(before)
    assert world.stored(name) == stored

    resource = world.resource("weaviatebackup", name)
    assert resource["status"]["weaviateStatus"] == "SUCCESS"
    assert resource["status"]["tenants"] == {"active": 3, "inactive": 2, "offloaded": 0, "offloadedNames": []}
    assert resource["metadata"]["generation"] == 1
    assert manifest["spec"].items() <= resource["spec"].items()
    assert len(json.dumps(resource["status"])) < 100 * 1024
    store = world.lab.store
    written = world.everything_written()
    assert store.secret_key not in written
    assert store.access_key not in written


def test_one_collection_can_be_left_out_and_brought_back_alone(world: World) -> None:
    before, name = world.loaded(), world.name()
    world.complete(manifests.backup(name, exclude=["Draft"]))
    world.forget()
    world.weaviate.delete_alias("Headline")
    world.weaviate.delete_collection("Article")
    source = {"backupRef": {"name": name}}
    restore = world.complete(manifests.restore(world.name(), source=source, include=["Art*"]))
    assert world.resource("weaviaterestore", restore.name)["status"]["collections"]["names"] == ["Article"]
    world.assert_unchanged(before)


def test_two_backups_at_once_run_one_after_the_other(world: World) -> None:
    world.loaded()
    first, second = manifests.backup(world.name()), manifests.backup(world.name())
    world.kubectl.apply(first, second)
    views = [world.assert_completed(world.finish(manifest)) for manifest in (first, second)]
    spans = sorted(
        (status["startTime"], status["completionTime"])
        for status in (world.resource("weaviatebackup", view.name)["status"] for view in views)
    )
    assert spans[0][1] <= spans[1][0], spans


def test_a_canceled_backup_leaves_nothing_and_its_name_can_be_used_again(world: World) -> None:
    world.loaded()
    manifest = manifests.backup(world.name())
    name = manifest["metadata"]["name"]
    world.kubectl.apply(manifest)
    reach(world.kubectl, "weaviatebackup", name, "Preparing", "Uploading", timeout_seconds=60)
    world.kubectl.patch("weaviatebackup", name, {"spec": {"cancel": True}})
    view = world.finish(manifest, timeout_seconds=60)
    assert (view.phase, view.reason) == ("Canceled", "Canceled")
    assert world.stored(name) == {}
    world.kubectl.delete("weaviatebackup", name)
    world.complete(manifest)
