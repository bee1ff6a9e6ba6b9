"""The chart's rights and policies, under a whole life of backups, restores and locations on an audited API server.

What the roles grant is what is used, verb by verb: nothing more is granted, and nothing was refused.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import pytest
from tests.api_server import ApiServer, Json
from tests.chart.rendering import FULL_NAME, NAMESPACE, OUR_KINDS, render
from tests.controller.conftest import Stage, phase_of, staged
from tests.controller.test_backup_runs import start
from tests.weaviate_server import WeaviateNode

from weaviate_backup.api.crd import definitions
from weaviate_backup.api.names import API_VERSION, GROUP
from weaviate_backup.controller import location_probe
from weaviate_backup.controller.agent_pods import MANAGED_BY
from weaviate_backup.controller.leases import lease_name
from weaviate_backup.controller.process import KINDS, await_kinds
from weaviate_backup.core.session import Failure, Step
from weaviate_backup.kube import Kube

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.weaviate,
    # A request of the hand-made kubelet under way when its test ends leaves its socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Right = tuple[str, str, str]
"""Group, resource with its subresource, verb."""
VALUES: Json = {"operator": {"image": {"repository": "agent"}}}
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
ASKED_WITHOUT_A_REQUEST = {(GROUP, f"{kind}/finalizers", "update") for kind in OUR_KINDS}
"""By the admission plugin that asks who may block an owner's deletion."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Without our kinds."""
    enforced = ("--enable-admission-plugins=OwnerReferencesPermissionEnforcement",)
    with ApiServer(tmp_path_factory.mktemp("rights") / "kubernetes", audit=True, flags=enforced) as server:
        yield server


@pytest.fixture(scope="module")
def objects() -> list[Json]:
    return render(VALUES)


@pytest.fixture
def guarded(server: ApiServer, objects: list[Json], monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    """With the chart's rights and policies; the operator of a test is the chart's account."""
    server.install_crds(list(definitions().values()))
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for made in objects:
        if made["kind"] in (*CLUSTER_WIDE, "ServiceAccount"):
            status, answer = server.apply(made)
            assert status in (200, 201), answer
    token = server.token_of(NAMESPACE, FULL_NAME)
    await_policies(server, token)
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig_with(token)))
    return server


def await_policies(server: ApiServer, token: str) -> None:
    """They count a moment after they were made."""
    metadata = {"name": "not-ours", "namespace": NAMESPACE}
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    deadline = time.monotonic() + 20
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    while server.request("POST", path, foreign, query={"dryRun": "All"}, token=token)[0] == 201:
        assert time.monotonic() < deadline, "the policies do not take effect"
        time.sleep(0.2)


