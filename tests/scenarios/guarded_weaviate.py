"""A second Weaviate beside the lab's: guarded in every way, and with nothing where a chart would put it.

One node, `vectors-0`, whose ports, data path, volume kind and Secrets are all others than usual. It is spoken to with
an API key, by a client that is apart from the product's own.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from e2e.cluster.kubectl import Kubectl

NAME = "vectors"
REST_PORT = 9080
SECRET = "vectors-secrets"
ROOT_KEY, WEAK_KEY = "vectors-root-0123456789", "vectors-weak-0123456789"
CLUSTER_PASSWORD = "vectors-cluster-0123456789"
READY_SECONDS = 90
_CONTENT = {
    "api-keys": f"{ROOT_KEY},{WEAK_KEY}",
    "root-key": ROOT_KEY,
    "weak-key": WEAK_KEY,
    "wrong-key": "vectors-wrong-0123456789",
    "user": "vectors-cluster-user",
    "secret": CLUSTER_PASSWORD,
}
_FROM_SECRET = {
    "AUTHENTICATION_APIKEY_ALLOWED_KEYS": "api-keys",
    "CLUSTER_BASIC_AUTH_USERNAME": "user",
    "CLUSTER_BASIC_AUTH_PASSWORD": "secret",
}
_ENVIRONMENT = {
    "PERSISTENCE_DATA_PATH": "/srv/data/vectors",
    "CLUSTER_GOSSIP_BIND_PORT": "7200",
    "CLUSTER_DATA_BIND_PORT": "7333",
    "RAFT_PORT": "8400",
    "RAFT_INTERNAL_RPC_PORT": "8444",
    "RAFT_JOIN": "vectors-0:8400",
    "RAFT_BOOTSTRAP_EXPECT": "1",
    "DEFAULT_VECTORIZER_MODULE": "none",
    "DISABLE_TELEMETRY": "true",
    "ENABLE_MODULES": "backup-s3",
    "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
    "AUTHENTICATION_APIKEY_ENABLED": "true",
    "AUTHENTICATION_APIKEY_USERS": "root,weak",
    "AUTHENTICATION_DB_USERS_ENABLED": "true",
    "AUTHORIZATION_RBAC_ENABLED": "true",
    "AUTHORIZATION_RBAC_ROOT_USERS": "root",
}
_OF_MODULE = ("BACKUP_S3_", "AWS_")


class Refused(Exception):
    """An answer that was not the wanted one."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


@dataclass
class GuardedWeaviate:
    """The StatefulSet `vectors`; its data lies in a folder of the lab."""

    kubectl: Kubectl
    directory: Path
    url: str = ""

    def start(self) -> None:
        """A fresh one, with nothing in it, answering."""
        self.directory.mkdir(parents=True)
        metadata = {"name": SECRET, "labels": {"backup.weaviate.io/api-key": "true"}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": _CONTENT}
        self.kubectl.apply(secret, self._stateful_set())
        self.kubectl.run(
            "rollout", "status", f"statefulset/{NAME}", f"--timeout={READY_SECONDS}s", timeout_seconds=READY_SECONDS + 5
        )
        pod = self.kubectl.get("pod", f"{NAME}-0")
        assert pod is not None
        self.url = f"http://{pod['status']['podIP']}:{REST_PORT}"
        deadline = time.monotonic() + READY_SECONDS
        while not self.call("GET", "/v1/cluster/statistics").get("synchronized"):
            assert time.monotonic() < deadline, "it does not synchronize"
            time.sleep(0.5)

    def destroy(self) -> None:
        """The StatefulSet and all of its data."""
        self.kubectl.delete("statefulset", NAME)
        self.kubectl.run(
            "wait", f"pod/{NAME}-0", "--for=delete", f"--timeout={READY_SECONDS}s", timeout_seconds=READY_SECONDS + 5
        )
        shutil.rmtree(self.directory, ignore_errors=True)

    def remove(self) -> None:
        self.destroy()
        self.kubectl.delete("secret", SECRET)

    def call(self, method: str, path: str, body: Any = None, *, key: str = ROOT_KEY) -> Any:
        """As the key's owner."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        payload = None if body is None else json.dumps(body).encode()
        with urllib3.PoolManager(timeout=60, retries=False) as pool:
            answer = pool.request(method, self.url + path, body=payload, headers=headers)
        if answer.status >= 300:
            raise Refused(answer.status, answer.data.decode(errors="replace"))
        return json.loads(answer.data) if answer.data else {}

    def _stateful_set(self) -> Mapping[str, Any]:
        """With the image of the lab's and its module for S3, which reads the same Secret."""
        other = self.kubectl.get("statefulset", "weaviate")
        assert other is not None
        pattern = other["spec"]["template"]["spec"]["containers"][0]
        module = [each for each in pattern["env"] if each["name"].startswith(_OF_MODULE)]
        reference = [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}}
            for name, key in _FROM_SECRET.items()
        ]
        container = {
            "name": "db",
            "image": pattern["image"],
            "imagePullPolicy": "Never",
            "args": ["--host=0.0.0.0", f"--port={REST_PORT}", "--scheme=http"],
            "env": [{"name": name, "value": value} for name, value in _ENVIRONMENT.items()] + reference + module,
            "readinessProbe": {"httpGet": {"path": "/v1/.well-known/ready", "port": REST_PORT}, "periodSeconds": 1},
            "volumeMounts": [{"name": "disk", "mountPath": "/srv/data"}],
        }
        labels = {"app": NAME}
        volume = {"name": "disk", "hostPath": {"path": str(self.directory), "type": "Directory"}}
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": NAME},
            "spec": {
                "replicas": 1,
                "serviceName": NAME,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"terminationGracePeriodSeconds": 10, "containers": [container], "volumes": [volume]},
                },
            },
        }
