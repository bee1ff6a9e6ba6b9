"""A location on a real API server and a real S3 server, tried by the workers' own program; only the kubelet is ours."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import REGISTRY
from tests.api_server import Json
from tests.controller.conftest import TRUSTED, Stage, trusted_by
from tests.controller.test_backup_runs import conditions
from tests.s3_server import S3Server, running_s3_server

from weaviate_backup.agent import probe
from weaviate_backup.api.model import dump
from weaviate_backup.controller import location_gate, location_probe, locations
from weaviate_backup.controller.agent_pods import MANAGED_BY
from weaviate_backup.core.session import Step

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.weaviate,
    # A request of the hand-made kubelet under way when its test ends leaves its socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
BUCKET = "backups"
STORE = "weaviatebackuplocations/store"
OF_ONE_NODE: Json = {"persistentVolumeClaim": {"claimName": "of-one-node"}}
"""The workers' own program finds an empty directory of its own there."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3_server(tmp_path_factory.mktemp("s3") / "data") as server:
        server.make_bucket(BUCKET)
        yield server


async def measured(stage: Stage, name: str, *, value: float, **labels: str) -> None:
    """A gauge follows the status, which can be read a moment earlier."""
    async with asyncio.timeout(5):
        while True:
            if gauge(stage, name, **labels) == value:
                return
            await asyncio.sleep(0.05)


