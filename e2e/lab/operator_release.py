"""Our operator in the lab: the chart with the image of this checkout, and a location for every store."""

import subprocess
from pathlib import Path
from typing import Any

from e2e.lab.control_plane import ControlPlane
from e2e.lab.images import OPERATOR_REPOSITORY, OPERATOR_TAG
from e2e.lab.plan import NAMESPACE, OPERATOR_NAMESPACE
from e2e.lab.programs import program
from e2e.lab.stores.store import Store

RELEASE = "weaviate-backup-operator"


def install_operator(chart: Path, control_plane: ControlPlane) -> None:
    """Installs the chart and waits until the operator is ready."""
    command: list[str | Path] = [
        program("helm"), "upgrade", "--install", RELEASE, chart, f"--kubeconfig={control_plane.kubeconfig}",
        f"--namespace={OPERATOR_NAMESPACE}", "--create-namespace", "--wait", "--timeout=60s",
        f"--set=operator.image.repository={OPERATOR_REPOSITORY}", f"--set=operator.image.tag={OPERATOR_TAG}",
        "--set=operator.image.pullPolicy=Never", "--set=operator.allowHostPathVolumes=true",  # its store of files
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pods = control_plane.kubectl("get", "pods,events", f"--namespace={OPERATOR_NAMESPACE}")
        logs = control_plane.kubectl(
            "logs", f"--namespace={OPERATOR_NAMESPACE}", "--all-pods", "--tail=40", f"deployment/{RELEASE}"
        )
        raise RuntimeError(f"helm could not install {chart}: {done.stderr.strip()}\n{pods}\n{logs}")


def location_objects(store: Store) -> list[dict[str, Any]]:
    """The location of a store, named after it, and its Secret."""
    metadata = {"name": store.kind, "namespace": NAMESPACE}
    objects: list[dict[str, Any]] = []
    if store.credentials:
        objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": store.credentials})
    location = {"apiVersion": "backup.weaviate.io/v1alpha1", "kind": "WeaviateBackupLocation"}
    return [*objects, location | {"metadata": metadata, "spec": store.location}]
