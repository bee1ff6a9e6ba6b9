"""Many objects of the largest size that our definitions allow, at the operator's start and while it runs."""

import os
import time
from pathlib import Path

import pytest
from tests.api.objects import Json, manifest
from tests.api_server import ApiServer
from tests.hostile.operator_process import OperatorProcess, running_operator

from weaviate_backup.api.crd import definitions

pytestmark = pytest.mark.kubernetes
EACH = int(os.environ.get("WVB_TEST_OBJECTS", "30"))
"""Of each kind, once before the operator starts and once after."""
LIMIT_MIB = 512
"""The chart's."""
PATIENCE_SECONDS = 300.0

_LABELS = {f"{'a' * 240}/{'b' * 60}{number:02}": "c" * 63 for number in range(32)}
_RESOURCES = {f"{'a' * 240}/{'b' * 60}{number:02}": "1" for number in range(16)}
_OPERATION: Json = {
    "include": ["C" * 255] * 128,
    "agent": {
        "nodeSelector": _LABELS,
        "resources": {"requests": _RESOURCES, "limits": _RESOURCES},
        "imagePullSecrets": [{"name": f"{'a' * 250}{number:02}"} for number in range(16)],
    },
}
_METADATA = {f"{'a' * 126}{number:02}": "x" * 1024 for number in range(32)}
LARGEST: dict[str, Json] = {
    "WeaviateBackup": {**_OPERATION, "locationRef": {"name": "absent"}},
    "WeaviateRestore": {**_OPERATION, "source": {"backupRef": {"name": "absent"}}},
    "WeaviateBackupLocation": {
        "s3": {"bucket": "backups", "credentialsSecretRef": {"name": "absent"}, "metadata": _METADATA}
    },
}
ANNOTATIONS = {"note": "x" * 65_000}


def test_many_large_objects_fit_into_the_memory_of_the_chart(tmp_path: Path) -> None:
    with ApiServer(tmp_path / "kubernetes") as server:
        for namespace in ("many", "operator"):
            server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        server.install_crds(list(definitions().values()))
        fill(server, "before")
        with running_operator(server, tmp_path, namespace="operator") as operator:
            settled(server, operator, EACH)
            listed = operator.peak_mib
            fill(server, "after")
            settled(server, operator, 2 * EACH)
            print(f"{EACH} of each kind: {listed} MiB, as many more: {operator.peak_mib} MiB")
            assert operator.peak_mib < LIMIT_MIB / 2


def fill(server: ApiServer, name: str) -> None:
    for kind, spec in LARGEST.items():
        for number in range(EACH):
            body = manifest(kind, spec, name=f"{name}-{number}", namespace="many")
            body["metadata"]["annotations"] = ANNOTATIONS
            code, answer = server.request("POST", server.path_of(body, collection=True), body)
            assert code == 201, answer


def settled(server: ApiServer, operator: OperatorProcess, count: int) -> None:
    """All operations have ended, and all locations were judged."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert operator.alive, operator.log.read_text()[-4000:]
        found: list[Json] = []
        for kind in LARGEST:
            path = server.path_of(manifest(kind, {}, namespace="many"), collection=True)
            found += server.request("GET", path)[1]["items"]
        states = [body.get("status") or {} for body in found]
        done = [state for state in states if state.get("phase") == "Failed" or "lastProbeTime" in state]
        if len(done) == 3 * count:
            return
        assert time.monotonic() < deadline, f"{len(done)} of {3 * count}; {operator.log.read_text()[-2000:]}"
        time.sleep(2)
