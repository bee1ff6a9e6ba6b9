"""The chart's policy for what no definition reaches: the metadata of our objects."""

import time
from collections.abc import Iterator

import pytest
from tests.api.objects import MINIMAL, Json, manifest
from tests.api_server import ApiServer
from tests.chart.rendering import of_kind, render

pytestmark = pytest.mark.kubernetes
NAMESPACE = "bounded"
KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
OWNER: Json = {"apiVersion": "v1", "kind": "ConfigMap", "name": "n", "uid": "u"}
WITHIN: Json = {
    "annotations": {"a": "x" * 40_000, "b": "x" * 25_534},
    "labels": {f"a{number}": "" for number in range(64)},
    "finalizers": [f"a/b{number}" for number in range(16)],
    "ownerReferences": [{**OWNER, "uid": str(number)} for number in range(16)],
}
BEYOND: Json = {
    "annotations": {"a": "x" * 40_000, "b": "x" * 25_535},
    "labels": {f"a{number}": "" for number in range(65)},
    "finalizers": [f"a/b{number}" for number in range(17)],
    "ownerReferences": [{**OWNER, "uid": str(number)} for number in range(17)],
}


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> Iterator[ApiServer]:
    """With the policy bound to one namespace, since others share this server, and an object that is older than it."""
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    assert create(api_server, "WeaviateBackup", "old", {"labels": BEYOND["labels"]})[0] == 201
    made = [body for kind in KINDS for body in of_kind(render(), kind) if body["metadata"]["name"].endswith("-sizes")]
    assert len(made) == len(KINDS)
    for body in made:
        if body["kind"] == KINDS[1]:
            names = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
            body["spec"]["matchResources"] = {"namespaceSelector": names}
        code, answer = api_server.apply(body)
        assert code in (200, 201), answer
    deadline = time.monotonic() + 60
    while create(api_server, "WeaviateBackup", "x", {"labels": BEYOND["labels"]}, dry_run=True)[0] == 201:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    yield api_server
    for body in made:
        api_server.request("DELETE", api_server.path_of(body))


def create(server: ApiServer, kind: str, name: str, metadata: Json, *, dry_run: bool = False) -> tuple[int, str]:
    body = manifest(kind, MINIMAL[kind], name=name, namespace=NAMESPACE)
    body["metadata"].update(metadata)
    query = {"dryRun": "All"} if dry_run else {}
    code, answer = server.request("POST", server.path_of(body, collection=True), body, query=query)
    return code, str(answer.get("message", ""))


@pytest.mark.parametrize("kind", MINIMAL)
@pytest.mark.parametrize("field", WITHIN)
def test_metadata_is_bounded(server: ApiServer, kind: str, field: str) -> None:
    assert create(server, kind, "x", {field: WITHIN[field]}, dry_run=True) == (201, "")
    code, said = create(server, kind, "x", {field: BEYOND[field]}, dry_run=True)
    assert (code, f"metadata.{field} may" in said) == (422, True), said


def test_an_older_object_can_be_mended_and_deleted(server: ApiServer) -> None:
    path = f"/apis/backup.weaviate.io/v1alpha1/namespaces/{NAMESPACE}/weaviatebackups/old"
    merge = "application/merge-patch+json"
    code, answer = server.request("PATCH", path, {"spec": {"cancel": True}}, content_type=merge)
    assert (code, "metadata.labels may be at most 64" in answer["message"]) == (422, True)
    fewer = {"metadata": {"labels": {"a1": None}, "finalizers": ["a/b"]}, "spec": {"cancel": True}}
    assert server.request("PATCH", path, fewer, content_type=merge)[0] == 200
    assert server.request("DELETE", path)[0] == 200
    assert server.request("PATCH", path, {"metadata": {"finalizers": None}}, content_type=merge)[0] == 200
    assert server.request("GET", path)[0] == 404
