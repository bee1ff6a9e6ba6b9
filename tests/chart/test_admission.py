"""What the operator's account may write on a real API server that has the chart's policies: agents, and nothing else.

Everything that the product makes passes. Whoever stole the account's token tries the rest.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.api.objects import MINIMAL, manifest
from tests.chart.conftest import Cluster
from tests.chart.pod_abuses import PODS, Change, changed, container, metadata, privileged
from tests.chart.rendering import FULL_NAME, NAMESPACE, Json

from weaviate_backup.api.location import CUSTOMER_KEY, LocationSpec, SecretKeyReference
from weaviate_backup.api.names import API_VERSION, FINALIZER
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.controller import agent_pods, certificates, operation_secrets
from weaviate_backup.controller.agent_pods import MANAGED_BY, AgentImage, Owner
from weaviate_backup.core.environment import SecretKey
from weaviate_backup.core.orders import STORE_WORKER, PlannedBackup
from weaviate_backup.core.topology import ClusterAuth, DataVolume, NodeView, PodSecurity
from weaviate_backup.kube import MAX_SAID

pytestmark = pytest.mark.kubernetes

PLACE = "tenant"
OPEN = "open-system"
"""Where a second release is, which allows volumes of the nodes."""
OWNER = Owner(kind="WeaviateBackup", name="nightly", namespace=PLACE, uid="0123-4567")
KEYS = {"credentialsSecretRef": {"name": "keys"}, "caSecretRef": {"name": "authority", "key": "pem"}}
ENCRYPTION = {"customerKeySecretRef": {"name": "own", "key": CUSTOMER_KEY}}
LOCATIONS: dict[str, Json] = {
    "s3": {"s3": {"bucket": "abc", **KEYS, "serverSideEncryption": ENCRYPTION}},
    "gcs": {"gcs": {"bucket": "abc"}, "serviceAccountName": "backups"},
    "azure": {"azure": {"container": "abc"}, "serviceAccountName": "backups"},
    "claim": {"filesystem": {"volume": {"persistentVolumeClaim": {"claimName": "store"}}}},
    "nfs": {"filesystem": {"volume": {"nfs": {"server": "nas", "path": "/"}}}},
}
DRIVER = "files.example"
DRIVEN = {"csi": {"driver": DRIVER}}
CLAIM = {"persistentVolumeClaim": {"claimName": "data-weaviate-0"}}
HOST_PATH = {"hostPath": {"path": "/data", "type": "Directory"}}
IDENTITIES: dict[str, Json] = {
    "EKS": {
        "env": {"AWS_ROLE_ARN": "arn", "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/eks.amazonaws.com/token"},
        "audience": "sts.amazonaws.com",
    },
    "EKS pod identity": {
        "env": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"},
        "audience": "pods.eks.amazonaws.com",
    },
    "Azure": {
        "env": {"AZURE_CLIENT_ID": "id", "AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/azure/tokens/token"},
        "audience": "api://AzureADTokenExchange",
    },
}
"""What webhooks of clouds add to a pod before it is judged."""


def agent(location: str = "s3", source: Json = CLAIM) -> Json:
    node = NodeView(
        name="weaviate-0", ordinal=0, pod_name="weaviate-0", pod_uid="u", address="10.0.0.1", kubernetes_node="node",
        ready=True, restarts=0, volume=DataVolume(source=source, mount_path="/var/lib/weaviate"), obstacle=None,
        security=PodSecurity(run_as_user=1000, fs_group=1000), tolerations=({"operator": "Exists"},),
        image_pull_secrets=("registry",),
    )  # fmt: skip
    return agent_pods.agent_pod(
        OWNER, node=node, name="wvb-0123-0", data_path="/var/lib/weaviate",
        cluster_auth=ClusterAuth(username="u", password=SecretKey("cluster", "password")),
        location=LocationSpec.model_validate(LOCATIONS[location]), options=AgentOptions(),
        image=AgentImage("weaviate-backup-operator:0.1.0", "IfNotPresent"), lease_seconds=60, deadline_seconds=60,
        signing=SecretKeyReference(name="signer", key="pem"),
    )  # fmt: skip


def worker(location: str) -> Json:
    return agent_pods.store_worker_pod(
        OWNER, name="wvb-0123-store-0", location=LocationSpec.model_validate(LOCATIONS[location]),
        options=AgentOptions(), image=AgentImage("weaviate-backup-operator@sha256:" + 64 * "0", "IfNotPresent"),
        lease_seconds=60, deadline_seconds=60,
    )  # fmt: skip


def with_identity(pod: Json, identity: Json) -> Json:
    container = pod["spec"]["containers"][0]
    container["env"] += [{"name": name, "value": value} for name, value in identity["env"].items()]
    source = {"serviceAccountToken": {"audience": identity["audience"], "expirationSeconds": 3600, "path": "token"}}
    pod["spec"]["volumes"].append({"name": "token", "projected": {"sources": [source]}})
    container["volumeMounts"].append({"name": "token", "mountPath": "/var/run/secrets/cloud", "readOnly": True})
    return pod


def secrets() -> tuple[Json, Json]:
    """Those of one operation: the operator's own, and its agents'."""
    now = datetime.now(UTC)
    made = certificates.issue(OWNER.uid, {STORE_WORKER: "wvb-0123-store-0"}, now=now, valid_seconds=60)
    plan = PlannedBackup(
        nodes=("weaviate-0",), leader="weaviate-0", collections=(), server_version="1.39.1", started_at=now,
        stateful_set_uid="0b5f2c1e-0000-4000-8000-000000000001", location=LocationSpec.model_validate(LOCATIONS["s3"]),
    )  # fmt: skip
    mounted = operation_secrets.mounted_by_agents(made, None)
    memory = operation_secrets.memory_secret(
        OWNER, made, plan, stateful_set="weaviate", mounted=mounted, namespace=NAMESPACE
    )
    return memory, operation_secrets.agents_secret(OWNER, mounted)


class Account:
    """The operator's, with its token."""

    def __init__(self, cluster: Cluster, namespace: str = NAMESPACE) -> None:
        self.server = cluster.server
        self.token = self.server.token_of(namespace, FULL_NAME)

    def tries(self, verb: str, body: Json) -> tuple[int, str]:
        path, query = self.server.path_of(body, collection=verb == "POST"), {"dryRun": "All"}
        given = None if verb == "DELETE" else body
        merging = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        status, answer = self.server.request(verb, path, given, query=query, token=self.token, content_type=merging)
        return status, "" if status < 300 else str(answer["message"])


