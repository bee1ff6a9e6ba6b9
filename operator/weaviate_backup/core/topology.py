"""What a Weaviate cluster looks like to an agent: read from its StatefulSet, its pods and its claims.

Everything is taken from the live objects, never from the names a chart happens to use, so that every chart version and
hand-written manifests work. Anything that cannot work is refused here, by name, before a pod is made.
Pure: objects come in as the API server's JSON, `ClusterView` goes out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from weaviate_backup.api.patterns import WORD, fits
from weaviate_backup.core.environment import (
    SecretKey,
    Sources,
    argument_of,
    number_of,
    read_environment,
    text_of,
    weaviate_container,
)
from weaviate_backup.core.pod_addresses import pod_address, port_of, scheme_of
from weaviate_backup.core.session import READ_ONLY_PERCENTAGE, WeaviateEndpoint
from weaviate_backup.errors import InvalidInput, Permanent, Transient, excerpt
from weaviate_backup.layout.json_bounds import memory_of

Json = Mapping[str, Any]
DEFAULT_DATA_PATH = "/var/lib/weaviate"
ANONYMOUS = "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED"
MOST_REPLICAS = 256
"""Every one is looked for by its name, and asked; Weaviate's clusters are of some tens."""
MAX_NODE_NAME = 63
MOST_VIEW_BYTES = 1 << 20
"""Of what agents take over from pods (volumes, tolerations, pull secrets), as it lies in memory: 256 pods of 4 KiB."""


@dataclass(frozen=True)
class ClusterAuth:
    """Basic authentication of Weaviate's data port, as Secret keys or as the literal values in the manifest."""

    username: SecretKey | str
    password: SecretKey | str


@dataclass(frozen=True)
class PodSecurity:
    """Who may read the data: the agent runs as exactly this."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    fs_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    se_linux_options: Json | None = None


@dataclass(frozen=True)
class DataVolume:
    """The pod's volume that holds the data, as a volume source, and where Weaviate mounts it."""

    source: Json
    mount_path: str
    sub_path: str | None = None


