"""The `backups` block of Weaviate's own chart, copied as it is, gives the location that Weaviate itself would use."""

import time

import pytest
from tests.chart.conftest import Cluster
from tests.chart.rendering import CHART, FULL_NAME, Json, helm, of_kind, render

from weaviate_backup.api.crd import definitions

LOCATION = "WeaviateBackupLocation"
KNOWN = ("backup.weaviate.io/v1alpha1/WeaviateBackupLocation",)
IN_PROD: Json = {"locationNamespaces": ["prod"]}

CASES: list[tuple[str, Json, Json]] = [
    ("s3", {}, {"s3": {"bucket": "weaviate-backups"}}),
    (
        "s3",
        {
            "envconfig": {
                "BACKUP_S3_BUCKET": "vectors",
                "BACKUP_S3_PATH": "/prod/",
                "BACKUP_S3_ENDPOINT": "minio.storage:9000",
                "BACKUP_S3_USE_SSL": "false",
                "AWS_REGION": "eu-central-1",
            },
            "secrets": {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"},
        },
        {
            "s3": {
                "bucket": "vectors",
                "path": "prod",
                "endpoint": "minio.storage:9000",
                "useSSL": False,
                "forcePathStyle": True,
                "region": "eu-central-1",
                "credentialsSecretRef": {"name": "backup-s3"},
            }
        },
    ),
    (
        "s3",
        {
            "serviceAccountName": "weaviate-s3",
            "envconfig": {"BACKUP_S3_ENDPOINT": "s3.amazonaws.com", "BACKUP_S3_USE_SSL": True},
        },
        {
            "s3": {
                "bucket": "weaviate-backups",
                "endpoint": "s3.amazonaws.com",
                "forcePathStyle": False,
                "useSSL": True,
            },
            "serviceAccountName": "weaviate-s3",
        },
    ),
    (
        "s3",
        {"envSecrets": {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "mine"}},
        {"s3": {"bucket": "weaviate-backups", "credentialsSecretRef": {"name": "mine"}}},
    ),
    (
        "gcs",
        {
            "envconfig": {
                "BACKUP_GCS_BUCKET": "vectors",
                "BACKUP_GCS_PATH": "prod",
                "GOOGLE_CLOUD_PROJECT": "p",
                "BACKUP_GCS_USE_AUTH": False,
            },
            "secrets": {"GOOGLE_APPLICATION_CREDENTIALS": "{}"},
        },
        {
            "gcs": {
                "bucket": "vectors",
                "path": "prod",
                "project": "p",
                "useAuth": False,
                "credentialsSecretRef": {"name": "backup-gcs"},
            }
        },
    ),
    (
        "azure",
        {
            "envconfig": {"BACKUP_AZURE_CONTAINER": "vectors", "BACKUP_AZURE_PATH": "prod"},
            "envSecrets": {"AZURE_STORAGE_CONNECTION_STRING": "mine"},
        },
        {"azure": {"container": "vectors", "path": "prod", "credentialsSecretRef": {"name": "mine"}}},
    ),
]


@pytest.mark.parametrize(("kind", "block", "spec"), CASES)
def test_a_store_becomes_a_location(kind: str, block: Json, spec: Json) -> None:
    values = {**IN_PROD, "backups": {kind: {"enabled": True, **block}}}
    (location,) = of_kind(render(values, api_versions=KNOWN), LOCATION)
    assert (location["metadata"]["name"], location["metadata"]["namespace"]) == (kind, "prod")
    assert location["spec"] == spec


def test_nothing_is_made_of_stores_that_are_off() -> None:
    block = {"s3": {"enabled": False, "envconfig": {"BACKUP_S3_BUCKET": "vectors"}}}
    assert of_kind(render({**IN_PROD, "backups": block}, api_versions=KNOWN), LOCATION) == []


def test_every_cluster_s_namespace_gets_one() -> None:
    backups = {"s3": {"enabled": True}, "gcs": {"enabled": True}}
    made = of_kind(render({"watchNamespaces": ["a", "b"], "backups": backups}, api_versions=KNOWN), LOCATION)
    places = {(location["metadata"]["namespace"], location["metadata"]["name"]) for location in made}
    assert places == {("a", "s3"), ("a", "gcs"), ("b", "s3"), ("b", "gcs")}


def test_credentials_stay_in_the_secret_of_weaviate_s_chart() -> None:
    block = {"enabled": True, "secrets": {"AWS_ACCESS_KEY_ID": "id-7", "AWS_SECRET_ACCESS_KEY": "key-7"}}
    assert "key-7" not in repr(render({**IN_PROD, "backups": {"s3": block}}, api_versions=KNOWN))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"backups": {"s3": {"enabled": True}}}, "needs locationNamespaces"),
        ({**IN_PROD, "backups": {"filesystem": {"enabled": True}}}, "agents need a volume"),
        (
            {**IN_PROD, "backups": {"azure": {"enabled": True, "envSecrets": {"A": "one", "B": "two"}}}},
            "names several Secrets (one, two)",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_said(values: Json, complaint: str) -> None:
    done = helm("template", "wvb", CHART, "--api-versions", KNOWN[0], values=values)
    assert done.returncode != 0
    assert complaint in done.stderr


@pytest.mark.kubernetes
def test_the_first_upgrade_makes_locations_and_later_ones_keep_them(cluster: Cluster) -> None:
    """Helm refuses kinds that it does not know yet, so this is tried from nothing."""
    cluster.install()
    cluster.uninstall()
    remove_definitions(cluster)
    cluster.server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}})
    values: Json = {**IN_PROD, "backups": {"s3": {"enabled": True, "envconfig": {"BACKUP_S3_PATH": "prod"}}}}
    path = f"/apis/backup.weaviate.io/v1alpha1/namespaces/prod/{LOCATION.lower()}s/s3"

    assert "are not made yet" in cluster.install(values)
    assert cluster.server.request("GET", path)[0] == 404
    assert "are not made yet" not in cluster.install(values)
    code, first = cluster.server.request("GET", path)
    assert (code, first.get("spec", {}).get("s3", {}).get("path")) == (200, "prod")

    values["backups"]["s3"]["envconfig"]["AWS_REGION"] = "eu-west-1"
    cluster.install(values)
    code, second = cluster.server.request("GET", path)
    assert (second["metadata"]["uid"], second["spec"]["s3"]["region"]) == (first["metadata"]["uid"], "eu-west-1")

    values["backups"]["s3"]["envconfig"]["BACKUP_S3_PATH"] = "elsewhere"
    with pytest.raises(AssertionError, match="create a new WeaviateBackupLocation"):
        cluster.install(values)

    cluster.uninstall()
    assert cluster.server.request("GET", path)[0] == 200
    cluster.install()
    assert cluster.server.request("GET", f"/apis/apps/v1/namespaces/backup-system/deployments/{FULL_NAME}")[0] == 200


def remove_definitions(cluster: Cluster) -> None:
    root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for name in definitions():
        cluster.server.request("DELETE", f"{root}/{name}")
    deadline = time.monotonic() + 30
    while any(cluster.server.request("GET", f"{root}/{name}")[0] != 404 for name in definitions()):
        assert time.monotonic() < deadline, "the definitions do not go"
        time.sleep(0.1)
