"""Method Server on a real API server, with a real Weaviate and its backup module on a real S3 server.

Only the store worker, which looks at the store before and after, is scripted; `tests/agent/test_audit.py` has it real.
"""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.agent.surroundings import BUCKET, Surroundings, s3_server
from tests.api_server import Json
from tests.controller.conftest import Stage
from tests.controller.test_backup_runs import add_secret, conditions
from tests.weaviate_server import WeaviateCluster, WeaviateNode, weaviate_cluster

from weaviate_backup.core.orders import STORE_WORKER
from weaviate_backup.core.session import Step

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.weaviate,
    # A request of the hand-made kubelet under way when its test ends leaves its socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Surroundings]:
    async with s3_server(tmp_path_factory.mktemp("store")) as surroundings:
        yield surroundings


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory, store: Surroundings) -> AsyncIterator[WeaviateCluster]:
    directory = tmp_path_factory.mktemp("weaviate")
    async with weaviate_cluster(directory, nodes=1, environment=store.weaviate_environment) as found:
        await found.create({"class": "Article", "vectorizer": "none"})
        await found.insert([{"class": "Article", "vector": [number, 1]} for number in range(10)])
        yield found


@pytest.fixture
def weaviate_node(cluster: WeaviateCluster) -> WeaviateNode:
    """The one that the stage shows."""
    return cluster.nodes[0]


