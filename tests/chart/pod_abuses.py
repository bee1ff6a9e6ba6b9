"""What a stolen account may want of a pod that begins as one of our agents: each a change of it, to be refused."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tests.chart.rendering import Json

from weaviate_backup.controller.agent_pods import MANAGED_BY

Change = Callable[[Json], Any]


def changed(body: Json, change: Change) -> Json:
    body = deepcopy(body)
    change(body)
    return body


def privileged(pod: Json) -> None:
    pod["spec"]["containers"][0]["securityContext"] |= {"privileged": True, "allowPrivilegeEscalation": True}


def container(**fields: Any) -> Change:
    return lambda pod: pod["spec"]["containers"][0].update(fields)


def spec(**fields: Any) -> Change:
    return lambda pod: pod["spec"].update(fields)


def metadata(**fields: Any) -> Change:
    return lambda body: body["metadata"].update(fields)


def security(**fields: Any) -> Change:
    return lambda pod: pod["spec"]["containers"][0]["securityContext"].update(fields)


def volume(**source: Any) -> Change:
    return lambda pod: pod["spec"]["volumes"].append({"name": "more", **source})


def variable(name: str, **fields: Any) -> Change:
    return lambda pod: pod["spec"]["containers"][0]["env"].append({"name": name, **fields})


def mount(path: str) -> Change:
    return lambda pod: pod["spec"]["containers"][0]["volumeMounts"].append({"name": "tmp", "mountPath": path})


SIDECAR = {"name": "sidecar", "image": "weaviate-backup-operator:0.1.0", "args": ["agent"]}
RUN = {"exec": {"command": ["sh"]}}
TOKEN = {"serviceAccountToken": {"path": "token"}}
FOR_VAULT = {"serviceAccountToken": {"path": "token", "audience": "vault"}}
SCRATCH = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
REPLICA_SET = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}
PODS: dict[str, Change] = {
    "another image": container(image="busybox"),
    "an image that begins alike": container(image="weaviate-backup-operator-x:1"),
    "an image of a host that is called so": container(image="weaviate-backup-operator:5000/evil/image:1"),
    "an image below ours": container(image="weaviate-backup-operator/evil:1"),
    "names of hosts": spec(hostAliases=[{"ip": "10.0.0.9", "hostnames": ["s3.amazonaws.com"]}]),
    "a resolver": spec(dnsPolicy="None", dnsConfig={"nameservers": ["10.0.0.9"]}),
    "a command": container(command=["/bin/sh", "-c", "id"]),
    "other arguments": container(args=["operator"]),
    "no arguments": lambda pod: pod["spec"]["containers"][0].pop("args"),
    "another directory": container(workingDir="/tmp"),
    "a hook": container(lifecycle={"postStart": RUN}),
    "a probe": container(livenessProbe=RUN),
    "another probe": container(startupProbe=RUN),
    "a sidecar": lambda pod: pod["spec"]["containers"].append(SIDECAR),
    "a first container": spec(initContainers=[SIDECAR]),
    "Python's path": variable("PYTHONPATH", value="/tmp"),
    "a library": variable("LD_PRELOAD", value="/tmp/x.so"),
    "a profile that runs a program": variable("AWS_CONFIG_FILE", value="/tmp/aws"),
    "a variable of a Secret": variable("WVB_X", valueFrom={"secretKeyRef": {"name": "s", "key": "k"}}),
    "all variables of a Secret": container(envFrom=[{"secretRef": {"name": "s"}}]),
    "an API token": spec(automountServiceAccountToken=True),
    "an API token by default": lambda pod: pod["spec"].pop("automountServiceAccountToken"),
    "a projected API token": volume(projected={"sources": [TOKEN]}),
    "a token for somebody else": volume(projected={"sources": [FOR_VAULT]}),
    "the node's network": spec(hostNetwork=True),
    "the node's processes": spec(hostPID=True),
    "the node's memory": spec(hostIPC=True),
    "a port of the node": container(ports=[{"containerPort": 1, "hostPort": 1}]),
    "a node past the scheduler": spec(nodeName="control-plane"),
    "a system's priority": spec(priorityClassName="system-node-critical"),
    "privilege": privileged,
    "escalation": security(allowPrivilegeEscalation=True),
    "a capability": security(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
    "all capabilities": security(capabilities={}),
    "a root to write": security(readOnlyRootFilesystem=False),
    "another user in the container": security(runAsUser=0),
    "no seccomp": security(seccompProfile={"type": "Unconfined"}),
    "no seccomp in the pod": lambda pod: pod["spec"]["securityContext"].pop("seccompProfile"),
    "the node's disk": volume(hostPath={"path": "/"}),
    "a ConfigMap": volume(configMap={"name": "c"}),
    "a volume without an end": volume(ephemeral={"volumeClaimTemplate": {"spec": SCRATCH}}),
    "over the program": mount("/usr/local/lib/python3.11/dist-packages/weaviate_backup"),
    "over the root": mount("/"),
    "over the interpreter's settings": mount("/etc/python3.11"),
    "beside the program": mount("/root/.local"),
    "beside the program of nobody": mount("/.local"),
    "around a corner": mount("/var/../usr/lib"),
    "around a corner of ours": mount("/etc/weaviate-backup/../../usr/local/lib/python3.11/dist-packages"),
    "around a corner to programs": mount("/etc/weaviate-backup/../../usr/local/bin"),
    "no label": metadata(labels={}),
    "another's label": metadata(labels={**MANAGED_BY, "app.kubernetes.io/name": "weaviate"}),
    "no owner": metadata(ownerReferences=[]),
    "another owner": metadata(ownerReferences=[REPLICA_SET]),
    "no end": lambda pod: pod["spec"].pop("activeDeadlineSeconds"),
}  # fmt: skip