@pytest.fixture(scope="module")
def account(cluster: Cluster) -> Iterator[Account]:
    for name in (PLACE, OPEN):
        cluster.server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.install()
    found = Account(cluster)
    await_policies(found)
    yield found
    kept = {"metadata": {"finalizers": None}}  # else the kinds could not be removed by whoever comes next
    path = cluster.server.path_of(backup())
    cluster.server.request("PATCH", path, kept, content_type="application/merge-patch+json")


@pytest.fixture(scope="module")
def generous(cluster: Cluster, account: Account) -> Iterator[Account]:
    values: Json = {"crds": {"install": False}, "rbac": {"aggregateToDefaultRoles": False}}
    cluster.install(values | {"operator": {"allowHostPathVolumes": True, "csiDrivers": [DRIVER]}}, namespace=OPEN)
    found = Account(cluster, OPEN)
    await_policies(found)
    yield found
    cluster.uninstall(namespace=OPEN)


def await_policies(account: Account) -> None:
    """They count a moment after they were made."""
    deadline = time.monotonic() + 20
    while any(account.tries("POST", each)[0] == 201 for each in (named(secrets()[1], "other"), unlabelled(agent()))):
        assert time.monotonic() < deadline, "the policies do not take effect"
        time.sleep(0.2)


def named(body: Json, name: str) -> Json:
    return {**body, "metadata": {**body["metadata"], "name": name}}


def unlabelled(body: Json) -> Json:
    return {**body, "metadata": {**body["metadata"], "labels": {}}}


@pytest.mark.parametrize("location", LOCATIONS)
def test_agents_and_workers_as_they_are_made_pass(account: Account, location: str) -> None:
    for pod in (agent(location), worker(location)):
        assert account.tries("POST", pod) == (201, "")


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=list(IDENTITIES))
def test_identities_of_clouds_pass(account: Account, identity: Json) -> None:
    assert account.tries("POST", with_identity(worker("gcs"), identity)) == (201, "")