async def engine(node: WeaviateNode, path: str, method: str = "GET", body: Json | None = None) -> Json:
    """One call to its own backup API, from whatever event loop."""

    def call() -> Json:
        request = urllib.request.Request(
            f"{node.rest_url}/v1/backups/s3{path}",
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            found: Json = json.load(answer)
            return found

    return await asyncio.to_thread(call)


async def restart(stage: Stage, cluster: WeaviateCluster, node: WeaviateNode) -> None:
    """The server's process is killed; Kubernetes says so once it is ready again."""
    await cluster.stop_node(node, kill=True)
    cluster.start_node(node)
    async with asyncio.timeout(60):
        while True:
            try:
                await engine(node, "")
                break
            except OSError:
                await asyncio.sleep(0.2)
    shown = {"name": "weaviate", "ready": True, "restartCount": 1, "image": "weaviate", "imageID": "weaviate"}
    path = f"/api/v1/namespaces/{stage.namespace}/pods/weaviate-0/status"
    body, content = {"status": {"containerStatuses": [shown]}}, "application/merge-patch+json"
    await asyncio.to_thread(stage.server.request, "PATCH", path, body, content_type=content)


async def start(stage: Stage, store: Surroundings, name: str, *, path: str = "", **spec: Any) -> None:
    await add_secret(stage)
    assert store.location.s3 is not None
    s3 = {
        "bucket": BUCKET,
        "endpoint": store.location.s3.endpoint,
        "useSSL": False,
        "path": path,
        "credentialsSecretRef": {"name": "credentials"},
    }
    await stage.apply("WeaviateBackupLocation", "store", {"s3": s3})
    await stage.apply("WeaviateBackup", name, {"locationRef": {"name": "store"}, "method": "Server"} | spec)


async def test_the_server_does_the_work_and_the_worker_looks(
    stage: Stage, weaviate_node: WeaviateNode, store: Surroundings
) -> None:
    async with stage.operator():
        await start(stage, store, "by-server", config={"cpuPercentage": 30, "compressionLevel": "BestSpeed"})
        done = await stage.phase("by-server", "Completed")
        again = {"locationRef": {"name": "store"}, "method": "Server", "backupID": "by-server"}
        await stage.apply("WeaviateBackup", "again", again)
        refused = await stage.phase("again", "Failed")
    status = done["status"]
    assert conditions(done) == {"Ready": "True"}
    assert (status["method"], status["weaviateStatus"], status["objects"]) == ("Server", "SUCCESS", 3)
    assert status["serverRequest"]["accepted"]
    assert "the server records no checksums" in str(status["conditions"])
    assert (await engine(weaviate_node, "/by-server"))["status"] == "SUCCESS"
    config = (store.objects / "by-server" / "backup_config.json").read_text()
    assert '"compressionType":"gzip"' in config
    steps = [step for node, step in stage.script.orders if node == STORE_WORKER]
    assert steps[:2] == [Step.VACANCY, Step.AUDIT]
    assert refused["status"]["failure"]["reason"] == "BackupExists"
    assert {session.node for session in stage.script.sessions} == {STORE_WORKER}, "no agent beside Weaviate"


async def test_a_claim_that_agents_cannot_share_is_no_obstacle(stage: Stage, store: Surroundings) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "weaviate-data-weaviate-0", "namespace": stage.namespace},
        "spec": {"accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    await asyncio.to_thread(stage.server.apply, claim)
    async with stage.operator():
        await start(stage, store, "by-agents", method="Auto")
        refused = await stage.phase("by-agents", "Failed")
        await start(stage, store, "alone-by-server")
        await stage.phase("alone-by-server", "Completed")
    assert refused["status"]["failure"]["reason"] == "ReadWriteOncePodUnsupported"
    assert "or use method: Server" in refused["status"]["failure"]["message"]


async def test_a_module_that_is_not_enabled_is_named(stage: Stage, store: Surroundings) -> None:
    async with stage.operator():
        volume: Json = {"persistentVolumeClaim": {"claimName": "backups"}}
        await stage.apply("WeaviateBackupLocation", "directory", {"filesystem": {"volume": volume}})
        await start(stage, store, "no-module", locationRef={"name": "directory"})
        failed = await stage.phase("no-module", "Failed")
    assert failed["status"]["failure"]["reason"] == "ServerModuleMissing"
    assert "enabled are: backup-s3. Add backup-filesystem" in failed["status"]["failure"]["message"]


async def test_a_backup_that_somebody_else_began_is_waited_for_and_left_alone(
    stage: Stage, weaviate_node: WeaviateNode, store: Surroundings
) -> None:
    await engine(weaviate_node, "", "POST", {"id": "by-hand"})
    async with stage.operator():
        await start(stage, store, "after-by-hand", backupID="after-by-hand")
        await stage.phase("after-by-hand", "Completed")
    assert (await engine(weaviate_node, "/by-hand"))["status"] == "SUCCESS"


async def test_cancel_is_passed_on(stage: Stage, weaviate_node: WeaviateNode, store: Surroundings) -> None:
    async with stage.operator():
        await start(stage, store, "unwanted")
        await stage.phase("unwanted", "Uploading")
        await start(stage, store, "unwanted", cancel=True)
        canceled = await stage.phase("unwanted", "Canceled")
    ended = (await engine(weaviate_node, "/unwanted"))["status"]
    assert ended in ("CANCELED", "SUCCESS")
    assert ("completed its own backup" in canceled["status"]["conditions"][0]["message"]) == (ended == "SUCCESS")


async def test_a_restarted_operator_follows_the_same_backup(stage: Stage, store: Surroundings) -> None:
    async with stage.operator():
        await start(stage, store, "followed")
        await stage.phase("followed", "Uploading")
    async with stage.operator():
        done = await stage.phase("followed", "Completed")
    assert done["status"]["serverRequest"]["node"] == "weaviate-0"


async def test_a_coordinator_that_restarts_is_not_waited_for(
    stage: Stage, cluster: WeaviateCluster, store: Surroundings, weaviate_node: WeaviateNode
) -> None:
    """At another path than the module's own the server never notices: its status stays STARTED."""
    async with stage.operator():
        await start(stage, store, "orphan", path="elsewhere")
        await stage.phase("orphan", "Uploading")
        await restart(stage, cluster, weaviate_node)
        failed = await stage.wait("weaviatebackups/orphan", lambda body: "CoordinatorLost" in str(body.get("status")))
    assert "weaviate-0, which coordinated its own backup, restarted" in failed["status"]["failure"]["message"]
    assert (await engine(weaviate_node, "/orphan?path=elsewhere"))["status"] == "STARTED"
