"""A restore names its source in two ways, and agents are told the same: a location and a backup's identifier in it."""

import asyncio
import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.api_server import Json
from tests.controller.conftest import Stage, phase_of
from tests.controller.scripted_agent import DIGEST, SIGNER
from tests.controller.test_backup_runs import LOCATION, add_secret, start

from weaviate_backup.core.session import BackupContents, Failure, RestoreOrder, SessionOrder, Step

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.weaviate,
    # A request of the hand-made kubelet under way when its test ends leaves its socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SAID = Failure(reason="BackupDamaged", message="look elsewhere", transient=False)


async def test_a_restore_finds_our_backups_and_a_servers(stage: Stage) -> None:
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Completed")
        await stage.apply("WeaviateBackupLocation", "store", {"s3": {"bucket": "backups"}, "suspend": False})
        ours = await ordered(stage, "ours", {"backupRef": {"name": "nightly"}})
        servers = await ordered(stage, "servers", {"locationRef": {"name": "store"}, "backupID": "by-a-server"})
    assert (ours.backup_id, servers.backup_id) == ("nightly", "by-a-server")
    secrets = []
    for order in (ours, servers):
        assert order.location.s3 is not None
        assert order.location.s3.bucket == "backups"
        secrets.append(order.location.s3.credentials_secret_ref is not None)
        assert isinstance(order.work, RestoreOrder)
        assert order.work.source_node == "weaviate-0"
    assert secrets == [True, False], "ours is read as it was written"


async def test_a_backup_that_is_not_there_is_waited_for(stage: Stage) -> None:
    async with stage.operator():
        await stage.apply("WeaviateRestore", "early", {"source": {"backupRef": {"name": "nightly"}}})
        waiting = await stage.wait("weaviaterestores/early", lambda body: "BackupNotFound" in str(body.get("status")))
        assert phase_of(waiting) == "Pending"
    assert not stage.script.sessions


CONTENTS = BackupContents(
    server_version="1.39.1",
    layout_version="2.1",
    status="SUCCESS",
    leader="weaviate-0",
    nodes=("weaviate-0",),
    collections=("Restored",),
    verifiable=True,
    bytes_total=1,
    sha256=DIGEST,
    node_manifests={"weaviate-0": "weaviate-0"},
    signed_by=SIGNER,
)


async def test_a_restore_by_object_is_held_to_what_its_status_says(stage: Stage) -> None:
    async with stage.operator():
        await start(stage)
        completed = await stage.phase("nightly", "Completed")
        assert (completed["status"]["backupSHA256"], completed["status"]["signedBy"]) == (DIGEST, SIGNER)
        for name, contents, reason in (
            ("changed", {"sha256": "e" * 64}, "BackupChanged"),
            ("another-node", {"node_manifests": {"weaviate-0": "other"}}, "BackupChanged"),
            ("downgraded", {"verifiable": False, "sha256": "e" * 64, "node_manifests": {}}, "BackupDamaged"),
        ):
            stage.script.contents = CONTENTS.model_copy(update=contents)
            failed = await restored(stage, name, {"source": {"backupRef": {"name": "nightly"}}}, "Failed")
            assert failed["status"]["failure"]["reason"] == reason
        assert Step.DOWNLOAD not in {command.step for command in stage.script.commands}


async def test_a_backup_without_a_pin_is_held_to_its_location_as_it_is_now(stage: Stage) -> None:
    """As one that an earlier version made; one with a pin was signed for by its status."""
    source = {"source": {"backupRef": {"name": "nightly"}}, "dryRun": True}
    key = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    stage.script.contents = CONTENTS.model_copy(update={"signed_by": ""})
    async with stage.operator():
        await start(stage)
        completed = await stage.wait("weaviatebackups/nightly", lambda body: body.get("status", {}).get("cleanedUp"))
        asking = {**LOCATION, "verify": {"publicKeys": [key], "requireSigned": True}}
        await stage.apply("WeaviateBackupLocation", "store", asking)
        await restored(stage, "pinned", source, "Completed")
        path = f"{stage.server.path_of(completed)}/status"
        unpinned: Json = {"status": {"backupSHA256": None, "nodes": []}}
        code, answer = await asyncio.to_thread(
            stage.server.request, "PATCH", path, unpinned, content_type="application/merge-patch+json"
        )
        assert code == 200, answer
        failed = await restored(stage, "unpinned", source, "Failed")
    assert failed["status"]["failure"]["reason"] == "SignatureMissing"


