"""A backup on a real API server beside a real Weaviate; only the agents are scripted."""

import asyncio
from collections.abc import Mapping

import pytest
from tests.controller.conftest import TRUSTED, Stage, phase_of, trusted_by

from weaviate_backup.core.orders import STORE_WORKER
from weaviate_backup.core.session import Failure, Step

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.weaviate,
    # A request of the hand-made kubelet under way when its test ends leaves its socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LOCATION = {"s3": {"bucket": "backups", "credentialsSecretRef": {"name": "credentials"}}}


async def test_a_backup_completes_and_leaves_nothing_behind(stage: Stage) -> None:
    async with stage.operator():
        await start(stage)
        done = await stage.phase("nightly", "Completed")
        done = await stage.wait("weaviatebackups/nightly", lambda body: body["status"].get("cleanedUp", False))
        assert conditions(done) == {"Ready": "True"}
        status = done["status"]
        assert status["observedGeneration"] == 1
        assert status["weaviateStatus"] == "SUCCESS"
        assert status["backupID"] == "nightly"
        assert status["progress"]["percent"] == 100
        assert status["objects"] == 3
        assert status["collections"] == {"count": 1, "names": ["Article"]}
        await stage.wait("weaviatebackups/nightly", lambda body: not body["metadata"].get("finalizers"))
        _, left = await stage.get("weaviatebackups/nightly")
        assert not left["metadata"].get("annotations")
        for path in ("pods", "secrets", "leases"):
            _, listed = await stage.get(path)
            names = [item["metadata"]["name"] for item in listed["items"]]
            assert not [name for name in names if name.startswith("wvb-")], path
        order = stage.script.sessions[-2:]
        assert {each.node for each in order} == {"weaviate-0", STORE_WORKER}
        steps = [step for _, step in stage.script.orders]
        assert steps == [Step.FREEZE, Step.UPLOAD, Step.VERIFY, Step.COMMIT, Step.RELEASE]
        assert (STORE_WORKER, Step.VERIFY) in stage.script.orders


async def test_a_restarted_operator_goes_on(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Uploading")
    stage.script.hold.clear()
    async with stage.operator():
        await stage.phase("nightly", "Completed")
    assert stage.script.marker


async def test_a_lost_agent_is_made_again_and_goes_on_from_its_journal(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Uploading")
        pods = await stage.wait("pods", lambda _: ("weaviate-0", Step.UPLOAD) in stage.script.orders)
        assert trusted_by(pods["items"]) == {TRUSTED}
        await stage.kubelet.kill("weaviate-0")
        stage.script.hold.clear()
        done = await stage.phase("nightly", "Completed")
    assert done["status"]["nodes"][0]["restarts"] == 1
    assert [step for _, step in stage.script.orders].count(Step.FREEZE) == 1


async def test_cancel_takes_back_what_was_written(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Uploading")
        await stage.apply("WeaviateBackup", "nightly", {"locationRef": {"name": "store"}, "cancel": True})
        canceled = await stage.phase("nightly", "Canceled")
    assert conditions(canceled) == {"Ready": "False", "Stalled": "True"}
    assert canceled["status"]["failure"]["reason"] == "Canceled"
    assert not stage.script.frozen
    assert [step for _, step in stage.script.orders][-3:] == [Step.DISCARD, Step.RELEASE, Step.VACATE]


async def test_deleting_a_running_backup_lets_go_first(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Uploading")
        path = stage.server.path_of(await body_of(stage, "nightly"))
        await asyncio.to_thread(stage.server.request, "DELETE", path)
        await stage.wait("weaviatebackups/nightly", lambda body: body.get("code") == 404)
    assert not stage.script.frozen


async def test_a_refusal_of_an_agent_is_the_reason_of_the_failure(stage: Stage) -> None:
    stage.script.failures[Step.FREEZE] = [Failure(reason="BackupExists", message="it is there", transient=False)]
    async with stage.operator():
        await start(stage)
        failed = await stage.phase("nightly", "Failed")
        events = await stage.wait("events", lambda found: "BackupExists" in str(found))
    assert failed["status"]["failure"] == {"reason": "BackupExists", "message": "weaviate-0: it is there"}
    assert Step.DISCARD in [step for _, step in stage.script.orders], "another node's freeze may have written"
    assert "Warning" in {event["type"] for event in events["items"]}


async def test_a_failure_that_may_pass_is_tried_again(stage: Stage) -> None:
    stage.script.failures[Step.UPLOAD] = [Failure(reason="StoreBusy", message="slow down", transient=True)]
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Completed")
    assert [step for _, step in stage.script.orders].count(Step.UPLOAD) == 2


async def test_an_agent_is_told_where_a_weaviate_pod_that_was_made_anew_is(stage: Stage) -> None:
    away = Failure(reason="ServerUnavailable", message="no answer", transient=True)
    stage.script.hold.add(Step.FREEZE)
    async with stage.operator():
        await start(stage)
        await stage.wait("pods", lambda _: ("weaviate-0", Step.FREEZE) in stage.script.orders)
        await stage.move("weaviate-0", "127.0.0.2")
        stage.script.failures[Step.FREEZE] = [away]
        stage.script.hold.clear()
        await stage.phase("nightly", "Completed")
    told = [each.weaviate.host for each in stage.script.sessions if each.weaviate]
    assert told == ["127.0.0.1", "127.0.0.2"]


async def test_a_suspended_location_is_refused_at_once(stage: Stage) -> None:
    async with stage.operator():
        await start(stage, location={**LOCATION, "suspend": True})
        failed = await stage.phase("nightly", "Failed")
    assert failed["status"]["failure"]["reason"] == "LocationSuspended"
    assert not stage.script.sessions


async def test_a_missing_secret_is_said_by_name_and_waited_for(stage: Stage) -> None:
    async with stage.operator():
        await start(stage, secret=False)
        waiting = await stage.wait("weaviatebackups/nightly", lambda body: "SecretNotFound" in str(body.get("status")))
        assert phase_of(waiting) == "Pending"
        location = await stage.wait("weaviatebackuplocations/store", lambda body: bool(body.get("status")))
        assert "'credentials'" in location["status"]["conditions"][0]["message"]
        await add_secret(stage)
        await stage.phase("nightly", "Completed")


async def test_the_second_backup_of_a_cluster_queues(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Uploading")
        await stage.apply("WeaviateBackup", "second", {"locationRef": {"name": "store"}})
        queued = await stage.wait("weaviatebackups/second", lambda body: "Queued" in str(body.get("status")))
        assert "nightly" in queued["status"]["conditions"][0]["message"]
        stage.script.hold.clear()
        await stage.phase("second", "Completed")


async def start(stage: Stage, *, location: Mapping[str, object] = LOCATION, secret: bool = True) -> None:
    if secret:
        await add_secret(stage)
    await stage.apply("WeaviateBackupLocation", "store", dict(location))
    await stage.apply("WeaviateBackup", "nightly", {"locationRef": {"name": "store"}})


async def add_secret(stage: Stage) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "credentials", "namespace": stage.namespace},
        "stringData": {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
    }
    await asyncio.to_thread(stage.server.apply, body)


async def body_of(stage: Stage, name: str) -> dict[str, object]:
    _, body = await stage.get(f"weaviatebackups/{name}")
    return body


def conditions(body: dict[str, object]) -> dict[str, str]:
    status = body["status"]
    assert isinstance(status, dict)
    return {condition["type"]: condition["status"] for condition in status["conditions"]}
