"""The values file of Weaviate's own chart, given to ours unchanged, is all that Ready locations of every kind need."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.cluster.diagnosis import diagnosis
from e2e.cluster.kubectl import Kubectl, KubectlError
from e2e.cluster.surroundings import Surroundings
from e2e.lab.images import OPERATOR_REPOSITORY, OPERATOR_TAG
from e2e.lab.programs import program
from tests.chart.rendering import CHART, HELMS
from tests.chart.weaviate_values import WHOLE_FILE

pytestmark = pytest.mark.lab

RELEASE = "weaviate-backup-operator"
READY_SECONDS = 60
OURS = {
    f"operator.image.{name}": value
    for name, value in {"repository": OPERATOR_REPOSITORY, "tag": OPERATOR_TAG, "pullPolicy": "Never"}.items()
} | {"operator.allowHostPathVolumes": "true"}
"""What a user adds: where our image is, and that the share is a directory of the nodes."""


def secret_of(key: str) -> str:
    """A Secret for each key, which is what Weaviate's chart documents."""
    return f"s3-{key.lower().replace('_', '-')}"


def weaviate_values(lab: Surroundings) -> dict[str, Any]:
    """A whole file, as Weaviate's chart would configure the lab's Weaviate, and a share under the path for files."""
    s3, gcs, azure, files = (lab.stores[kind] for kind in ("s3", "gcs", "azure", "filesystem"))
    values: dict[str, Any] = yaml.safe_load(WHOLE_FILE)
    del values["serviceAccountName"]  # the lab's Weaviate has none
    return values | {
        "extraVolumeMounts": [{"name": "share", "mountPath": "/share"}],
        "extraVolumes": [{"name": "share", **files.location["filesystem"]["volume"]}],
        "backups": {
            "s3": {
                "enabled": True,
                "serviceAccountName": None,
                "envconfig": {
                    "BACKUP_S3_BUCKET": s3.root,
                    "BACKUP_S3_PATH": "from-values",
                    "BACKUP_S3_ENDPOINT": s3.location["s3"]["endpoint"],
                    "BACKUP_S3_USE_SSL": False,
                    "AWS_REGION": s3.location["s3"]["region"],
                },
                "secrets": {},
                "envSecrets": {key: secret_of(key) for key in s3.credentials},
            },
            "gcs": {
                "enabled": True,
                "envconfig": {
                    "BACKUP_GCS_BUCKET": gcs.root,
                    "BACKUP_GCS_PATH": "from-values",
                    "BACKUP_GCS_USE_AUTH": False,
                    "GOOGLE_CLOUD_PROJECT": gcs.location["gcs"]["project"],
                    "STORAGE_EMULATOR_HOST": gcs.location["gcs"]["endpoint"].removeprefix("http://"),
                },
                "secrets": {},
            },
            "azure": {
                "enabled": True,
                "envconfig": {"BACKUP_AZURE_CONTAINER": azure.root, "BACKUP_AZURE_PATH": "from-values"},
                "secrets": azure.credentials,
            },
            "filesystem": {"enabled": True, "envconfig": {"BACKUP_FILESYSTEM_PATH": "/share/from-values"}},
        },
    }


class Helm:
    """One line of helm, with the values as a file."""

    def __init__(self, line: str, lab: Surroundings, directory: Path) -> None:
        self._program, self._namespace = program(line), lab.namespace
        self._values = directory / "weaviate-values.yaml"
        self._values.write_text(yaml.safe_dump(weaviate_values(lab)))

    def install(self) -> str:
        """Installs or upgrades, and waits for the operator; what helm said, its notes included."""
        ours = [f"--set={name}={value}" for name, value in OURS.items()]
        command = ("upgrade", "--install", RELEASE, str(CHART), f"--values={self._values}", *ours)
        return self.run(*command, "--wait", "--timeout=60s")

    def run(self, *arguments: str) -> str:
        command: list[str | Path] = [self._program, *arguments, f"--namespace={self._namespace}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)


@pytest.fixture(params=HELMS)
def helm(request: pytest.FixtureRequest, lab: Surroundings, kubectl: Kubectl, tmp_path: Path) -> Iterator[Helm]:
    """Afterwards the cluster is as new: it does not even know our kinds."""
    for key, value in lab.stores["s3"].credentials.items():
        metadata = {"name": secret_of(key)}
        kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {key: value}})
    helm = Helm(request.param, lab, tmp_path)
    yield helm
    kubectl.run("delete", "weaviatebackuplocations", "--all", timeout_seconds=120)
    helm.run("uninstall", RELEASE, "--wait")
    for kind in ("weaviatebackups", "weaviaterestores", "weaviatebackuplocations"):
        kubectl.run("delete", "crd", f"{kind}.backup.weaviate.io")


def test_locations_of_every_kind_are_ready(helm: Helm, lab: Surroundings, kubectl: Kubectl) -> None:
    assert "are not made yet" in helm.install()
    assert "Locations of `backups`: s3, gcs, azure, filesystem, in weaviate" in helm.install()
    for kind in lab.stores:
        try:
            kubectl.wait("weaviatebackuplocation", kind, "condition=Ready", timeout_seconds=READY_SECONDS)
        except KubectlError as error:
            evidence = "\n".join(f"--- {title}\n{text}" for title, text in diagnosis(lab))
            raise AssertionError(f"{kind}: {error}\n{evidence}") from error
    addresses = {
        found["metadata"]["name"]: found["status"]["address"] for found in kubectl.items("weaviatebackuplocations")
    }
    assert addresses == {
        "s3": "s3://weaviate-backups/from-values",
        "gcs": "gs://weaviate-backups/from-values",
        "azure": "azure://weaviate-backups/from-values",
        "filesystem": "file://hostPath/from-values",
    }
