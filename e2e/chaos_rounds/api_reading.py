"""Reads single objects from the API server over one connection: often, and without a process for every look."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import urllib3
import yaml
from e2e.cluster.kubectl import KubectlError
from e2e.cluster.manifests import API_VERSION

ANSWER_SECONDS = 5


def read_operation(namespace: str, kind: str, name: str) -> Any | None:
    """A WeaviateBackup or WeaviateRestore, None when there is none. KubectlError or HTTPError without an answer."""
    pool, server, token = _connection()
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/{kind}s/{name}"
    answer = pool.request("GET", server + path, headers={"Authorization": f"Bearer {token}"})
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise KubectlError(f"{path}: {answer.status} {answer.data[:200]!r}")
    return json.loads(answer.data)


@cache
def _connection() -> tuple[urllib3.PoolManager, str, str]:
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    timeout = urllib3.Timeout(ANSWER_SECONDS)
    pool = urllib3.PoolManager(ca_certs=cluster["certificate-authority"], timeout=timeout, retries=False)
    return pool, cluster["server"], user["token"]
