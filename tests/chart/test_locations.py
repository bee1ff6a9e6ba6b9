"""The `backups` block of Weaviate's own chart, copied as it is, gives the location that Weaviate itself would use."""

import time

import pytest
from tests.chart.conftest import Cluster
from tests.chart.rendering import CHART, FULL_NAME, KNOWN, Json, helm, of_kind, render, the

from weaviate_backup.api.crd import definitions

LOCATION = "WeaviateBackupLocation"
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
                "BACKUP_S3_USE_SSL": "False",
                "AWS_REGION": "eu-central-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "id",
                "AWS_SECRET_ACCESS_KEY": "key",
                "AWS_SESSION_TOKEN": "token",
            },
        },
        {
            "s3": {
                "bucket": "vectors",
                "path": "prod",
                "endpoint": "minio.storage:9000",
                "useSSL": False,
                "forcePathStyle": True,
                "region": "eu-central-1",
                "credentialsSecretRef": {"name": f"{FULL_NAME}-s3"},
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
        {"envconfig": {"BACKUP_S3_ENDPOINT": "http://minio:9000/"}},
        {
            "s3": {
                "bucket": "weaviate-backups",
                "endpoint": "minio:9000",
                "forcePathStyle": True,
                "useSSL": False,
            }
        },
    ),
    (
        "s3",
        {"envconfig": {"BACKUP_S3_ENDPOINT": "HTTPS://oss.aliyuncs.com", "BACKUP_S3_BUCKET": "my.vectors"}},
        {"s3": {"bucket": "my.vectors", "endpoint": "oss.aliyuncs.com", "forcePathStyle": True, "useSSL": True}},
    ),
    (
        "s3",
        {"envSecrets": {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "mine"}},
        {"s3": {"bucket": "weaviate-backups", "credentialsSecretRef": {"name": "mine"}}},
    ),
    (
        "s3",
        {"envSecrets": {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two"}},
        {
            "s3": {
                "bucket": "weaviate-backups",
                "credentialKeyRefs": [
                    {"name": "one", "key": "AWS_ACCESS_KEY_ID"},
                    {"name": "two", "key": "AWS_SECRET_ACCESS_KEY"},
                ],
            }
        },
    ),
    (
        "s3",
        {"envconfig": {"AWS_ACCESS_KEY_ID": "id"}, "envSecrets": {"AWS_SECRET_ACCESS_KEY": "two"}},
        {
            "s3": {
                "bucket": "weaviate-backups",
                "credentialsSecretRef": {"name": f"{FULL_NAME}-s3"},
                "credentialKeyRefs": [{"name": "two", "key": "AWS_SECRET_ACCESS_KEY"}],
            }
        },
    ),
    (
        "gcs",
        {
            "envconfig": {
                "BACKUP_GCS_BUCKET": "vectors",
                "BACKUP_GCS_PATH": "prod",
                "GCP_PROJECT": "last",
                "GCLOUD_PROJECT": "second",
                "BACKUP_GCS_USE_AUTH": False,
                "STORAGE_EMULATOR_HOST": "https://gcs.storage:4443/",
            },
        },
        {
            "gcs": {
                "bucket": "vectors",
                "path": "prod",
                "project": "second",
                "useAuth": False,
                "endpoint": "https://gcs.storage:4443",
            }
        },
    ),
    (
        "gcs",
        {"envconfig": {"STORAGE_EMULATOR_HOST": "gcs.storage:4443"}},
        {"gcs": {"bucket": "weaviate-backups", "endpoint": "http://gcs.storage:4443", "useAuth": False}},
    ),
    (
        "gcs",
        {"envconfig": {"BACKUP_GCS_USE_AUTH": "true", "GOOGLE_APPLICATION_CREDENTIALS": '{"type": "authorized_user"}'}},
        {
            "gcs": {
                "bucket": "weaviate-backups",
                "useAuth": True,
                "credentialsSecretRef": {"name": f"{FULL_NAME}-gcs"},
            }
        },
    ),
    (
        "azure",
        {
            "envconfig": {"AZURE_BLOCK_SIZE": "1048577", "AZURE_CONCURRENCY": "8"},
            "envSecrets": {"AZURE_STORAGE_ACCOUNT": "mine", "AZURE_STORAGE_KEY": "mine"},
        },
        {
            "azure": {
                "container": "weaviate-backups",
                "blockSizeMiB": 2,
                "concurrency": 8,
                "credentialsSecretRef": {"name": "mine"},
            }
        },
    ),
    (
        "azure",
        {
            "envconfig": {"BACKUP_AZURE_CONTAINER": "vectors", "BACKUP_AZURE_PATH": "prod"},
            "secrets": {"AZURE_STORAGE_ACCOUNT": "unused"},
            "envSecrets": {"AZURE_STORAGE_CONNECTION_STRING": "mine"},
        },
        {"azure": {"container": "vectors", "path": "prod", "credentialsSecretRef": {"name": "mine"}}},
    ),
    (
        "azure",
        {"envconfig": {"AZURE_STORAGE_ACCOUNT": "account", "BACKUP_AZURE_PATH": 20261125}},
        {"azure": {"container": "weaviate-backups", "account": "account", "path": "20261125"}},
    ),
    (
        "filesystem",
        {"volume": {"nfs": {"server": "nas", "path": "/vectors"}}},
        {"filesystem": {"volume": {"nfs": {"server": "nas", "path": "/vectors"}}}},
    ),
]


@pytest.mark.parametrize(("kind", "block", "spec"), CASES)
def test_a_store_becomes_a_location(kind: str, block: Json, spec: Json) -> None:
    values = {**IN_PROD, "backups": {kind: {"enabled": True, **block}}}
    (location,) = of_kind(render(values, api_versions=KNOWN), LOCATION)
    assert (location["metadata"]["name"], location["metadata"]["namespace"]) == (kind, "prod")
    assert location["spec"] == spec


@pytest.mark.kubernetes
def test_the_api_server_takes_all_of_them(cluster: Cluster) -> None:
    cluster.install()
    for kind, block, _ in CASES:
        values = {"locationNamespaces": ["default"], "backups": {kind: {"enabled": True, **block}}}
        code, answer = cluster.server.apply(the(render(values, api_versions=KNOWN), LOCATION), dry_run=True)
        assert code == 201, answer.get("message")


def test_nothing_is_made_of_stores_that_are_off() -> None:
    block = {"s3": {"enabled": False, "envconfig": {"BACKUP_S3_BUCKET": "vectors"}}}
    assert of_kind(render({**IN_PROD, "backups": block}, api_versions=KNOWN), LOCATION) == []


def test_every_cluster_s_namespace_gets_one() -> None:
    backups = {"s3": {"enabled": True}, "gcs": {"enabled": True}}
    made = of_kind(render({"watchNamespaces": ["a", "b"], "backups": backups}, api_versions=KNOWN), LOCATION)
    places = {(location["metadata"]["namespace"], location["metadata"]["name"]) for location in made}
    assert places == {("a", "s3"), ("a", "gcs"), ("b", "s3"), ("b", "gcs")}


def test_variables_of_the_pods_count_as_they_do_in_weaviate_s_chart() -> None:
    """`envconfig` over `env`; one AWS identity for backups and offloading; one service account for all."""
    values: Json = {
        "serviceAccountName": "weaviate",
        "env": {"AWS_REGION": "eu-west-1", "BACKUP_S3_PATH": "of-env", "BACKUP_GCS_USE_AUTH": "false", "GOGC": 100},
        "offload": {
            "s3": {"enabled": False, "envSecrets": {"AWS_ACCESS_KEY_ID": "cold", "AWS_SECRET_ACCESS_KEY": "cold"}}
        },
        "backups": {
            "s3": {"enabled": True, "serviceAccountName": "unused", "envconfig": {"BACKUP_S3_PATH": "of-backups"}},
            "gcs": {"enabled": True},
        },
    }
    specs = {made["metadata"]["name"]: made["spec"] for made in of_kind(render(values, api_versions=KNOWN), LOCATION)}
    assert specs == {
        "s3": {
            "s3": {
                "bucket": "weaviate-backups",
                "path": "of-backups",
                "region": "eu-west-1",
                "credentialsSecretRef": {"name": "cold"},
            },
            "serviceAccountName": "weaviate",
        },
        "gcs": {"gcs": {"bucket": "weaviate-backups", "useAuth": False}, "serviceAccountName": "weaviate"},
    }


def test_the_volume_under_a_filesystem_s_path_is_found_where_it_is_mounted() -> None:
    mounts = [
        {"name": "other", "mountPath": "/"},
        {"name": "share", "mountPath": "/mnt/share/", "subPath": "vectors"},
        {"name": "beside", "mountPath": "/mnt/share/backup"},
    ]
    volumes = [
        {"name": "other", "emptyDir": {}},
        {"name": "share", "nfs": {"server": "nas", "path": "/"}},
        {"name": "beside", "emptyDir": {}},
    ]
    store = {"enabled": True, "envconfig": {"BACKUP_FILESYSTEM_PATH": "/mnt/share/backups/"}}
    values = {"extraVolumeMounts": mounts, "extraVolumes": volumes, "backups": {"filesystem": store}}
    assert the(render(values, api_versions=KNOWN), LOCATION)["spec"] == {
        "filesystem": {"volume": {"nfs": {"server": "nas", "path": "/"}}, "path": "vectors/backups"}
    }


def test_a_directory_of_the_nodes_is_taken_where_the_operator_takes_them() -> None:
    """What a Pod looks for before it mounts one is known of directories only; another check is left out."""
    mount = {"extraVolumeMounts": [{"name": "share", "mountPath": "/share"}]}
    store = {"filesystem": {"enabled": True, "envconfig": {"BACKUP_FILESYSTEM_PATH": "/share"}}}
    for kept, kind in (({"type": "Directory"}, "Directory"), ({}, ""), ({}, "Socket")):
        volume = {"name": "share", "hostPath": {"path": "/mnt", "type": kind}}
        values = {**mount, "extraVolumes": [volume], "backups": store}
        done = helm("template", "wvb", CHART, "--api-versions", KNOWN[0], values=values)
        assert done.returncode != 0
        assert "hostPath /mnt is a directory of the nodes" in done.stderr
        assert "operator.allowHostPathVolumes: true" in done.stderr
        allowed = {**values, "operator": {"allowHostPathVolumes": True}}
        assert the(render(allowed, api_versions=KNOWN), LOCATION)["spec"] == {
            "filesystem": {"volume": {"hostPath": {"path": "/mnt", **kept}}}
        }


def test_volumes_of_a_csi_driver_are_taken_where_the_operator_takes_them() -> None:
    volume: Json = {"csi": {"driver": "files.example", "volumeAttributes": {"share": "backups"}}}
    values = {"backups": {"filesystem": {"enabled": True, "volume": volume}}}
    done = helm("template", "wvb", CHART, "--api-versions", KNOWN[0], values=values)
    assert done.returncode != 0
    assert "operator.csiDrivers: [files.example]" in done.stderr
    allowed = {**values, "operator": {"csiDrivers": ["files.example"]}}
    assert the(render(allowed, api_versions=KNOWN), LOCATION)["spec"] == {"filesystem": {"volume": volume}}


REFUSED: list[tuple[str, Json, str]] = [
    ("s3", {"envconfig": {"BACKUP_S3_ENDPOINT": "http://minio", "BACKUP_S3_USE_SSL": True}}, "contradict each other"),
    ("s3", {"envconfig": {"BACKUP_S3_AUTH_PROXY_ENDPOINT": "http://broker"}}, "BACKUP_S3_AUTH_PROXY_ENDPOINT asks"),
    ("s3", {"secrets": {"AWS_ACCESS_KEY_ID": "id"}}, "AWS_ACCESS_KEY_ID without AWS_SECRET_ACCESS_KEY"),
    ("gcs", {"envconfig": {"BACKUP_GCS_AUTH_PROXY_ENDPOINT": "http://broker"}}, "BACKUP_GCS_AUTH_PROXY_ENDPOINT asks"),
    (
        "gcs",
        {"envconfig": {"GOOGLE_APPLICATION_CREDENTIALS": "/var/key.json"}},
        "is no JSON but a file in Weaviate's pods",
    ),
    ("azure", {}, "backups.azure needs AZURE_STORAGE_CONNECTION_STRING"),
    ("azure", {"secrets": {"AZURE_STORAGE_KEY": "a2V5"}}, "backups.azure needs AZURE_STORAGE_CONNECTION_STRING"),
    ("filesystem", {"envconfig": {"BACKUP_FILESYSTEM_PATH": "/tmp/backups"}}, "backups.filesystem.volume"),
    (
        "filesystem",
        {"envconfig": {"BACKUP_FILESYSTEM_PATH": "/cache/backups"}},
        "/cache/backups is a directory of each",
    ),
    ("filesystem", {"envconfig": {"BACKUP_FILESYSTEM_PATH": "/old"}}, "/old is a directory of each"),
]


@pytest.mark.parametrize(("kind", "block", "complaint"), REFUSED)
def test_what_cannot_be_taken_over_is_said(kind: str, block: Json, complaint: str) -> None:
    values: Json = {
        "extraVolumeMounts": [{"name": "cache", "mountPath": "/cache"}, {"name": "old", "mountPath": "/old"}],
        "extraVolumes": [
            {"name": "cache", "emptyDir": {}},
            {"name": "old", "glusterfs": {"endpoints": "e", "path": "p"}},
        ],
        "backups": {kind: {"enabled": True, **block}},
    }
    done = helm("template", "wvb", CHART, "--api-versions", KNOWN[0], values=values)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_a_variable_that_only_a_secret_knows_is_asked_for() -> None:
    values: Json = {"envSecrets": {"BACKUP_S3_BUCKET": "names"}, "backups": {"s3": {"enabled": True}}}
    done = helm("template", "wvb", CHART, values=values)
    assert done.returncode != 0
    assert "BACKUP_S3_BUCKET comes from Secret names" in done.stderr


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