@pytest.fixture
def real_stage(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(locations, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(probe, "PEER_SECONDS", 1.0)
    monkeypatch.setattr(location_probe, "STUCK_SECONDS", 1.0)
    monkeypatch.setattr(location_probe, "SECOND_WORKER_SECONDS", 1.0)
    stage.kubelet.worker_directory = tmp_path / "workers"
    return stage


async def test_it_is_tried_from_two_nodes_and_again_when_its_secret_changes(
    real_stage: Stage, server: S3Server
) -> None:
    stage = real_stage
    async with stage.operator():
        await stage.apply("WeaviateBackupLocation", "store", s3(server))
        lacking = await verdict(stage, "SecretNotFound")
        assert "'credentials'" in lacking["message"] and "spec.s3.credentialsSecretRef" in lacking["message"]
        await secret(stage, server.credentials)
        await verdict(stage, "Ready")
        status = (await location(stage))["status"]
        assert {probe["node"] for probe in status["probes"]} == {"node-0", "node-1"}
        assert all(finding["ok"] for probe in status["probes"] for finding in probe["findings"])
        assert status["capabilities"] == dict.fromkeys(
            ("write", "read", "list", "writeOnce", "multipart", "delete", "share"), True
        )
        assert {probe["identity"] for probe in status["probes"]} == {"access key te…"}
        assert all(abs(probe["clockSkewSeconds"]) < 5 for probe in status["probes"])
        assert not [path for path in (server.directory / BUCKET).rglob("*") if path.is_file()]
        await measured(stage, "wvb_location_ready", value=1)
        await secret(stage, {**server.credentials, "AWS_SECRET_ACCESS_KEY": "rotated-wrongly"})
        wrong = await verdict(stage, "InvalidCredentials")
        assert "spec.s3.credentialsSecretRef" in wrong["message"]
        await measured(stage, "wvb_location_ready", value=0)
        await measured(stage, "wvb_location_action_failed", action="check", value=1)
        await secret(stage, server.credentials)
        await verdict(stage, "Ready")
        after = await stage.get("events")
    everything = str((await location(stage))["status"]) + str(after)
    assert "rotated-wrongly" not in everything
    assert server.credentials["AWS_SECRET_ACCESS_KEY"] not in everything
    reasons = {event["reason"]: event["type"] for event in after[1]["items"]}
    assert reasons == {"SecretNotFound": "Warning", "Ready": "Normal", "InvalidCredentials": "Warning"}


async def test_a_volume_that_is_not_shared_is_found_out(real_stage: Stage, tmp_path: Path) -> None:
    async with real_stage.operator():
        await real_stage.apply("WeaviateBackupLocation", "store", {"filesystem": {"volume": OF_ONE_NODE}})
        refused = await verdict(real_stage, "LocationNotShared")
        assert "spec.filesystem.volume" in refused["message"]
        assert {"node-0", "node-1"} <= set(refused["message"].replace(";", " ").split())
        shared = {"filesystem": {"volume": {"hostPath": {"path": str(tmp_path / "shared")}}}}
        await real_stage.apply("WeaviateBackupLocation", "store", shared)
        await verdict(real_stage, "Ready")
        assert (await location(real_stage))["status"]["capabilities"]["share"] is True


async def test_read_only_locations_are_only_read_and_suspended_ones_left_alone(
    real_stage: Stage, server: S3Server
) -> None:
    stage = real_stage
    await secret(stage, server.credentials)
    async with stage.operator():
        await stage.apply("WeaviateBackupLocation", "store", {**s3(server), "readOnly": True})
        await verdict(stage, "Ready")
        status = (await location(stage))["status"]
        assert status["readOnly"] is True
        assert [finding["action"] for finding in status["probes"][0]["findings"]] == ["check", "list", "read"]
        await stage.apply("WeaviateBackup", "nightly", {"locationRef": {"name": "store"}})
        refused = await stage.phase("nightly", "Failed")
        assert refused["status"]["failure"]["reason"] == "LocationReadOnly"
        await stage.apply("WeaviateBackupLocation", "store", {**s3(server), "suspend": True})
        await verdict(stage, "LocationSuspended")
        await stage.apply("WeaviateBackup", "second", {"locationRef": {"name": "store"}})
        refused = await stage.phase("second", "Failed")
        assert refused["status"]["failure"]["reason"] == "LocationSuspended"
        await stage.apply("WeaviateBackupLocation", "store", s3(server))
        await verdict(stage, "Ready")


async def test_credentials_may_lie_in_several_secrets(real_stage: Stage, server: S3Server) -> None:
    """Each key is taken from the Secret that names it, whatever else lies there, and each Secret is watched."""
    stage = real_stage
    spec = dump(server.location(BUCKET))
    references = [{"name": key.lower().replace("_", "-"), "key": key} for key in server.credentials]
    wrong = dict.fromkeys(server.credentials, "not this one")
    async with stage.operator():
        await secret(stage, wrong)
        split = {"s3": {**spec, "credentialsSecretRef": {"name": "credentials"}, "credentialKeyRefs": references}}
        await secret(stage, {**wrong, references[0]["key"]: "rotated-wrongly"}, name=references[0]["name"])
        await stage.apply("WeaviateBackupLocation", "store", split)
        lacking = await verdict(stage, "SecretNotFound")
        assert repr(references[1]["name"]) in lacking["message"]
        assert "spec.s3.credentialKeyRefs" in lacking["message"]
        await secret(stage, server.credentials, name=references[1]["name"])
        await verdict(stage, "InvalidCredentials")
        await secret(stage, server.credentials, name=references[0]["name"])
        await verdict(stage, "Ready")


async def test_a_public_key_of_another_kind_is_found_out(real_stage: Stage, server: S3Server) -> None:
    """It has the form of one, and no backup would be restored with it."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    await secret(real_stage, server.credentials)
    async with real_stage.operator():
        await real_stage.apply("WeaviateBackupLocation", "store", {**s3(server), "verify": {"publicKeys": [pem]}})
        refused = await verdict(real_stage, "PublicKeyInvalid")
    assert "spec.verify.publicKeys[0]" in refused["message"] and "ed25519" in refused["message"]


async def test_workers_that_do_not_start_say_why(real_stage: Stage, server: S3Server) -> None:
    stage = real_stage
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    stage.kubelet.held["_store-1"] = {"phase": "Pending", "conditions": [unschedulable]}
    await secret(stage, server.credentials)
    async with stage.operator():
        await stage.apply("WeaviateBackupLocation", "store", s3(server))
        await verdict(stage, "Ready")
        warnings = (await location(stage))["status"]["warnings"]
        assert [warning["reason"] for warning in warnings] == ["ProbeIncomplete"]
        assert "Unschedulable" in warnings[0]["message"]
        stage.kubelet.held["_store-0"] = {"phase": "Pending"}
        spec = {"filesystem": {"volume": {"nfs": {"server": "nowhere.invalid", "path": "/"}}}}
        await stage.apply("WeaviateBackupLocation", "other", spec)
        pods = await stage.wait("pods", lambda found: len(workers(found)) == 2)
        pod = next(each for each in workers(pods) if each["metadata"]["name"].endswith("store-0"))
        await warn(stage, pod, "FailedMount", "mount.nfs: Failed to resolve server nowhere.invalid")
        waiting = await verdict(stage, "FailedMount", name="other")
        assert "nowhere.invalid" in waiting["message"]


async def test_a_second_worker_that_is_only_slow_is_waited_for_where_it_matters(
    real_stage: Stage, tmp_path: Path
) -> None:
    stage = real_stage
    stage.kubelet.held["_store-1"] = {"phase": "Pending"}
    async with stage.operator():
        spec = {"filesystem": {"volume": {"hostPath": {"path": str(tmp_path / "shared")}}}}
        await stage.apply("WeaviateBackupLocation", "store", spec)
        await stage.wait("pods", lambda _: len(stage.kubelet.agents) > 0)
        await asyncio.sleep(3 * location_probe.SECOND_WORKER_SECONDS)
        pods = workers((await stage.get("pods"))[1])
        assert len(pods) == 2
        assert trusted_by(pods) == {TRUSTED}
        stage.kubelet.held.clear()
        await verdict(stage, "Ready")
        stage.kubelet.held["_store-1"] = {"phase": "Pending"}
        await stage.apply("WeaviateBackupLocation", "attached", spec)
        pods = workers(await stage.wait("pods", lambda found: len(workers(found, of="attached")) == 2), of="attached")
        pod = next(each for each in pods if each["metadata"]["name"].endswith("store-1"))
        await warn(stage, pod, "FailedAttachVolume", "Multi-Attach error: the volume is already used")
        refused = await verdict(stage, "LocationNotShared", name="attached")
        assert "Multi-Attach error" in refused["message"]


async def test_a_worker_that_never_ends_a_step_is_not_waited_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location_probe, "PROBE_SECONDS", 10)
    stage.script.hold.add(Step.MEET)
    async with stage.operator():
        await stage.apply("WeaviateBackupLocation", "store", {"s3": {"bucket": BUCKET}})
        late = await verdict(stage, "ProbeTimedOut")
        assert f"did not end its {Step.MEET} within 10 s" in late["message"]


async def test_a_backup_into_a_location_that_is_not_ready_fails_soon(real_stage: Stage, server: S3Server) -> None:
    stage = real_stage
    await secret(stage, server.credentials)
    wanted = {
        "wrong-bucket": (s3(server, bucket="nowhere"), "BucketNotFound"),
        "no-secret": (s3(server, secret="absent"), "SecretNotFound"),
        "absent": (None, "LocationNotFound"),
    }
    async with stage.operator():
        began = time.monotonic()
        for name, (spec, _) in wanted.items():
            if spec is not None:
                await stage.apply("WeaviateBackupLocation", name, spec)
            await stage.apply("WeaviateBackup", name, {"locationRef": {"name": name}})
        for name, (_, reason) in wanted.items():
            failed = await stage.phase(name, "Failed")
            assert failed["status"]["failure"]["reason"] == reason
        assert time.monotonic() - began < location_gate.TRIED_SECONDS + 30, "not after the grace of what nobody tried"
    assert not stage.script.sessions


def s3(server: S3Server, *, bucket: str = BUCKET, secret: str = "credentials") -> Json:
    return {"s3": {**dump(server.location(bucket)), "credentialsSecretRef": {"name": secret}}}


async def secret(stage: Stage, data: dict[str, str], *, name: str = "credentials") -> None:
    metadata = {"name": name, "namespace": stage.namespace}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
    await asyncio.to_thread(stage.server.apply, body)


async def location(stage: Stage) -> Json:
    return (await stage.get(STORE))[1]


async def verdict(stage: Stage, reason: str, *, name: str = "store") -> Json:
    """The Ready condition once it has that reason."""

    def ready(body: Json) -> Json:
        found = (body.get("status") or {}).get("conditions") or [{}]
        return next((each for each in found if each.get("type") == "Ready"), {})

    body = await stage.wait(f"weaviatebackuplocations/{name}", lambda body: ready(body).get("reason") == reason)
    wanted = {"Ready": "True"} if reason == "Ready" else {"Ready": "False"}
    assert conditions(body).items() >= wanted.items()
    return ready(body)


async def warn(stage: Stage, pod: Json, reason: str, message: str) -> None:
    """What a kubelet says about a volume, it says in an event."""
    metadata = pod["metadata"]
    regarding = {"apiVersion": "v1", "kind": "Pod", **{key: metadata[key] for key in ("name", "namespace", "uid")}}
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.1", "namespace": stage.namespace},
        "involvedObject": regarding,
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-11-25T07:00:00Z",
    }
    path = f"/api/v1/namespaces/{stage.namespace}/events"
    status, answer = await asyncio.to_thread(stage.server.request, "POST", path, body)
    assert status == 201, answer


def workers(pods: Json, *, of: str | None = None) -> list[Json]:
    """Pods of ours; of one location only, when others may still be going away."""
    labels = MANAGED_BY.items()
    ours = [pod for pod in pods["items"] if labels <= (pod["metadata"].get("labels") or {}).items()]
    return [pod for pod in ours if of in (None, *(owner["name"] for owner in pod["metadata"]["ownerReferences"]))]


def gauge(stage: Stage, name: str, **labels: str) -> float | None:
    wanted = {"namespace": stage.namespace, "name": "store", **labels}
    return REGISTRY.get_sample_value(name, wanted)