def test_secrets_leases_and_events_as_they_are_made_pass(account: Account) -> None:
    for secret in secrets():
        assert account.tries("POST", secret) == (201, "")
    for body in (lease(), event()):
        assert account.tries("POST", body) == (201, "")


def test_volumes_of_the_nodes_are_asked_for(account: Account, generous: Account) -> None:
    status, said = account.tries("POST", agent(source=HOST_PATH))
    assert status == 403
    assert "operator.allowHostPathVolumes" in said[:MAX_SAID]
    assert generous.tries("POST", agent(source=HOST_PATH)) == (201, "")
    assert generous.tries("POST", changed(agent(), privileged))[0] == 403


def test_csi_drivers_are_asked_for(account: Account, generous: Account) -> None:
    assert account.tries("POST", agent(source=DRIVEN))[0] == 403
    assert generous.tries("POST", agent(source=DRIVEN)) == (201, "")
    status, said = generous.tries("POST", agent(source={"csi": {"driver": f"{DRIVER}.org"}}))
    assert status == 403
    assert "operator.csiDrivers" in said[:MAX_SAID]


def test_its_finalizer_and_annotations_are_its_own_to_set(account: Account) -> None:
    exists(account, backup())
    allowed = {"finalizers": [FINALIZER, "others.example/keep"], "annotations": {"backup.weaviate.io/progress": "1"}}
    assert account.tries("PATCH", backup(**allowed)) == (200, "")


@pytest.mark.parametrize("change", PODS.values(), ids=list(PODS))
def test_a_pod_with(account: Account, change: Change) -> None:
    status, said = account.tries("POST", changed(agent("gcs"), change))
    assert (status, f"{FULL_NAME}-pods' with binding" in said) == (403, True), said


OBJECTS: dict[str, tuple[int, Change]] = {
    "another name": (0, metadata(name="admin-token")),
    "a token that the cluster fills in": (0, lambda secret: (
        secret.update(type="kubernetes.io/service-account-token"),
        secret["metadata"].update(annotations={"kubernetes.io/service-account.name": "default"}),
    )),
    "a Secret that changes": (0, lambda secret: secret.update(immutable=False)),
    "a Secret without our label": (0, metadata(labels={})),
    "a Secret that stays": (1, metadata(ownerReferences=[])),
}  # fmt: skip


@pytest.mark.parametrize(("which", "change"), OBJECTS.values(), ids=list(OBJECTS))
def test_secrets_with(account: Account, which: int, change: Change) -> None:
    denied(account.tries("POST", changed(secrets()[which], change)))


def test_leases_and_events_of_others(account: Account) -> None:
    scheduler = {**lease(), "metadata": {**lease()["metadata"], "name": "kube-scheduler", "namespace": "kube-system"}}
    exists(account, scheduler)
    found = account.server.request("GET", account.server.path_of(scheduler))[1]
    scheduler["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
    for verb in ("POST", "PUT", "DELETE"):
        denied(account.tries(verb, scheduler))
    about = {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": PLACE}
    denied(account.tries("POST", {**event(), "involvedObject": about}))
    denied(account.tries("POST", {**event(), "reportingComponent": "kubelet"}))


def test_deleting_what_others_made(account: Account) -> None:
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prod-db", "namespace": PLACE}}
    alike = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wvb-alike", "namespace": PLACE}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "weaviate-0", "namespace": PLACE},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    for body in (foreign, alike, pod):
        exists(account, body)
        status, said = account.tries("DELETE", body)
        assert (status, "ValidatingAdmissionPolicy" in said) == (403, True), said


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {**MINIMAL["WeaviateBackup"], "cancel": True}},
        {"labels": {"a": "b"}},
        {"finalizers": ["others.example/stay"]},
        {"finalizers": []},
        {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        {"annotations": {"kept": None}},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]},
    ],
    ids=["spec", "labels", "a finalizer", "no finalizer", "an annotation", "no annotation", "owners"],
)
def test_our_kinds_changed_in(account: Account, change: Json) -> None:
    exists(account, backup())
    denied(account.tries("PATCH", backup(**change)))


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", f"/api/v1/namespaces/{PLACE}/secrets"),
        ("PATCH", f"/api/v1/namespaces/{PLACE}/pods/weaviate-0"),
        ("PATCH", f"/api/v1/namespaces/{PLACE}/secrets/prod-db"),
        ("POST", f"/api/v1/namespaces/{PLACE}/pods/weaviate-0/exec"),
        ("DELETE", f"/api/v1/namespaces/{PLACE}/pods"),
        ("POST", f"/apis/{API_VERSION}/namespaces/{PLACE}/weaviatebackuplocations"),
        ("DELETE", f"/apis/{API_VERSION}/namespaces/{PLACE}/weaviatebackups/nightly"),
        ("PATCH", f"/apis/{API_VERSION}/namespaces/{PLACE}/weaviatebackuplocations/store"),
        ("POST", f"/api/v1/namespaces/{PLACE}/serviceaccounts/default/token"),
    ],
)
def test_what_no_role_allows(account: Account, verb: str, path: str) -> None:
    body = None if verb in ("GET", "DELETE") else {"metadata": {"name": "x"}}
    content = "application/merge-patch+json" if verb == "PATCH" else "application/json"
    status, answer = account.server.request(verb, path, body, token=account.token, content_type=content)
    assert status == 403
    assert "cannot" in answer["message"]