@dataclass(frozen=True)
class NodeView:
    """One Weaviate node: its pod, and where that runs. `obstacle`: why no agent can share its volume, which is None."""

    name: str
    ordinal: int
    pod_name: str
    pod_uid: str
    address: str
    kubernetes_node: str
    ready: bool
    restarts: int
    volume: DataVolume | None
    obstacle: Permanent | None
    security: PodSecurity
    tolerations: tuple[Json, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    priority_class: str | None = None


@dataclass(frozen=True)
class Ports:
    rest: int = 8080
    data: int = 7001
    raft: int = 8301


@dataclass(frozen=True)
class Settings:
    """What all pods of a cluster have in common."""

    ports: Ports
    scheme: str
    data_path: str
    read_only_percentage: int
    cluster_auth: ClusterAuth | None
    api_key: SecretKey | None
    anonymous: bool


@dataclass(frozen=True)
class ClusterView:
    """A StatefulSet of Weaviate as the Kubernetes API shows it. `absent` are ordinals without a usable pod."""

    namespace: str
    stateful_set: str
    uid: str
    replicas: int
    nodes: tuple[NodeView, ...]
    absent: tuple[str, ...]
    settings: Settings
    mounts: tuple[DataVolume, ...] = ()
    """Every volume that the first pod's container mounts."""

    @property
    def ports(self) -> Ports:
        return self.settings.ports

    @property
    def scheme(self) -> str:
        return self.settings.scheme

    @property
    def data_path(self) -> str:
        return self.settings.data_path

    @property
    def cluster_auth(self) -> ClusterAuth | None:
        return self.settings.cluster_auth

    @property
    def api_key(self) -> SecretKey | None:
        return self.settings.api_key

    @property
    def anonymous(self) -> bool:
        return self.settings.anonymous

    def node(self, name: str) -> NodeView | None:
        return next((node for node in self.nodes if node.name == name), None)

    def check_agents(self) -> None:
        """Raise what keeps agents from running beside Weaviate; method Server needs none."""
        for node in self.nodes:
            if node.obstacle is not None:
                raise node.obstacle

    def endpoint(self, name: str) -> WeaviateEndpoint | None:
        node = self.node(name)
        if node is None:
            return None
        return WeaviateEndpoint(
            host=node.address,
            rest_port=self.ports.rest,
            data_port=self.ports.data,
            raft_port=self.ports.raft,
            data_path=self.data_path,
            read_only_percentage=self.settings.read_only_percentage,
        )


def view_cluster(
    *,
    namespace: str,
    stateful_set: Json,
    pods: Sequence[Json],
    claims: Mapping[str, Json],
    sources: Sources,
) -> ClusterView:
    """The view, by the running pods; raises `Permanent` for what can never work and `Transient` for what may pass.

    `namespace`: the one that was looked into, whatever an object says of itself.
    """
    metadata = stateful_set["metadata"]
    replicas = int(stateful_set["spec"].get("replicas", 1))
    if replicas == 0:
        raise Transient("TargetScaledDown", f"StatefulSet {metadata['name']} has no replicas; scale it up")
    if replicas > MOST_REPLICAS:
        raise Permanent(
            "TooManyReplicas",
            f"StatefulSet {metadata['name']} has {replicas} replicas; at most {MOST_REPLICAS} are read",
        )
    start = int((stateful_set["spec"].get("ordinals") or {}).get("start", 0))
    by_name = {pod["metadata"]["name"]: pod for pod in owned_pods(stateful_set, pods)}
    names = {f"{metadata['name']}-{ordinal}": ordinal for ordinal in range(start, start + replicas)}
    placed = {name: by_name[name] for name in names if name in by_name and _placed(by_name[name])}
    specs = [pod["spec"] for pod in placed.values()] or [stateful_set["spec"]["template"]["spec"]]
    settings = _common({_settings(weaviate_container(spec), sources) for spec in specs}, metadata["name"])
    nodes = [
        _view_node(pod, ordinal=names[name], data_path=settings.data_path, claims=claims, sources=sources)
        for name, pod in placed.items()
    ]
    node_names = sorted(node.name for node in nodes)
    if len(set(node_names)) != len(node_names):
        raise Permanent("NodeNamesNotUnique", f"CLUSTER_HOSTNAME gives several pods one node name: {node_names}")
    mounts = _mounts(next(iter(placed.values()))) if placed else ()
    _refuse_large(metadata["name"], nodes, mounts)
    return ClusterView(
        namespace=namespace,
        stateful_set=metadata["name"],
        uid=metadata["uid"],
        replicas=replicas,
        nodes=tuple(nodes),
        absent=tuple(name for name in names if name not in placed),
        settings=settings,
        mounts=mounts,
    )


def _refuse_large(name: str, nodes: Sequence[NodeView], mounts: Sequence[DataVolume]) -> None:
    """A view is kept while Weaviate is asked, by every operation of the cluster."""
    taken = [
        (node.tolerations, node.image_pull_secrets, node.volume and node.volume.source, node.security.se_linux_options)
        for node in nodes
    ]
    size_bytes = memory_of([*map(list, taken), [[each.source, each.mount_path, each.sub_path] for each in mounts]])
    if size_bytes > MOST_VIEW_BYTES:
        message = f"volumes, tolerations and pull secrets of the pods of StatefulSet {name} are larger than any that is"
        raise Permanent("PodsTooLarge", f"{message} right: {size_bytes >> 10} KiB, more than {MOST_VIEW_BYTES >> 10}")


def _settings(container: Json, sources: Sources) -> Settings:
    environment = read_environment(container, sources)
    data_path = text_of(environment, "PERSISTENCE_DATA_PATH") or DEFAULT_DATA_PATH
    if not data_path.startswith("/"):
        raise Permanent("DataPathRelative", f"PERSISTENCE_DATA_PATH is {data_path!r}; an absolute path is needed")
    return Settings(
        ports=_ports(container, environment),
        scheme=scheme_of(argument_of(container, environment, "scheme"), container["name"]),
        data_path=data_path.rstrip("/") or "/",
        read_only_percentage=_read_only_percentage(environment),
        cluster_auth=_cluster_auth(environment),
        api_key=_api_key(environment),
        anonymous=(text_of(environment, "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED") or "").lower()
        in ("true", "1", "on"),
    )


def _read_only_percentage(environment: Mapping[str, str | SecretKey]) -> int:
    """A server does not start with what is none."""
    value = number_of(environment, "DISK_USE_READONLY_PERCENTAGE") or ""
    return int(value) if 1 <= len(value) <= 3 and int(value) <= 100 else READ_ONLY_PERCENTAGE


def _common(found: set[Settings], name: str) -> Settings:
    """Pods of one cluster that differ are those of a rollout that is not over."""
    first, *others = found
    for other in others:
        differing = [each.name for each in fields(first) if getattr(first, each.name) != getattr(other, each.name)]
        raise Transient(
            "PodsDiffer", f"pods of StatefulSet {name} differ in {', '.join(differing)}; let its rollout come to an end"
        )
    return first


def owned_pods(stateful_set: Json, pods: Sequence[Json]) -> list[Json]:
    """Those it made, of all that carry its labels."""
    uid = stateful_set["metadata"]["uid"]
    return [
        pod for pod in pods if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or ())
    ]


