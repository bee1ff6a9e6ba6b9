"""The lab is what it claims to be: real nodes, a synchronized Weaviate, a store that answers, pods one can enter."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.surroundings import Surroundings

pytestmark = pytest.mark.lab
SPOKEN_SECONDS = 10


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def test_three_nodes_are_ready(kubectl: Kubectl) -> None:
    nodes = kubectl.items("nodes")
    conditions = [{item["type"]: item["status"] for item in node["status"]["conditions"]} for node in nodes]
    assert [condition["Ready"] for condition in conditions] == ["True"] * 3
    assert {node["status"]["nodeInfo"]["containerRuntimeVersion"].split(":")[0] for node in nodes} == {"containerd"}


def _members(url: str) -> list[str] | None:
    """Names of all members, when they agree. On a busy machine they do not for moments, or do not answer each other."""
    try:
        statistics = _get(f"{url}/v1/cluster/statistics")
    except urllib.error.HTTPError as error:
        error.close()
        return None
    return sorted(member["name"] for member in statistics["statistics"]) if statistics["synchronized"] else None


def test_every_weaviate_pod_sees_three_synchronized_members(lab: Surroundings) -> None:
    assert len(lab.weaviate_urls) == 3
    for url in lab.weaviate_urls:
        deadline = time.monotonic() + 30
        while (members := _members(url)) is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert members == ["weaviate-0", "weaviate-1", "weaviate-2"]


def test_urls_are_in_the_order_of_the_pods(lab: Surroundings, kubectl: Kubectl) -> None:
    pods = [kubectl.get("pod", f"weaviate-{ordinal}") or {} for ordinal in range(3)]
    assert list(lab.weaviate_urls) == [f"http://{pod['status']['podIP']}:8080" for pod in pods]
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 3


def test_the_data_of_every_pod_lies_in_the_folder_of_its_claim(lab: Surroundings) -> None:
    for ordinal in range(3):
        assert (lab.volume(ordinal) / "raft").is_dir()


def test_services_and_cluster_names_are_reached_from_the_command(lab: Surroundings) -> None:
    name = f"weaviate.{lab.namespace}.svc.cluster.local"
    assert len(_get(f"http://{name}/v1/nodes")["nodes"]) == 3


def test_weaviate_has_the_native_backup_module_of_the_store(lab: Surroundings) -> None:
    modules = _get(f"{lab.weaviate_urls[0]}/v1/meta")["modules"]
    assert modules["backup-s3"]["bucketName"] == lab.store.bucket


def test_the_store_keeps_objects_as_plain_files(lab: Surroundings) -> None:
    client = boto3.client("s3", endpoint_url=lab.store.url)
    client.put_object(Bucket=lab.store.bucket, Key="tests/lab", Body=b"content")
    assert (lab.store.bucket_directory / "tests" / "lab").read_bytes() == b"content"
    client.delete_object(Bucket=lab.store.bucket, Key="tests/lab")
    client.close()


@pytest.fixture(scope="module")
def pod(kubectl: Kubectl) -> Iterator[str]:
    """A pod with our image under the strictest rules: no root, no capability, nothing to write to."""
    name = "lab-test"
    container = {
        "name": "test",
        "image": "docker.io/local/weaviate-backup-operator:dev",
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", "print('hello from a pod', flush=True); import time; time.sleep(600)"],
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    kubectl.wait("pod", name, "condition=Ready", timeout_seconds=60)
    yield name
    kubectl.delete("pod", name, wait=False)


def first_words(kubectl: Kubectl, pod: str) -> str:
    """A pod is ready before its program has said anything on a busy machine."""
    deadline = time.monotonic() + SPOKEN_SECONDS
    while not (said := kubectl.run("logs", pod)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return said


def test_a_pod_can_be_read_and_entered(kubectl: Kubectl, lab: Surroundings, pod: str) -> None:
    assert "hello from a pod" in first_words(kubectl, pod)
    assert kubectl.run("exec", pod, "--", "id", "-u").strip() == "65532"
    reach = f"import urllib.request as r; print(r.urlopen('http://weaviate.{lab.namespace}/v1/meta').status)"
    assert kubectl.run("exec", pod, "--", "python3", "-c", reach).strip() == "200"


def test_the_image_runs_with_a_read_only_root(kubectl: Kubectl, pod: str) -> None:
    said = kubectl.run("exec", pod, "--", "weaviate-backup-operator", "--help")
    assert "operator" in said
    assert "agent" in said


def test_the_image_is_byte_compiled(kubectl: Kubectl, pod: str) -> None:
    ask = "import weaviate_backup.errors as m, os; print(os.path.exists(m.__cached__))"
    assert kubectl.run("exec", pod, "--", "python3", "-c", ask).strip() == "True"


def test_the_machine_is_out_of_reach() -> None:
    routes = subprocess.run(["ip", "-json", "route"], capture_output=True, text=True, check=True).stdout
    assert {route["dev"] for route in json.loads(routes)} == {"br0"}


def test_tools_keep_their_caches_in_the_folder_of_the_lab(lab: Surroundings) -> None:
    for variable in ("KUBECACHEDIR", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"):
        assert lab.directory in Path(os.environ[variable]).parents


def test_locations_stand_ready(kubectl: Kubectl) -> None:
    assert os.environ["AWS_ACCESS_KEY_ID"]
    for name in ("s3", "filesystem"):
        assert kubectl.get("weaviatebackuplocation", name) is not None
