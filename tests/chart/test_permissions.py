"""What the operator's service account may do on a real API server, and what it must never be able to do."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.api.objects import MINIMAL, manifest
from tests.chart.conftest import Cluster
from tests.chart.rendering import FULL_NAME, NAMESPACE, OUR_KINDS

from weaviate_backup import kube
from weaviate_backup.api.names import FIELD_MANAGER
from weaviate_backup.api.resources import Resource

pytestmark = pytest.mark.kubernetes

OPERATOR_RESOURCES = [found for found in vars(kube).values() if isinstance(found, Resource)]
OUR_GROUP = "backup.weaviate.io"
SERVED, OTHER = "weaviate", "elsewhere"
READ = ("get", "list", "watch")
OPERATIONS = ("weaviatebackups", "weaviaterestores")


@dataclass(frozen=True)
class Right:
    """Verbs on a resource, written `pods`, `pods/exec`, or `leases.coordination.k8s.io`."""

    resource: str
    verbs: tuple[str, ...]
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{','.join(self.verbs)} {self.resource}"


NEEDED = [
    *(Right(f"{kind}.{OUR_GROUP}", READ) for kind in OUR_KINDS),
    *(Right(f"{kind}.{OUR_GROUP}", ("patch",)) for kind in OPERATIONS),
    *(Right(f"{kind}.{OUR_GROUP}/status", ("patch",)) for kind in OUR_KINDS),
    *(Right(f"{kind}.{OUR_GROUP}/finalizers", ("update",)) for kind in OUR_KINDS),
    Right("events", ("list", "create")),
    Right("leases.coordination.k8s.io", ("get", "create", "update", "delete")),
    Right("pods", (*READ, "create", "delete")),
    Right("secrets", ("get", "create", "delete")),
    Right("statefulsets.apps", ("get",)),
    Right("persistentvolumeclaims", ("get",)),
    Right("configmaps", ("get",)),
]
OWN_NAMESPACE = Right("secrets", ("get", "create", "delete"))
FORBIDDEN = [
    *(Right(f"{kind}.{OUR_GROUP}", ("create", "update", "delete", "deletecollection")) for kind in OUR_KINDS),
    Right("pods/exec", ("get", "create")),
    Right("pods/attach", ("get", "create")),
    Right("pods/portforward", ("get", "create")),
    Right("pods/ephemeralcontainers", ("patch", "update")),
    Right(f"weaviatebackuplocations.{OUR_GROUP}", ("patch",)),
    *(Right(f"{kind}.{OUR_GROUP}/status", ("get", "update")) for kind in OUR_KINDS),
    Right("pods", ("deletecollection", "update", "patch")),
    Right("secrets", ("list", "watch", "update", "patch", "deletecollection")),
    Right("events", ("get", "watch", "update", "patch", "delete")),
    Right("leases.coordination.k8s.io", ("list", "watch", "patch", "deletecollection")),
    Right("configmaps", ("list", "watch", "create", "patch", "delete")),
    Right("serviceaccounts", (*READ, "create", "patch")),
    Right("serviceaccounts/token", ("create",)),
    Right("statefulsets.apps", ("list", "watch", "create", "patch", "update", "delete")),
    Right("statefulsets.apps/scale", ("patch", "update")),
    Right("persistentvolumeclaims", ("list", "watch", "create", "patch", "update", "delete")),
    Right("roles.rbac.authorization.k8s.io", ("create", "patch", "bind", "escalate")),
    Right("namespaces", (*READ, "create", "patch", "delete"), namespaced=False),
    Right("nodes", (*READ, "patch", "update", "delete"), namespaced=False),
    Right("nodes/proxy", ("get", "create"), namespaced=False),
    Right("persistentvolumes", (*READ, "create", "patch", "update", "delete"), namespaced=False),
    Right("customresourcedefinitions.apiextensions.k8s.io", (*READ, "create", "patch", "delete"), namespaced=False),
    Right("clusterroles.rbac.authorization.k8s.io", ("create", "patch", "bind", "escalate"), namespaced=False),
    Right("*.*", ("*",)),
    Right("users", ("impersonate",), namespaced=False),
]


@pytest.fixture(scope="module")
def everywhere(cluster: Cluster) -> Iterator[Cluster]:
    cluster.install()
    yield cluster


@pytest.fixture(scope="module")
def served_namespace(cluster: Cluster) -> Iterator[Cluster]:
    """A second release, which serves one namespace and reads nothing of the cluster."""
    for name in (SERVED, OTHER):
        cluster.server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    values = {
        "watchNamespaces": [SERVED],
        "crds": {"install": False},
        "rbac": {"aggregateToDefaultRoles": False},
    }
    cluster.install(values, namespace="narrow-system")
    yield cluster
    cluster.uninstall(namespace="narrow-system")


def allowed(cluster: Cluster, right: Right, namespace: str, *, account: str = NAMESPACE) -> set[str]:
    """The verbs of the right that the service account has: what `kubectl auth can-i` asks."""
    return {verb for verb in right.verbs if _is_allowed(cluster, right, verb, namespace, account)}


def _is_allowed(cluster: Cluster, right: Right, verb: str, namespace: str, account: str) -> bool:
    resource, _, subresource = right.resource.partition("/")
    name, _, group = resource.partition(".")
    attributes = {"verb": verb, "group": group, "resource": name, "subresource": subresource}
    if right.namespaced:
        attributes["namespace"] = namespace
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{account}:{FULL_NAME}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{account}", "system:authenticated"],
            "resourceAttributes": attributes,
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    code, answer = cluster.server.request("POST", path, review)
    assert code == 201, answer
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize("right", NEEDED, ids=str)
def test_the_operator_may(everywhere: Cluster, right: Right) -> None:
    assert allowed(everywhere, right, OTHER) == set(right.verbs)


@pytest.mark.parametrize("right", FORBIDDEN, ids=str)
def test_the_operator_must_not(everywhere: Cluster, right: Right) -> None:
    assert allowed(everywhere, right, OTHER) == set()
    assert allowed(everywhere, right, NAMESPACE) == set()


@pytest.mark.parametrize("right", NEEDED, ids=str)
def test_with_named_namespaces_it_may_there_alone(served_namespace: Cluster, right: Right) -> None:
    assert allowed(served_namespace, right, SERVED, account="narrow-system") == set(right.verbs)
    assert allowed(served_namespace, right, OTHER, account="narrow-system") == set()


@pytest.mark.parametrize("right", FORBIDDEN, ids=str)
def test_with_named_namespaces_it_must_not(served_namespace: Cluster, right: Right) -> None:
    assert allowed(served_namespace, right, SERVED, account="narrow-system") == set()


def test_with_named_namespaces_it_keeps_its_memory_at_home(served_namespace: Cluster) -> None:
    home = "narrow-system"
    assert allowed(served_namespace, OWN_NAMESPACE, home, account=home) == set(OWN_NAMESPACE.verbs)
    for right in NEEDED:
        if right.resource != "secrets":
            assert allowed(served_namespace, right, home, account=home) == set()


@pytest.mark.parametrize("resource", OPERATOR_RESOURCES, ids=lambda resource: str(resource.plural))
def test_every_kind_that_the_operator_names_is_allowed_somehow(everywhere: Cluster, resource: Resource) -> None:
    """A kind added to the client and forgotten here is found before a user finds it."""
    group = resource.root.split("/")[2] if resource.root.startswith("/apis/") else ""
    right = Right(f"{resource.plural}.{group}".rstrip("."), ("get", "create"))
    assert allowed(everywhere, right, OTHER)


def test_with_its_own_token_it_writes_a_status_and_reads_secrets_by_name(everywhere: Cluster) -> None:
    server = everywhere.server
    token = server.token_of(NAMESPACE, FULL_NAME)
    backup = manifest("WeaviateBackup", MINIMAL["WeaviateBackup"], name="by-token")
    code, answer = server.apply(backup)
    assert code in (200, 201), answer
    path = server.path_of(backup)

    status = {**{key: backup[key] for key in ("apiVersion", "kind", "metadata")}, "status": {"phase": "Pending"}}
    query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
    apply = "application/apply-patch+yaml"
    code, answer = server.request("PATCH", f"{path}/status", status, query=query, content_type=apply, token=token)
    assert (code, answer["status"]) == (200, {"phase": "Pending"}), answer

    assert server.request("DELETE", path, token=token)[0] == 403
    assert server.request("GET", "/api/v1/namespaces/default/secrets", token=token)[0] == 403
    assert server.request("GET", "/api/v1/namespaces/default/secrets/backup-s3", token=token)[0] == 404


def test_kubectl_says_the_same(everywhere: Cluster) -> None:
    who = f"--as=system:serviceaccount:{NAMESPACE}:{FULL_NAME}"
    answers = {
        question: everywhere.server.kubectl("auth", "can-i", *question.split(), who, check=False).stdout.strip()
        for question in ("create pods", "create pods --subresource=exec", "list secrets", "get secrets/backup-s3")
    }
    assert answers == {
        "create pods": "yes",
        "create pods --subresource=exec": "no",
        "list secrets": "no",
        "get secrets/backup-s3": "yes",
    }