def _view_node(
    pod: Json,
    *,
    ordinal: int,
    data_path: str,
    claims: Mapping[str, Json],
    sources: Sources,
) -> NodeView:
    spec, status = pod["spec"], pod.get("status") or {}
    container = weaviate_container(spec)
    environment = read_environment(container, sources)
    volume, obstacle = None, None
    try:
        volume = _data_volume(pod, container, data_path, claims)
    except Permanent as error:
        obstacle = Permanent(error.reason, f"{error.message}; or use method: Server")
    statuses = {entry["name"]: entry for entry in status.get("containerStatuses") or ()}
    own = statuses.get(container["name"], {})
    return NodeView(
        name=_node_name(environment, pod),
        ordinal=ordinal,
        pod_name=pod["metadata"]["name"],
        pod_uid=pod["metadata"]["uid"],
        address=pod_address(pod),
        kubernetes_node=spec["nodeName"],
        ready=bool(own.get("ready")) and not pod["metadata"].get("deletionTimestamp"),
        restarts=int(own.get("restartCount", 0)),
        volume=volume,
        obstacle=obstacle,
        security=_security(spec, container),
        tolerations=tuple(spec.get("tolerations") or ()),
        image_pull_secrets=tuple(entry["name"] for entry in spec.get("imagePullSecrets") or ()),
        priority_class=spec.get("priorityClassName"),
    )


def _data_volume(pod: Json, container: Json, data_path: str, claims: Mapping[str, Json]) -> DataVolume:
    """The volume with the data, if a second pod can share it."""
    mounts = [
        mount
        for mount in container.get("volumeMounts") or ()
        if data_path == mount["mountPath"].rstrip("/") or data_path.startswith(mount["mountPath"].rstrip("/") + "/")
    ]
    if not mounts:
        raise Permanent(
            "DataVolumeNotFound",
            f"no volume of pod {pod['metadata']['name']} is mounted at {data_path}; data in the container's own file "
            "system cannot be reached by an agent",
        )
    mount = max(mounts, key=lambda mount: len(mount["mountPath"]))
    volume = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == mount["name"])
    source = {kind: value for kind, value in volume.items() if kind != "name"}
    if not {"persistentVolumeClaim", "hostPath", "nfs"} & source.keys():
        raise Permanent(
            "DataVolumeNotShareable",
            f"volume {volume['name']} of pod {pod['metadata']['name']} is of kind {', '.join(source)}; an agent can "
            "share a persistentVolumeClaim, hostPath or nfs volume only",
        )
    claim = (source.get("persistentVolumeClaim") or {}).get("claimName")
    if claim and "ReadWriteOncePod" in ((claims.get(claim) or {}).get("spec") or {}).get("accessModes", ()):
        raise Permanent(
            "ReadWriteOncePodUnsupported",
            f"claim {claim} is ReadWriteOncePod, so no second pod may mount it; use a ReadWriteOnce claim",
        )
    return DataVolume(source=source, mount_path=mount["mountPath"], sub_path=mount.get("subPath"))