@pytest.fixture
def mighty(generous: Account) -> Iterator[Account]:
    """An account that somebody gave all rights besides."""
    account = {"kind": "ServiceAccount", "name": FULL_NAME, "namespace": OPEN}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "mighty"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [account],
    }
    exists(generous, binding)
    deadline = time.monotonic() + 20
    while generous.server.request("GET", "/api/v1/nodes", token=generous.token)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield generous
    generous.server.request("DELETE", generous.server.path_of(binding))


def test_further_roles_do_not_help(mighty: Account) -> None:
    pod, location = (
        named(agent("gcs"), "wvb-there"),
        manifest("WeaviateBackupLocation", MINIMAL["WeaviateBackupLocation"], name="mine"),
    )
    exists(mighty, pod)
    tried = [
        mighty.tries("PATCH", changed(pod, container(image="busybox"))),
        mighty.tries("POST", location),
    ]
    path = f"{mighty.server.path_of(pod)}/exec"
    status, answer = mighty.server.request("POST", path, query={"command": "id", "stdout": "1"}, token=mighty.token)
    tried.append((status, str(answer.get("message"))))
    assert [(status, "ValidatingAdmissionPolicy" in said) for status, said in tried] == [(403, True)] * 3, tried


def test_others_are_not_concerned(account: Account) -> None:
    for body in (named(secrets()[1], "anything"), changed(agent(), privileged)):
        path = account.server.path_of(body, collection=True)
        assert account.server.request("POST", path, body, query={"dryRun": "All"})[0] == 201


def denied(answer: tuple[int, str]) -> None:
    status, said = answer
    assert (status, f"{FULL_NAME}-objects' with binding" in said) == (403, True), said


def exists(account: Account, body: Json) -> None:
    """Made by an administrator."""
    status, answer = account.server.apply(body)
    assert status in (200, 201), answer


def lease() -> Json:
    metadata = {"name": "wvb-u", "namespace": PLACE, "labels": dict(MANAGED_BY)}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}


def event() -> Json:
    about = {"apiVersion": API_VERSION, "kind": "WeaviateBackup", "name": "nightly", "namespace": PLACE}
    component = "weaviate-backup-operator"
    return {
        "apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "nightly-", "namespace": PLACE},
        "involvedObject": about, "type": "Normal", "reason": "Completed", "message": "m",
        "source": {"component": component}, "reportingComponent": component, "reportingInstance": component,
    }  # fmt: skip


def backup(**changes: Any) -> Json:
    """As an administrator made it; `changes` of its metadata, or of its spec."""
    body = manifest("WeaviateBackup", changes.pop("spec", MINIMAL["WeaviateBackup"]), name="nightly")
    given: Json = {"namespace": PLACE, "finalizers": ["others.example/keep"], "annotations": {"kept": "as it is"}}
    body["metadata"] |= given | changes
    return body
