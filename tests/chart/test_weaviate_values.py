"""Values files of Weaviate's own chart, unchanged, through Helm 4 and Helm 3; what is mistyped in them is refused."""

import json

import pytest
import yaml
from tests.chart.conftest import Cluster
from tests.chart.rendering import CHART, HELMS, KNOWN, NAMESPACE, Json, helm, of_kind, render, the
from tests.chart.weaviate_values import DOCUMENTED, IGNORED, WHOLE_FILE

LOCATION = "WeaviateBackupLocation"
BOTH = pytest.mark.parametrize("line", HELMS)


@BOTH
@pytest.mark.parametrize("example", DOCUMENTED)
def test_documented_values_become_the_location_that_weaviate_uses(example: str, line: str) -> None:
    text, spec = DOCUMENTED[example]
    location = the(render(yaml.safe_load(text), api_versions=KNOWN, line=line), LOCATION)
    assert location["spec"] == spec
    assert location["metadata"]["namespace"] == NAMESPACE


@BOTH
def test_lint_finds_nothing_in_any_of_them(line: str) -> None:
    for text in (*(text for text, _ in DOCUMENTED.values()), WHOLE_FILE, "{}"):
        done = helm("lint", "--strict", CHART, values=yaml.safe_load(text), line=line)
        assert done.returncode == 0, done.stdout + done.stderr


@BOTH
def test_a_whole_file_gives_its_locations_and_leaves_the_operator_alone(line: str) -> None:
    objects = render(yaml.safe_load(WHOLE_FILE), api_versions=KNOWN, line=line)
    assert the(objects, "Deployment") == the(render(line=line), "Deployment")
    assert the(objects, LOCATION)["spec"] == {
        "s3": {"bucket": "vectors", "region": "eu-central-1"},
        "serviceAccountName": "weaviate",
    }


@BOTH
def test_credentials_in_the_values_are_put_into_a_secret_beside_the_location(line: str) -> None:
    values = {**yaml.safe_load(DOCUMENTED["s3 with keys"][0]), "locationNamespaces": ["a", "b"]}
    objects = render(values, api_versions=KNOWN, line=line)
    secrets, locations = of_kind(objects, "Secret"), of_kind(objects, LOCATION)
    assert [secret["metadata"]["namespace"] for secret in secrets] == ["a", "b"]
    for secret, location in zip(secrets, locations, strict=True):
        assert secret["metadata"]["name"] == location["spec"]["s3"]["credentialsSecretRef"]["name"]
        assert secret["stringData"] == {
            "AWS_ACCESS_KEY_ID": "access-key-id",
            "AWS_SECRET_ACCESS_KEY": "secret-access-key",
        }
    rest = [found for found in objects if found["kind"] != "Secret"]
    assert "secret-access-key" not in repr(rest)


@pytest.mark.kubernetes
def test_the_api_server_takes_every_location_and_the_notes_name_them(cluster: Cluster) -> None:
    cluster.server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.install()
    for text, _ in DOCUMENTED.values():
        for made in render(yaml.safe_load(text), api_versions=KNOWN):
            if made["kind"] in (LOCATION, "Secret"):
                code, answer = cluster.server.apply(made, dry_run=True)
                assert code in (200, 201), answer.get("message")
    said = cluster.install(yaml.safe_load(WHOLE_FILE))
    assert f"Locations of `backups`: s3, in {NAMESPACE}" in said
    assert f"ignored here: {', '.join(IGNORED)}.\n" in said


def test_what_belongs_to_weaviate_alone_is_known_by_name() -> None:
    schema: Json = json.loads((CHART / "values.schema.json").read_text())
    ignored = {name for name, rule in schema["properties"].items() if rule == {"$ref": "#/definitions/ignored"}}
    assert ignored == set(IGNORED)


def test_an_image_that_was_meant_for_the_operator_is_not_lost() -> None:
    done = helm("template", "wvb", CHART, values={"image": {"repository": "mine"}})
    assert done.returncode != 0
    assert "set operator.image.repository" in done.stderr


TYPOS: Json = {
    "replica": 3,
    "backups": {
        "s4": {},
        "s3": {
            "enable": True,
            "enabled": "yes",
            "envconfig": {"BACKUP_S3_BUKET": "a", "BACKUP_S3_USE_SSL": "no"},
            "secrets": {"AWS_SECRET_KEY": "a"},
            "envSecrets": {"AWS_ACCES_KEY_ID": "a"},
        },
        "gcs": {
            "serviceAccountName": "a",
            "envconfig": {"BACKUP_S3_BUCKET": "a", "BACKUP_GCS_USE_AUTH": 0},
            "envSecrets": {"GOOGLE_CREDENTIALS": "a"},
        },
        "azure": {"envconfig": {"AZURE_BLOCK_SIZE": "40MB", "AZURE_CONCURRENCY": 0}, "secrets": {"AZURE_KEY": "a"}},
        "filesystem": {
            "envconfig": {"BACKUP_FILESYSTEM_PATH": "backups"},
            "volumes": {},
            "volume": {"nfs": {"server": "nas"}, "emptyDir": {}},
        },
    },
}
COMPLAINTS = (
    "at '': additional properties 'replica' not allowed",
    "at '/backups': additional properties 's4' not allowed",
    "at '/backups/s3': additional properties 'enable' not allowed",
    "at '/backups/s3/enabled': got string, want boolean",
    "at '/backups/s3/envconfig': additional properties 'BACKUP_S3_BUKET' not allowed",
    "at '/backups/s3/envconfig/BACKUP_S3_USE_SSL': 'no' does not match pattern",
    "at '/backups/s3/secrets': additional properties 'AWS_SECRET_KEY' not allowed",
    "at '/backups/s3/envSecrets': additional properties 'AWS_ACCES_KEY_ID' not allowed",
    "at '/backups/gcs': additional properties 'serviceAccountName' not allowed",
    "at '/backups/gcs/envconfig': additional properties 'BACKUP_S3_BUCKET' not allowed",
    "at '/backups/gcs/envconfig/BACKUP_GCS_USE_AUTH': got number, want",
    "at '/backups/gcs/envSecrets': additional properties 'GOOGLE_CREDENTIALS' not allowed",
    "at '/backups/azure/envconfig/AZURE_BLOCK_SIZE': '40MB' does not match pattern",
    "at '/backups/azure/envconfig/AZURE_CONCURRENCY': minimum: got 0, want 1",
    "at '/backups/azure/secrets': additional properties 'AZURE_KEY' not allowed",
    "at '/backups/filesystem/envconfig/BACKUP_FILESYSTEM_PATH': 'backups' does not match pattern",
    "at '/backups/filesystem': additional properties 'volumes' not allowed",
    "at '/backups/filesystem/volume': maxProperties: got 2, want 1",
    "at '/backups/filesystem/volume': additional properties 'emptyDir' not allowed",
    "at '/backups/filesystem/volume/nfs': missing property 'path'",
)


@BOTH
def test_every_typo_is_an_error_that_names_it(line: str) -> None:
    done = helm("template", "wvb", CHART, values=TYPOS, line=line)
    assert done.returncode != 0
    said = done.stderr
    assert [complaint for complaint in COMPLAINTS if complaint not in said] == [], said
