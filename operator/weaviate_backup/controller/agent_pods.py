"""Builds an operation's Pods as plain manifests. Pure; deterministic names make every creation idempotent.

An agent runs where its Weaviate pod runs, as the same user, on the same volume at the same path, with nothing more: no
API token, no capabilities, a read-only root. It never carries `app: weaviate`, or it would become Weaviate's endpoint.
"""

from dataclasses import dataclass
from typing import Any

from weaviate_backup.api.location import CREDENTIAL_KEYS, LocationSpec, SecretKeyReference
from weaviate_backup.api.model import dump
from weaviate_backup.api.names import API_VERSION
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.core.environment import SecretKey
from weaviate_backup.core.orders import PROBING_WORKERS, STORE_WORKER
from weaviate_backup.core.secret_purpose import check_customer_key
from weaviate_backup.core.session import (
    AGENT_PORT,
    CA_MOUNT,
    CLUSTER_MOUNT,
    CREDENTIALS_MOUNT,
    FILESYSTEM_MOUNT,
    SIGNING_MOUNT,
    TLS_MOUNT,
)
from weaviate_backup.core.topology import ClusterAuth, NodeView
from weaviate_backup.errors import Permanent

Json = dict[str, Any]
MANAGED_BY = {"app.kubernetes.io/managed-by": "weaviate-backup-operator"}
STORE_WORKER_UID = 65532
"""Of a worker that touches no one's data."""
DEFAULT_RESOURCES: Json = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}


@dataclass(frozen=True)
class Owner:
    """The object that an operation's things belong to, and die with."""

    kind: str
    name: str
    namespace: str
    uid: str

    @property
    def short(self) -> str:
        """Half of the uid: a pod's name stays readable, and no two operations share it."""
        return self.uid.replace("-", "")[:16]

    @property
    def labels(self) -> dict[str, str]:
        return {
            "app.kubernetes.io/name": "weaviate-backup-agent",
            "app.kubernetes.io/component": "agent",
            "app.kubernetes.io/instance": self.uid,
            **MANAGED_BY,
        }

    @property
    def secret_name(self) -> str:
        return f"wvb-{self.uid}"

    @property
    def client_secret_name(self) -> str:
        return f"wvb-client-{self.uid}"

    def made(self, body: Json) -> bool:
        """Whether the object shows that it was made for this owner. Others may carry some of its marks: without all of
        our labels the chart's policy lets us delete nothing, and without the owner it goes with nobody."""
        metadata = body["metadata"]
        owners = metadata.get("ownerReferences") or ()
        is_owned = any(each.get("uid") == self.uid and each.get("controller") for each in owners)
        return is_owned and self.labels.items() <= (metadata.get("labels") or {}).items()


@dataclass(frozen=True)
class AgentImage:
    """What the installer says of all agents."""

    name: str
    pull_policy: str
    trusted_store_hosts: str = ""


def pod_name(owner: Owner, node: str, nodes: tuple[str, ...]) -> str:
    """`wvb-<uid>-<position>`; a store worker is `wvb-<uid>-store-0`."""
    return f"wvb-{owner.short}-{node[1:] if node in PROBING_WORKERS else nodes.index(node)}"


def in_the_way(owner: Owner, name: str) -> Permanent:
    return Permanent(
        "PodInTheWay",
        f"pod {name} in namespace {owner.namespace} is not the one that this operator makes for "
        f"{owner.kind} {owner.name}; delete it",
    )


def leaf_keys(node: str) -> tuple[str, str]:
    """Under which an agent's certificate and key lie in the operation's Secret; a node may be called `ca`."""
    return f"agent-{node}.crt", f"agent-{node}.key"


