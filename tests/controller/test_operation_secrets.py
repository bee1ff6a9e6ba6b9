"""An operation's memory lies where no tenant writes; what a tenant lays in its way is refused, and never read."""

import asyncio
import base64
import json
from datetime import UTC, datetime

import pytest
from tests.api_server import Json
from tests.controller.conftest import Stage
from tests.controller.test_backup_runs import add_secret, start

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.names import API_VERSION
from weaviate_backup.controller import certificates
from weaviate_backup.controller.agent_pods import Owner, leaf_keys
from weaviate_backup.controller.leases import lease_name
from weaviate_backup.controller.operation_secrets import (
    AGENTS_KEY,
    PLAN_KEY,
    Memory,
    memory_secret,
    mounted_by_agents,
    remembered,
)
from weaviate_backup.core.environment import SecretKey
from weaviate_backup.core.orders import STORE_WORKER, PlannedBackup, PlannedRestore
from weaviate_backup.core.session import Step
from weaviate_backup.core.topology import ClusterAuth
from weaviate_backup.errors import Permanent

NOW = datetime(2026, 11, 25, 7, 0, tzinfo=UTC)
OWNER = Owner(kind="WeaviateBackup", name="nightly", namespace="prod", uid="0123456789")
PLAN = PlannedBackup(
    nodes=("weaviate-0",),
    leader="weaviate-0",
    collections=("Article",),
    server_version="1.39.1",
    started_at=NOW,
    stateful_set_uid="0b5f2c1e-0000-4000-8000-000000000001",
    location=LocationSpec.model_validate({"s3": {"bucket": "backups", "path": "mine"}}),
)
pytestmark = [pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


def stored(owner: Owner = OWNER, *, stateful_set: str = "weaviate") -> Json:
    made = certificates.issue(owner.uid, {"weaviate-0": "wvb-0"}, now=NOW, valid_seconds=60)
    auth = ClusterAuth(username="in the clear", password=SecretKey("cluster", "password"))
    mounted = mounted_by_agents(made, auth)
    return memory_secret(owner, made, PLAN, stateful_set=stateful_set, mounted=mounted, namespace="home")


def test_what_is_stored_is_remembered_word_for_word() -> None:
    secret = stored()
    memory = read(secret)
    assert memory is not None
    assert memory.plan == PLAN
    assert set(memory.mounted) == {"ca.crt", *leaf_keys("weaviate-0"), "cluster.username"}
    assert memory.identity.ca_pem.decode() == memory.mounted["ca.crt"]
    assert "BEGIN" not in repr(memory)
    assert (secret["metadata"]["namespace"], secret["immutable"]) == ("home", True)


@pytest.mark.parametrize(
    "other",
    [
        stored(Owner(kind="WeaviateRestore", name="nightly", namespace="prod", uid="0123456789")),
        stored(Owner(kind="WeaviateBackup", name="weekly", namespace="prod", uid="0123456789")),
        stored(Owner(kind="WeaviateBackup", name="nightly", namespace="elsewhere", uid="0123456789")),
        stored(Owner(kind="WeaviateBackup", name="nightly", namespace="prod", uid="another")),
        stored(stateful_set="another"),
    ],
    ids=["kind", "name", "namespace", "uid", "StatefulSet"],
)
def test_a_plan_serves_the_operation_that_it_was_made_for_alone(other: Json) -> None:
    assert read(other) is None


def test_a_plan_that_cannot_be_read_is_none() -> None:
    older = stored()
    del older["data"][PLAN_KEY]
    climbing = with_plan(stored(), stateful_set_uid="x/../../../kube-system/leases/kube-scheduler")
    damaged = {**stored(), "data": {**stored()["data"], AGENTS_KEY: base64.b64encode(b"{").decode()}}
    empty = {"metadata": stored()["metadata"]}
    for secret in (older, climbing, damaged, empty):
        assert read(secret) is None
    assert remembered(stored(), OWNER, stateful_set="weaviate", plan_type=PlannedRestore) is None


@pytest.mark.parametrize("uid", ["x/../../../kube-system/leases/kube-scheduler", "..", "", "a b", "x" * 64, "a%2fb"])
def test_no_lease_is_named_after_what_is_no_uid(uid: str) -> None:
    with pytest.raises(Permanent, match="PlanUnreadable"):
        lease_name(uid)


@pytest.mark.kubernetes
@pytest.mark.weaviate
async def test_the_plan_and_the_operator_s_key_stay_at_home(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        uid = (await stage.phase("nightly", "Uploading"))["metadata"]["uid"]
        memory = await stage.at_home(f"wvb-client-{uid}")
        beside = (await stage.get(f"secrets/wvb-{uid}"))[1]
        assert set(memory["data"]) == {PLAN_KEY, AGENTS_KEY, "ca.crt", "tls.crt", "tls.key"}
        assert set(beside["data"]) == {
            "ca.crt", *leaf_keys("weaviate-0"), *leaf_keys(STORE_WORKER),
        }  # fmt: skip
        stage.script.hold.clear()
        await stage.wait("weaviatebackups/nightly", lambda body: body["status"].get("cleanedUp", False))
        assert (await stage.at_home(f"wvb-client-{uid}")).get("code") == 404
        assert (await stage.get(f"secrets/wvb-{uid}"))[0] == 404


@pytest.mark.kubernetes
@pytest.mark.weaviate
@pytest.mark.parametrize("with_owner", [False, True], ids=["nobody's", "with a forged owner"])
async def test_a_plan_that_a_tenant_made_first_is_refused_and_left_alone(stage: Stage, *, with_owner: bool) -> None:
    await stage.apply("WeaviateBackup", "nightly", {"locationRef": {"name": "store"}})
    uid = (await stage.get("weaviatebackups/nightly"))[1]["metadata"]["uid"]
    forged = base64.b64decode(stored()["data"][PLAN_KEY]).decode()
    await lay(stage, uid, {PLAN_KEY: forged}, with_owner=with_owner)
    async with stage.operator():
        await start(stage)
        failed = await stage.phase("nightly", "Failed")
        assert failed["status"]["failure"]["reason"] == "SecretInTheWay"
        assert f"wvb-{uid}" in failed["status"]["failure"]["message"]
        await stage.wait("weaviatebackups/nightly", lambda body: body["status"].get("cleanedUp", False))
    assert not stage.script.sessions
    assert (await stage.get(f"secrets/wvb-{uid}"))[0] == 200
    assert not (await stage.get("leases"))[1]["items"]


@pytest.mark.kubernetes
@pytest.mark.weaviate
async def test_keys_that_a_tenant_exchanged_are_given_to_no_agent(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        uid = (await stage.phase("nightly", "Uploading"))["metadata"]["uid"]
        beside = (await stage.get(f"secrets/wvb-{uid}"))[1]
        path = stage.server.path_of(beside)
        await asyncio.to_thread(stage.server.request, "DELETE", path)
        keys = {key: base64.b64decode(value).decode() for key, value in beside["data"].items()}
        await lay(stage, uid, {**keys, leaf_keys("weaviate-0")[1]: keys[leaf_keys(STORE_WORKER)[1]]}, with_owner=True)
        await stage.kubelet.kill("weaviate-0")
        failed = await stage.wait(
            "weaviatebackups/nightly", lambda body: body["status"].get("failure", {}).get("reason") == "SecretInTheWay"
        )
        assert failed["status"]["phase"] in ("Aborting", "Failed")


@pytest.mark.kubernetes
@pytest.mark.weaviate
async def test_keys_that_were_deleted_are_laid_there_again(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        uid = (await stage.phase("nightly", "Uploading"))["metadata"]["uid"]
        before = (await stage.get(f"secrets/wvb-{uid}"))[1]
        await asyncio.to_thread(stage.server.request, "DELETE", stage.server.path_of(before))
        await stage.kubelet.kill("weaviate-0")
        stage.script.hold.clear()
        await stage.phase("nightly", "Completed")


@pytest.mark.kubernetes
@pytest.mark.weaviate
async def test_what_an_earlier_version_left_at_home_is_replaced(stage: Stage) -> None:
    async with stage.operator():
        await start(stage, secret=False)
        uid = (await stage.phase("nightly", "Pending"))["metadata"]["uid"]
        metadata = {"name": f"wvb-client-{uid}", "namespace": stage.settings.namespace}
        older = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"tls.key": "old"}}
        assert (await asyncio.to_thread(stage.server.apply, older))[0] == 201
        await add_secret(stage)
        await stage.phase("nightly", "Completed")


@pytest.mark.kubernetes
@pytest.mark.weaviate
async def test_an_operation_without_its_plan_ends(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        uid = (await stage.phase("nightly", "Uploading"))["metadata"]["uid"]
    memory = await stage.at_home(f"wvb-client-{uid}")
    await asyncio.to_thread(stage.server.request, "DELETE", stage.server.path_of(memory))
    async with stage.operator():
        failed = await stage.wait("weaviatebackups/nightly", lambda body: "PlanLost" in str(body.get("status")))
    assert failed["status"]["phase"] == "Aborting"


@pytest.mark.kubernetes
@pytest.mark.weaviate
async def test_a_collector_that_takes_all_first_leaves_no_key_at_home(stage: Stage) -> None:
    """As a foreground deletion does: what the backup owns goes before its finalizer is heard."""
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        body = await stage.phase("nightly", "Uploading")
    uid = body["metadata"]["uid"]
    assert "data" in await stage.at_home(f"wvb-client-{uid}")
    owned = [each for kind in ("secrets", "pods") for each in (await stage.get(kind))[1]["items"]]
    for each in owned:
        name = each["metadata"]["name"]
        if name.startswith("wvb-"):
            kind = "pods" if "containers" in each.get("spec", {}) else "secrets"
            path = f"/api/v1/namespaces/{stage.namespace}/{kind}/{name}"
            await asyncio.to_thread(stage.server.request, "DELETE", path, {"gracePeriodSeconds": 0})
    await asyncio.to_thread(stage.server.request, "DELETE", stage.server.path_of(body))
    async with stage.operator():
        await stage.wait("weaviatebackups/nightly", lambda body: body.get("code") == 404)
    assert (await stage.at_home(f"wvb-client-{uid}")).get("code") == 404


async def lay(stage: Stage, uid: str, data: dict[str, str], *, with_owner: bool) -> None:
    """A Secret of the name that the agents' one has, by whoever may write Secrets there."""
    reference = {"apiVersion": API_VERSION, "kind": "WeaviateBackup", "name": "nightly", "uid": uid, "controller": True}
    metadata: Json = {"name": f"wvb-{uid}", "namespace": stage.namespace}
    if with_owner:
        metadata["ownerReferences"] = [reference]
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
    assert (await asyncio.to_thread(stage.server.apply, body))[0] == 201


def read(secret: Json) -> Memory | None:
    return remembered(secret, OWNER, stateful_set="weaviate", plan_type=PlannedBackup)


def with_plan(secret: Json, **changes: str) -> Json:
    bound = json.loads(base64.b64decode(secret["data"][PLAN_KEY]))
    bound["plan"] |= changes
    return {**secret, "data": {**secret["data"], PLAN_KEY: base64.b64encode(json.dumps(bound).encode()).decode()}}
