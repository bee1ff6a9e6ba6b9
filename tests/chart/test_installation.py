"""The chart on a real API server: strictly valid, restricted, upgradable, and gone without taking backups along."""

import pytest
import yaml
from tests.api.objects import MINIMAL, manifest
from tests.chart.conftest import Cluster
from tests.chart.rendering import CHART, FULL_NAME, NAMESPACE, Json, render, the

pytestmark = pytest.mark.kubernetes

EVERYTHING: Json = {
    "watchNamespaces": ["default", "kube-public"],
    "networkPolicy": {
        "enabled": True,
        "apiServer": {"cidrs": ["10.0.0.1/32", "fd00::1/128"]},
        "metricsFrom": [{"namespaceSelector": {}}],
        "weaviate": {"protect": True},
    },
    "operator": {
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    },
    "serviceAccount": {"annotations": {"e": "f"}},
}


@pytest.fixture(scope="module", autouse=True)
def namespace(cluster: Cluster) -> None:
    cluster.server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})


@pytest.mark.parametrize(
    "values",
    [
        {},
        EVERYTHING,
        {
            "networkPolicy": {
                "enabled": True,
                "agentNamespaces": ["default"],
                "apiServer": {"cidrs": ["0.0.0.0/0"]},
                "storesTo": [{"podSelector": {}}],
            }
        },
    ],
)
def test_every_object_is_strictly_valid(cluster: Cluster, values: Json) -> None:
    for made in render(values):
        code, answer = cluster.server.apply(made, dry_run=True)
        assert code in (200, 201), f"{made['kind']} {made['metadata']['name']}: {answer.get('message')}"


def test_the_operator_s_pod_passes_the_restricted_standard(cluster: Cluster) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    place = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": label}}
    assert cluster.server.apply(place)[0] in (200, 201)
    template = the(render(), "Deployment")["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "operator", "namespace": "restricted"},
        "spec": template["spec"],
    }
    code, answer = cluster.server.apply(pod, dry_run=True)
    assert code == 201, answer.get("message")
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    assert cluster.server.apply(pod, dry_run=True)[0] == 403, "the standard is not enforced: the test proves nothing"


def test_a_release_comes_changes_and_goes(cluster: Cluster) -> None:
    assert "serves all namespaces" in cluster.install()
    code, answer = cluster.server.apply(manifest("WeaviateBackup", MINIMAL["WeaviateBackup"], name="kept"))
    assert code == 201, answer

    assert "serves the namespaces default" in cluster.install({"watchNamespaces": ["default"]})
    roles = "/apis/rbac.authorization.k8s.io/v1"
    assert cluster.server.request("GET", f"{roles}/clusterroles/{NAMESPACE}-{FULL_NAME}-agents")[0] == 404
    assert cluster.server.request("GET", f"{roles}/namespaces/default/roles/{FULL_NAME}-agents")[0] == 200

    cluster.uninstall()
    deployment = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{FULL_NAME}"
    assert cluster.server.request("GET", deployment)[0] == 404
    kept = manifest("WeaviateBackup", {}, name="kept")
    assert cluster.server.request("GET", cluster.server.path_of(kept))[0] == 200

    cluster.install()
    assert cluster.server.request("GET", deployment)[0] == 200


def test_a_release_of_another_name_can_take_the_definitions_over(cluster: Cluster) -> None:
    """Those that an uninstalled release left belong to its name; helm has a flag for that."""
    cluster.install()
    cluster.uninstall()
    with pytest.raises(AssertionError, match="cannot be imported into the current release"):
        cluster.install(release="other", namespace="other-system")
    cluster.install({}, "--take-ownership", release="other", namespace="other-system")
    cluster.uninstall(release="other", namespace="other-system")
    cluster.install({}, "--take-ownership")


def test_examples_of_the_notes_are_valid(cluster: Cluster) -> None:
    """What users copy first."""
    cluster.install()
    text = (CHART / "templates" / "NOTES.txt").read_text()
    blocks = [block for block in text.split("\n\n") if block.lstrip().startswith("apiVersion:")]
    assert len(blocks) == 2
    for block in blocks:
        code, answer = cluster.server.apply(yaml.safe_load(block), dry_run=True)
        assert code == 201, answer.get("message")
