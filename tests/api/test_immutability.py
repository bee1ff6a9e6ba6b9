"""A backup's and a restore's spec never changes but for `cancel`, a location's place never does; by no detour."""

from collections.abc import Iterator

import pytest
from tests.api.objects import FULL, MINIMAL, Json, manifest
from tests.api_server import ApiServer

pytestmark = pytest.mark.kubernetes

NAMESPACE = "immutability"
OPERATIONS = ("WeaviateBackup", "WeaviateRestore")

CHANGED: Json = {
    "target": {"statefulSet": "another"},
    "locationRef": {"name": "another"},
    "source": {"backupID": "another"},
    "backupID": "another",
    "include": ["Another"],
    "exclude": ["Another"],
    "config": {"cpuPercentage": 7},
    "auth": {"apiKeySecretRef": {"name": "another"}},
    "agent": {"nodeSelector": {"disk": "another"}},
    "method": "Server",
    "timeout": "7h",
    "deletionPolicy": "Retain",
    "nodeMapping": {"weaviate-0": "another-0"},
    "overwriteAlias": False,
    "dryRun": False,
}
OPTIONAL = ("backupID", "include", "auth", "nodeMapping")
LOCATIONS: dict[str, Json] = {
    "s3": {"bucket": "backups", "endpoint": "minio:9000", "useSSL": False},
    "gcs": {"bucket": "backups", "endpoint": "https://gcs.example.com", "useAuth": False},
    "azure": {"container": "backups", "endpoint": "https://azure.example.com", "account": "mine"},
    "filesystem": {"volume": {"persistentVolumeClaim": {"claimName": "backups"}}},
}


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> Iterator[ApiServer]:
    """A full and a minimal object of each kind, and a location of each kind of store."""
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    objects = [
        manifest(kind, spec, name=name, namespace=NAMESPACE)
        for name, specs in (("full", FULL), ("minimal", MINIMAL))
        for kind, spec in specs.items()
    ]
    objects += [
        manifest("WeaviateBackupLocation", {kind: {**spec, "path": "here"}}, name=kind, namespace=NAMESPACE)
        for kind, spec in LOCATIONS.items()
    ]
    for body in objects:
        status, answer = api_server.apply(body)
        assert status == 201, answer
    yield api_server


def change(server: ApiServer, kind: str, name: str, spec: Json, *, dry_run: bool = True) -> tuple[int, str]:
    """A merge patch of the spec, in which None removes a field."""
    path = server.path_of(manifest(kind, {}, name=name, namespace=NAMESPACE))
    query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
    status, answer = server.request(
        "PATCH", path, {"spec": spec}, query=query, content_type="application/merge-patch+json"
    )
    return status, str(answer.get("message", ""))


FULL_CHANGES = [(kind, field) for kind in OPERATIONS for field in CHANGED if field in FULL[kind]]


@pytest.mark.parametrize(("kind", "field"), FULL_CHANGES)
def test_field_cannot_change(server: ApiServer, kind: str, field: str) -> None:
    status, message = change(server, kind, "full", {field: CHANGED[field]})
    assert status == 422
    assert f"spec.{field} is immutable; create a new {kind}" in message


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, field in FULL_CHANGES if field in OPTIONAL])
def test_field_can_neither_go_nor_come(server: ApiServer, kind: str, field: str) -> None:
    """What could be taken away could be set anew."""
    for name, value in (("full", None), ("minimal", FULL[kind][field])):
        status, message = change(server, kind, name, {field: value})
        assert status == 422
        assert f"spec.{field} is immutable" in message


def test_every_field_of_an_operation_was_tried() -> None:
    for kind in OPERATIONS:
        assert set(FULL[kind]) - {"cancel"} <= set(CHANGED)


@pytest.mark.parametrize("kind", OPERATIONS)
def test_exclude_cannot_come(server: ApiServer, kind: str) -> None:
    status, message = change(server, kind, "minimal", {"exclude": CHANGED["exclude"]})
    assert (status, "spec.exclude is immutable" in message) == (422, True)


