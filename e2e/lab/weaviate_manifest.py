"""Weaviate in the lab, as Kubernetes objects shaped as by the official chart, on local volumes."""

from pathlib import Path
from typing import Any

from e2e.lab.images import weaviate_image_name
from e2e.lab.plan import NAMESPACE, NODES, Plan
from e2e.lab.stores.store import Store

STATEFUL_SET = "weaviate"
_CLAIM = "weaviate-data"
_STORAGE_CLASS = "lab"
_CLUSTER_SECRET = "weaviate-cluster-api-basic-auth"
_LABELS = {"app": "weaviate", "app.kubernetes.io/name": "weaviate", "app.kubernetes.io/managed-by": "Helm"}


def claim_name(ordinal: int) -> str:
    return f"{_CLAIM}-{STATEFUL_SET}-{ordinal}"


def volume_directory(lab_directory: Path, ordinal: int) -> Path:
    """Where the data of a pod lies on this machine."""
    return lab_directory / "volumes" / claim_name(ordinal)


def weaviate_objects(plan: Plan, stores: list[Store]) -> list[dict[str, Any]]:
    """Everything of Weaviate. The namespace must be there."""
    objects: list[dict[str, Any]] = [_storage_class()]
    for ordinal in range(plan.replicas):
        directory = volume_directory(plan.directory, ordinal)
        directory.mkdir(parents=True, exist_ok=True)
        objects.append(_volume(directory, ordinal))
    objects.append(
        _secret(_CLUSTER_SECRET, {"username": "weaviate", "password": "lab-cluster-password"}, basic_auth=True)
    )
    objects += [
        _secret(f"backup-{store.kind}", store.credentials) for store in stores if store.credentials
    ]  # named as the chart does
    objects += [_service("weaviate", 80, 8080), _service("weaviate-grpc", 50051, 50051), _headless_service()]
    objects.append(_stateful_set(plan, stores))
    return objects


def _meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, **more}


def _storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": _STORAGE_CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _volume(directory: Path, ordinal: int) -> dict[str, Any]:
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODES[ordinal % len(NODES)]]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": claim_name(ordinal)},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": _STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": NAMESPACE, "name": claim_name(ordinal)},
            "local": {"path": str(directory)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
        },
    }


def _secret(name: str, content: dict[str, str], *, basic_auth: bool = False) -> dict[str, Any]:
    kind = "kubernetes.io/basic-auth" if basic_auth else "Opaque"
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _meta(name), "type": kind, "stringData": content}


def _service(name: str, port: int, target: int) -> dict[str, Any]:
    ports = [{"port": port, "targetPort": target, "name": "grpc" if "grpc" in name else "http"}]
    spec = {"type": "ClusterIP", "selector": {"app": "weaviate"}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(name, labels=_LABELS), "spec": spec}


def _headless_service() -> dict[str, Any]:
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"app": "weaviate"},
        "ports": [{"port": 80, "targetPort": 7000}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta("weaviate-headless", labels=_LABELS), "spec": spec}


def _stateful_set(plan: Plan, stores: list[Store]) -> dict[str, Any]:
    container = {
        "name": "weaviate",
        "image": weaviate_image_name(plan.weaviate_version),
        "imagePullPolicy": "Never",
        "args": ["--host", "0.0.0.0", "--port", "8080", "--scheme", "http", "--read-timeout=60s",
            "--write-timeout=60s"],
        "ports": [{"containerPort": 8080}, {"name": "grpc", "containerPort": 50051}],
        "env": _environment(plan, stores),
        "readinessProbe": {"httpGet": {"path": "/v1/.well-known/ready", "port": 8080}, "periodSeconds": 1},
        "livenessProbe": {
            "httpGet": {"path": "/v1/.well-known/live", "port": 8080}, "initialDelaySeconds": 900,
            "failureThreshold": 30,
        },
        "volumeMounts": [{"name": _CLAIM, "mountPath": "/var/lib/weaviate"}],
    }  # fmt: skip
    claim = {
        "metadata": {"name": _CLAIM, "labels": {name: _LABELS[name] for name in _LABELS if name != "app"}},
        "spec": {
            "storageClassName": _STORAGE_CLASS,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Gi"}},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _meta(STATEFUL_SET, labels={"name": "weaviate", **_LABELS}),
        "spec": {
            "replicas": plan.replicas,
            "podManagementPolicy": "Parallel",
            "serviceName": "weaviate-headless",
            "selector": {"matchLabels": {"app": "weaviate"}},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": _LABELS},
                "spec": {"terminationGracePeriodSeconds": 600, "containers": [container]},
            },
            "volumeClaimTemplates": [claim],
        },
    }


def _environment(plan: Plan, stores: list[Store]) -> list[dict[str, Any]]:
    """In the chart's manner; what the caller sets comes last and so wins."""
    voters = 1 if plan.replicas < 3 else 3 if plan.replicas < 10 else 5
    values = {
        "STANDALONE_MODE": "true",
        "PERSISTENCE_DATA_PATH": "/var/lib/weaviate",
        "DEFAULT_VECTORIZER_MODULE": "none",
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true",
        "DISABLE_TELEMETRY": "true",
        "CLUSTER_GOSSIP_BIND_PORT": "7000",
        "CLUSTER_DATA_BIND_PORT": "7001",
        "CLUSTER_JOIN": f"weaviate-headless.{NAMESPACE}.svc.cluster.local.",
        "RAFT_JOIN": ",".join(f"{STATEFUL_SET}-{ordinal}" for ordinal in range(voters)),
        "RAFT_BOOTSTRAP_EXPECT": str(voters),
        "RAFT_BOOTSTRAP_TIMEOUT": "600",
    }
    for store in stores:
        values |= store.weaviate_environment
    values["ENABLE_MODULES"] = ",".join(f"backup-{store.kind}" for store in stores)
    entries: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in values.items() if value]
    for variable, key in (("CLUSTER_BASIC_AUTH_USERNAME", "username"), ("CLUSTER_BASIC_AUTH_PASSWORD", "password")):
        entries.append({"name": variable, "valueFrom": {"secretKeyRef": {"name": _CLUSTER_SECRET, "key": key}}})
    for store in stores:
        for key in store.credentials:
            reference = {"secretKeyRef": {"name": f"backup-{store.kind}", "key": key}}
            entries.append({"name": key, "valueFrom": reference})
    overridden = [entry for entry in entries if entry["name"] not in plan.weaviate_environment]
    return overridden + [{"name": name, "value": value} for name, value in plan.weaviate_environment.items()]