def agent_pod(
    owner: Owner,
    *,
    node: NodeView,
    name: str,
    data_path: str,
    cluster_auth: ClusterAuth | None,
    location: LocationSpec,
    options: AgentOptions,
    image: AgentImage,
    lease_seconds: int,
    deadline_seconds: int,
    signing: SecretKeyReference | None = None,
) -> Json:
    """The pod beside one Weaviate pod. `signing`: of the one that completes a signed backup."""
    pod = _pod(
        owner,
        node_name=node.name,
        name=name,
        data_path=data_path,
        location=location,
        options=options,
        image=image,
        lease_seconds=lease_seconds,
        deadline_seconds=deadline_seconds,
    )
    spec = pod["spec"]
    security, volume = node.security, node.volume
    assert volume is not None
    spec["securityContext"] = _without_none(
        {
            "runAsUser": security.run_as_user or 0,
            "runAsGroup": security.run_as_group,
            "fsGroup": security.fs_group,
            "fsGroupChangePolicy": "OnRootMismatch" if security.fs_group is not None else None,
            "supplementalGroups": list(security.supplemental_groups) or None,
            "seLinuxOptions": dict(security.se_linux_options) if security.se_linux_options else None,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    )
    spec["affinity"] = _beside(node.kubernetes_node)
    spec["tolerations"] = [dict(toleration) for toleration in node.tolerations]
    secrets = dict.fromkeys((*(ref.name for ref in options.image_pull_secrets), *node.image_pull_secrets))
    spec["imagePullSecrets"] = [{"name": secret} for secret in secrets]
    priority = options.priority_class_name or node.priority_class
    if priority and not priority.startswith("system-"):
        spec["priorityClassName"] = priority
    mount: Json = {"name": "data", "mountPath": volume.mount_path}
    if volume.sub_path:
        mount["subPath"] = volume.sub_path
    spec["volumes"].append({"name": "data", **volume.source})
    spec["containers"][0]["volumeMounts"].append(mount)
    if cluster_auth is not None:
        spec["volumes"].append({"name": "cluster", "projected": {"sources": _cluster_sources(owner, cluster_auth)}})
        spec["containers"][0]["volumeMounts"].append(_mounted("cluster", CLUSTER_MOUNT))
    _give_signing_key(spec, signing)
    return pod


def store_worker_pod(
    owner: Owner,
    *,
    name: str,
    location: LocationSpec,
    options: AgentOptions,
    image: AgentImage,
    lease_seconds: int,
    deadline_seconds: int,
    worker: str = STORE_WORKER,
    signing: SecretKeyReference | None = None,
) -> Json:
    """A pod that works on the store only. A filesystem store is written as root, like most of its other writers.

    Several of one owner lie on different nodes where that is possible.
    """
    pod = _pod(
        owner,
        node_name=worker,
        name=name,
        data_path="",
        location=location,
        options=options,
        image=image,
        lease_seconds=lease_seconds,
        deadline_seconds=deadline_seconds,
    )
    user = 0 if location.filesystem else STORE_WORKER_UID
    pod["spec"]["securityContext"] = {"runAsUser": user, "seccompProfile": {"type": "RuntimeDefault"}}
    if user:
        pod["spec"]["securityContext"]["runAsNonRoot"] = True
    pod["spec"]["imagePullSecrets"] = [{"name": ref.name} for ref in options.image_pull_secrets]
    pod["spec"]["affinity"] = _apart(owner)
    _give_signing_key(pod["spec"], signing)
    return pod


def _give_signing_key(spec: Json, signing: SecretKeyReference | None) -> None:
    """A key that is not there does not keep the pod from starting: its agent says so."""
    if signing is None:
        return
    items = [{"key": signing.key, "path": "key"}]
    spec["volumes"].append(
        {"name": "signing", "secret": {"secretName": signing.name, "items": items, "optional": True}}
    )
    spec["containers"][0]["volumeMounts"].append(_mounted("signing", SIGNING_MOUNT))


def _pod(
    owner: Owner,
    *,
    node_name: str,
    name: str,
    data_path: str,
    location: LocationSpec,
    options: AgentOptions,
    image: AgentImage,
    lease_seconds: int,
    deadline_seconds: int,
) -> Json:
    environment = {
        "WVB_OPERATION_UID": owner.uid,
        "WVB_NODE": node_name,
        "WVB_PORT": str(AGENT_PORT),
        "WVB_DATA_PATH": data_path,
        "WVB_LEASE_SECONDS": str(lease_seconds),
        "WVB_TRUSTED_STORE_HOSTS": image.trusted_store_hosts,
    }
    volumes, mounts = _volumes(owner, node_name, location)
    resources = dump(options.resources) if options.resources else DEFAULT_RESOURCES
    container: Json = {
        "name": "agent",
        "image": image.name,
        "imagePullPolicy": image.pull_policy,
        "args": ["agent"],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
        "resources": resources,
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec: Json = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": deadline_seconds,
        "terminationGracePeriodSeconds": 10,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": volumes,
    }
    if location.service_account_name:
        spec["serviceAccountName"] = location.service_account_name
    if options.node_selector:
        spec["nodeSelector"] = dict(options.node_selector)
    metadata = metadata_of(owner, name)
    metadata["annotations"] = {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "linkerd.io/inject": "disabled",
    }
    metadata["labels"] = {**owner.labels, "sidecar.istio.io/inject": "false"}
    if location.azure and location.service_account_name:  # Azure's webhook gives a token to pods that ask for one
        metadata["labels"]["azure.workload.identity/use"] = "true"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _volumes(owner: Owner, node_name: str, location: LocationSpec) -> tuple[list[Json], list[Json]]:
    paths = {"ca.crt": "ca.crt", **dict(zip(leaf_keys(node_name), ("tls.crt", "tls.key"), strict=True))}
    items = [{"key": key, "path": path} for key, path in paths.items()]
    volumes: list[Json] = [
        {"name": "tls", "secret": {"secretName": owner.secret_name, "items": items}},
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts = [_mounted("tls", TLS_MOUNT), {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 (in the pod)
    if credentials := _credential_sources(location):
        volumes.append({"name": "credentials", "projected": {"sources": credentials}})
        mounts.append(_mounted("credentials", CREDENTIALS_MOUNT))
    if authority := location.authority:
        item = {"key": authority.key, "path": "ca.crt"}
        source = {"secretName": authority.name, "items": [item], "optional": True}
        volumes.append({"name": "ca", "secret": source})
        mounts.append(_mounted("ca", CA_MOUNT))
    if location.filesystem:
        volumes.append({"name": "store", **location.filesystem.volume.source})
        mounts.append({"name": "store", "mountPath": FILESYSTEM_MOUNT})
    return volumes, mounts


def _credential_sources(location: LocationSpec) -> list[Json]:
    """Secrets of the store, side by side in one directory, as the store takes them, and nothing else of them. A key
    that is not there does not keep the pod from starting: its agent says so, the kubelet would only wait."""
    keys = CREDENTIAL_KEYS.get(location.kind, ())
    apart = {each.key: each.name for each in location.credential_keys if each.key in keys}
    others = [key for key in keys if key not in apart]  # the API server takes no file from two Secrets
    sources = [_key_source(location.credentials_secret, *others)] if location.credentials_secret and others else []
    sources += [_key_source(name, key) for key, name in apart.items()]
    if key := location.customer_key:
        check_customer_key(key)
        sources.append(_key_source(key.name, key.key))
    return sources


def _key_source(secret: str, *keys: str) -> Json:
    return {"secret": {"name": secret, "items": [{"key": key, "path": key} for key in keys], "optional": True}}


def _cluster_sources(owner: Owner, auth: ClusterAuth) -> list[Json]:
    sources = []
    for path, value in (("username", auth.username), ("password", auth.password)):
        secret, key = (
            (value.secret, value.key)
            if isinstance(value, SecretKey)
            else (
                owner.secret_name,
                f"cluster.{path}",
            )
        )
        sources.append({"secret": {"name": secret, "items": [{"key": key, "path": path}]}})
    return sources


def _beside(kubernetes_node: str) -> Json:
    """The scheduler still checks room, volumes and taints, which `nodeName` would skip."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [kubernetes_node]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def _apart(owner: Owner) -> Json:
    selector = {"matchLabels": {"app.kubernetes.io/instance": owner.uid}}
    term = {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}
    preferred = {"weight": 100, "podAffinityTerm": term}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}}


def metadata_of(owner: Owner, name: str) -> Json:
    """Of what lies beside the owner and goes with it."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": owner.labels,
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def _mounted(name: str, path: str) -> Json:
    return {"name": name, "mountPath": path, "readOnly": True}


def _without_none(values: Json) -> Json:
    return {key: value for key, value in values.items() if value is not None}