@pytest.mark.parametrize("kind", OPERATIONS)
def test_spec_cannot_go(server: ApiServer, kind: str) -> None:
    path = server.path_of(manifest(kind, {}, name="minimal", namespace=NAMESPACE))
    status, answer = server.request(
        "PATCH", path, {"spec": None}, query={"dryRun": "All"}, content_type="application/merge-patch+json"
    )
    assert status == 422
    assert "spec: Required value" in answer["message"]


@pytest.mark.parametrize("kind", OPERATIONS)
def test_cancel_is_set_once_and_for_good(server: ApiServer, kind: str) -> None:
    body = manifest(kind, MINIMAL[kind], name="canceled", namespace=NAMESPACE)
    assert server.apply(body)[0] == 201
    assert change(server, kind, "canceled", {"cancel": True}, dry_run=False) == (200, "")
    for value in (False, None):
        status, message = change(server, kind, "canceled", {"cancel": value})
        assert status == 422
        assert f"spec.cancel cannot be taken back; create a new {kind}" in message


@pytest.mark.parametrize("kind", OPERATIONS)
def test_an_unchanged_spec_can_be_written_again(server: ApiServer, kind: str) -> None:
    """As Argo CD, Flux and Helm do at every sync."""
    specs = {"full": FULL, "minimal": MINIMAL}
    for name, chosen in specs.items():
        body = manifest(kind, chosen[kind], name=name, namespace=NAMESPACE)
        assert server.apply(body, dry_run=True, field_manager="argocd")[0] == 200


@pytest.mark.parametrize("kind", LOCATIONS)
def test_a_location_stays_where_it_is(server: ApiServer, kind: str) -> None:
    root = next((field for field in ("bucket", "container") if field in LOCATIONS[kind]), None)
    other = "gcs" if kind == "s3" else "s3"
    moves: list[Json] = [
        {kind: {"path": "there"}},
        {kind: {"path": None}},
        {kind: None, other: LOCATIONS[other]},
        *([{kind: {root: "another"}}] if root else []),
    ]
    for move in moves:
        status, message = change(server, "WeaviateBackupLocation", kind, move)
        assert status == 422
        assert f"spec.{kind} can neither come nor go" in message
        assert "create a new WeaviateBackupLocation" in message


BARE: dict[str, Json] = {"s3": {"bucket": "backups"}, "gcs": {"bucket": "backups"}, "azure": {"container": "backups"}}
ELSEWHERE: dict[str, Json] = {
    "s3": {"endpoint": "evil:9000", "useSSL": True},
    "gcs": {"endpoint": "https://evil.example.com", "useAuth": True},
    "azure": {"endpoint": "https://evil.example.com", "account": "evil"},
}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in ELSEWHERE.items() for field in fields])
def test_a_location_cannot_be_turned_to_another_server(server: ApiServer, kind: str, field: str) -> None:
    """Neither changed, nor taken away, nor added later."""
    bare = manifest("WeaviateBackupLocation", {kind: BARE[kind]}, name=f"bare-{kind}", namespace=NAMESPACE)
    assert server.apply(bare)[0] in (200, 201)
    attempts = [(kind, ELSEWHERE[kind][field]), (kind, None), (f"bare-{kind}", LOCATIONS[kind][field])]
    for name, value in attempts:
        status, message = change(server, "WeaviateBackupLocation", name, {kind: {field: value}})
        assert status == 422, (name, value)
        assert f"spec.{kind} can neither come nor go" in message
        assert field in message
        assert "create a new WeaviateBackupLocation" in message


def test_the_rest_of_a_location_may_change(server: ApiServer) -> None:
    spec: Json = {
        "s3": {"credentialsSecretRef": {"name": "other"}, "region": None, "caSecretRef": None, "forcePathStyle": False},
        "suspend": False,
        "readOnly": False,
        "serviceAccountName": None,
    }
    assert change(server, "WeaviateBackupLocation", "full", spec) == (200, "")
    volume: Json = {"persistentVolumeClaim": None, "nfs": {"server": "nas", "path": "/"}}
    assert change(server, "WeaviateBackupLocation", "filesystem", {"filesystem": {"volume": volume}}) == (200, "")