async def test_it_waits_for_its_kinds(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart brings them together with the operator, and kopf looks for them once."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    async with await Kube.connect() as kube:
        assert await kube.served() == frozenset()
        waiting = asyncio.create_task(await_kinds(kube, threading.Event()))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await asyncio.to_thread(server.install_crds, list(definitions().values()))
        await asyncio.wait_for(waiting, 20)
        assert await kube.served() >= KINDS


async def test_every_right_is_used_and_no_other_is_asked_for(
    guarded: ApiServer, objects: list[Json], weaviate_node: WeaviateNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location_probe, "STUCK_SECONDS", 1.0)
    monkeypatch.setattr(location_probe, "SECOND_WORKER_SECONDS", 2.0)
    guarded.audit_log.write_text("")
    async with staged(guarded, weaviate_node, home=NAMESPACE) as stage:
        await leave_a_lease(stage)
        stage.kubelet.held["_store-1"] = {"phase": "Pending"}  # its probe is asked why it does not start
        async with stage.operator():
            await start(stage)
            await stage.phase("nightly", "Completed")
            await restore(stage)
            await delete_while_it_runs(stage)
            await stage.wait("weaviatebackups/nightly", lambda body: not body["metadata"].get("finalizers"))
    account = f"system:serviceaccount:{NAMESPACE}:{FULL_NAME}"
    events = [json.loads(line) for line in guarded.audit_log.read_text().splitlines()]
    ours = [event for event in events if event["user"]["username"] == account and "objectRef" in event]
    refused = [event for event in ours if event.get("responseStatus", {}).get("code") == 403]
    assert [(each["verb"], each["requestURI"], each["responseStatus"]) for each in refused] == []
    used = {used_right(event) for event in ours}
    assert used == granted(objects) - ASKED_WITHOUT_A_REQUEST


def test_owners_need_the_right_that_no_request_shows(guarded: ApiServer, objects: list[Json]) -> None:
    owner = {"apiVersion": API_VERSION, "kind": "WeaviateBackup", "name": "b", "uid": "u", "controller": True}
    metadata: Json = {"name": "wvb-u", "namespace": NAMESPACE, "labels": dict(MANAGED_BY)}
    metadata["ownerReferences"] = [{**owner, "blockOwnerDeletion": True}]
    secret: Json = {"apiVersion": "v1", "kind": "Secret", "immutable": True, "metadata": metadata}
    path, token = f"/api/v1/namespaces/{NAMESPACE}/secrets", guarded.token_of(NAMESPACE, FULL_NAME)

    def tried() -> int:
        return guarded.request("POST", path, secret, query={"dryRun": "All"}, token=token)[0]

    assert tried() == 201
    role = next(each for each in objects if each["metadata"]["name"].endswith("-resources") and "rules" in each)
    less = [rule for rule in role["rules"] if rule["verbs"] != ["update"]]
    guarded.apply({**role, "rules": less})
    deadline = time.monotonic() + 20
    while tried() != 403:
        assert time.monotonic() < deadline, "the right on finalizers is not needed"
        time.sleep(0.2)
    guarded.apply(role)


async def leave_a_lease(stage: Stage) -> None:
    """Of an operation that is gone, or of anybody's: it is taken over, and has our label then."""
    uid = (await asyncio.to_thread(stateful_set, stage))["metadata"]["uid"]
    metadata = {"name": lease_name(uid), "namespace": stage.namespace}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    status, answer = await asyncio.to_thread(stage.server.apply, {**lease, "spec": {"holderIdentity": "gone"}})
    assert status == 201, answer


def stateful_set(stage: Stage) -> Json:
    return stage.server.request("GET", f"/apis/apps/v1/namespaces/{stage.namespace}/statefulsets/weaviate")[1]


async def restore(stage: Stage) -> None:
    said = Failure(reason="BackupDamaged", message="look elsewhere", transient=False)
    stage.script.failures[Step.INSPECT] = [said]
    await stage.apply("WeaviateRestore", "back", {"source": {"backupRef": {"name": "nightly"}}})
    await stage.wait("weaviaterestores/back", lambda body: phase_of(body) == "Failed")
    await stage.wait("weaviaterestores/back", lambda body: not body["metadata"].get("finalizers"))


async def delete_while_it_runs(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    await stage.apply("WeaviateBackup", "unwanted", {"locationRef": {"name": "store"}})
    await stage.phase("unwanted", "Uploading")
    body = (await stage.get("weaviatebackups/unwanted"))[1]
    await asyncio.to_thread(stage.server.request, "DELETE", stage.server.path_of(body))
    await stage.wait("weaviatebackups/unwanted", lambda body: body.get("code") == 404)


def used_right(event: Json) -> Right:
    reference = event["objectRef"]
    resource = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
    return reference.get("apiGroup", ""), resource, event["verb"]


def granted(objects: list[Json]) -> set[Right]:
    """To the operator: what its bindings name."""
    bound = {each["roleRef"]["name"] for each in objects if each["kind"] == "ClusterRoleBinding"}
    rules = [
        rule
        for role in objects
        if role["kind"] == "ClusterRole" and role["metadata"]["name"] in bound
        for rule in role["rules"]
    ]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