async def test_what_a_dry_run_showed_is_what_is_restored(stage: Stage) -> None:
    """Reviewed, pinned, then downloaded as that and nothing else."""
    source = {"locationRef": {"name": "store"}, "backupID": "by-hand"}
    async with stage.operator():
        await add_secret(stage)
        await stage.apply("WeaviateBackupLocation", "store", dict(LOCATION))
        stage.script.contents = CONTENTS
        reviewed = await restored(stage, "review", {"source": source, "dryRun": True}, "Completed")
        digest = reviewed["status"]["backupSHA256"]
        assert digest == DIGEST
        assert reviewed["status"]["plan"]["signedBy"] == SIGNER
        stage.script.contents = CONTENTS.model_copy(update={"sha256": "e" * 64})
        failed = await restored(stage, "late", {"source": {**source, "backupSHA256": digest}}, "Failed")
        assert failed["status"]["failure"]["reason"] == "BackupChanged"
        stage.script.contents = CONTENTS
        stage.script.failures[Step.DOWNLOAD] = [SAID]
        await restored(stage, "now", {"source": {**source, "backupSHA256": digest}}, "Failed")
    downloads = [command for command in stage.script.commands if command.step is Step.DOWNLOAD]
    assert [command.backup_sha256 for command in downloads] == [digest]


async def test_the_signing_key_goes_to_who_commits_and_is_waited_for_by_who_writes(stage: Stage) -> None:
    signing = {"signing": {"keySecretRef": {"name": "signer", "key": "pem"}}}
    async with stage.operator():
        await start(stage, location={**LOCATION, **signing})
        waiting = await stage.wait("weaviatebackups/nightly", lambda body: "SecretNotFound" in str(body.get("status")))
        assert "spec.signing.keySecretRef" in str(waiting["status"])
        stage.script.contents = CONTENTS
        source = {"locationRef": {"name": "store"}, "backupID": "by-hand"}
        await restored(stage, "reading-needs-none", {"source": source, "dryRun": True}, "Completed")
        await asyncio.to_thread(stage.server.apply, signer(stage))
        stage.script.hold.add(Step.COMMIT)
        await stage.wait("weaviatebackups/nightly", lambda body: phase_of(body) == "Finalizing")
        _, pods = await stage.get("pods")
        mounting = {pod["metadata"]["name"] for pod in pods["items"] if "signer" in str(pod["spec"])}
        stage.script.hold.clear()
        await stage.phase("nightly", "Completed")
    assert len(mounting) == 2, "the leader's agent, and the worker that would commit in its place"
    assert {name.rpartition("-")[2] == "0" for name in mounting} == {True}


def signer(stage: Stage) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "signer", "namespace": stage.namespace},
        "stringData": {"pem": "key"},
    }


async def restored(stage: Stage, name: str, spec: Json, phase: str) -> Json:
    await stage.apply("WeaviateRestore", name, spec)
    return await stage.wait(f"weaviaterestores/{name}", lambda body: phase_of(body) == phase)


async def ordered(stage: Stage, name: str, source: dict[str, object]) -> SessionOrder:
    """What the agent of a restore is told; inspection then ends it, because nothing is stored."""
    stage.script.failures[Step.INSPECT] = [SAID]
    await stage.apply("WeaviateRestore", name, {"source": source})
    failed = await stage.wait(f"weaviaterestores/{name}", lambda body: phase_of(body) == "Failed")
    assert failed["status"]["failure"]["reason"] == SAID.reason
    return next(order for order in stage.script.sessions if order.operation_uid == failed["metadata"]["uid"])