def _mounts(pod: Json) -> tuple[DataVolume, ...]:
    volumes = {
        volume["name"]: {kind: value for kind, value in volume.items() if kind != "name"}
        for volume in pod["spec"].get("volumes") or ()
    }
    return tuple(
        DataVolume(source=volumes[mount["name"]], mount_path=mount["mountPath"], sub_path=mount.get("subPath"))
        for mount in weaviate_container(pod["spec"]).get("volumeMounts") or ()
        if mount["name"] in volumes
    )


def _security(spec: Json, container: Json) -> PodSecurity:
    outer, inner = spec.get("securityContext") or {}, container.get("securityContext") or {}
    return PodSecurity(
        run_as_user=inner.get("runAsUser", outer.get("runAsUser")),
        run_as_group=inner.get("runAsGroup", outer.get("runAsGroup")),
        fs_group=outer.get("fsGroup"),
        supplemental_groups=tuple(outer.get("supplementalGroups") or ()),
        se_linux_options=inner.get("seLinuxOptions", outer.get("seLinuxOptions")),
    )


def _node_name(environment: Mapping[str, str | SecretKey], pod: Json) -> str:
    name = text_of(environment, "CLUSTER_HOSTNAME") or str(pod["spec"].get("hostname") or pod["metadata"]["name"])
    match = re.fullmatch(r"\$\(field:metadata\.(name|uid|namespace)\)", name)
    name = str(pod["metadata"][match.group(1)]) if match else name
    if len(name) > MAX_NODE_NAME or not fits(WORD, name):
        said = f"CLUSTER_HOSTNAME of pod {pod['metadata']['name']} is {excerpt(repr(name), 80)}"
        message = f"{said}; a node's name has at most {MAX_NODE_NAME} letters, digits, '-', '_' and '.'"
        raise InvalidInput("NodeNameInvalid", message)
    return name


def _ports(container: Json, environment: Mapping[str, str | SecretKey]) -> Ports:
    probe = ((container.get("readinessProbe") or {}).get("httpGet") or {}).get("port")
    rest = argument_of(container, environment, "port") or (probe if isinstance(probe, int) else None) or 8080
    gossip, data, raft = "CLUSTER_GOSSIP_BIND_PORT", "CLUSTER_DATA_BIND_PORT", "RAFT_INTERNAL_RPC_PORT"
    behind_gossip = port_of(number_of(environment, gossip) or 7946, gossip) + 1
    return Ports(
        rest=port_of(rest, f"argument --port of container {container['name']}"),
        data=port_of(number_of(environment, data) or behind_gossip, data),
        raft=port_of(number_of(environment, raft) or 8301, raft),
    )


def _cluster_auth(environment: Mapping[str, str | SecretKey]) -> ClusterAuth | None:
    username = environment.get("CLUSTER_BASIC_AUTH_USERNAME")
    password = environment.get("CLUSTER_BASIC_AUTH_PASSWORD")
    if not username and not password:
        return None
    return ClusterAuth(username=username or "", password=password or "")


def _api_key(environment: Mapping[str, str | SecretKey]) -> SecretKey | None:
    value = environment.get("AUTHENTICATION_APIKEY_ALLOWED_KEYS")
    return value if isinstance(value, SecretKey) else None


def _placed(pod: Json) -> bool:
    return bool(pod["spec"].get("nodeName") and (pod.get("status") or {}).get("podIP"))
