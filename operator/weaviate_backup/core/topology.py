"""What a Weaviate cluster looks like to an agent: read from its StatefulSet, its pods and its claims.

Everything is taken from the live objects, never from the names a chart happens to use, so that every chart version and
hand-written manifests work. Anything that cannot work is refused here, by name, before a pod is made.
Pure: objects come in as the API server's JSON, `ClusterView` goes out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from weaviate_backup.api.patterns import DATA_KEY, MAX_NAME_LENGTH, OBJECT_NAME, WORD, fits
from weaviate_backup.core.pod_addresses import pod_address, port_of, scheme_of
from weaviate_backup.core.session import WeaviateEndpoint
from weaviate_backup.errors import InvalidInput, Permanent, Transient, excerpt

Json = Mapping[str, Any]
DEFAULT_DATA_PATH = "/var/lib/weaviate"
CONTAINER_NAME = "weaviate"
MOST_REPLICAS = 256
"""Every one is looked for by its name, and asked; Weaviate's clusters are of some tens."""
MAX_NODE_NAME = 63


@dataclass(frozen=True)
class SecretKey:
    """One value in a Secret. Only its name travels; agents mount it."""

    secret: str
    key: str


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
    cluster_auth: ClusterAuth | None
    api_key: SecretKey | None
    anonymous: bool


@dataclass(frozen=True)
class Sources:
    """What environments refer to: ConfigMaps with their values, Secrets with the names of their keys only."""

    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secret_keys: Mapping[str, Sequence[str]] = field(default_factory=dict)


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
    return ClusterView(
        namespace=namespace,
        stateful_set=metadata["name"],
        uid=metadata["uid"],
        replicas=replicas,
        nodes=tuple(nodes),
        absent=tuple(name for name in names if name not in placed),
        settings=settings,
        mounts=_mounts(next(iter(placed.values()))) if placed else (),
    )


def _settings(container: Json, sources: Sources) -> Settings:
    environment = read_environment(container, sources)
    data_path = _text(environment, "PERSISTENCE_DATA_PATH") or DEFAULT_DATA_PATH
    if not data_path.startswith("/"):
        raise Permanent("DataPathRelative", f"PERSISTENCE_DATA_PATH is {data_path!r}; an absolute path is needed")
    return Settings(
        ports=_ports(container, environment),
        scheme=scheme_of(_argument(container, environment, "scheme"), container["name"]),
        data_path=data_path.rstrip("/") or "/",
        cluster_auth=_cluster_auth(environment),
        api_key=_api_key(environment),
        anonymous=(_text(environment, "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED") or "").lower() in ("true", "1", "on"),
    )


def _common(found: set[Settings], name: str) -> Settings:
    """Pods of one cluster that differ are those of a rollout that is not over."""
    first, *others = found
    for other in others:
        differing = [each.name for each in fields(first) if getattr(first, each.name) != getattr(other, each.name)]
        raise Transient(
            "PodsDiffer", f"pods of StatefulSet {name} differ in {', '.join(differing)}; let its rollout come to an end"
        )
    return first


def weaviate_container(pod_spec: Json) -> Json:
    """`weaviate`, else the only one, else the one that has a data path."""
    containers: list[Json] = list(pod_spec.get("containers") or ())
    for container in containers:
        if container["name"] == CONTAINER_NAME:
            return container
    if len(containers) == 1:
        return containers[0]
    for container in containers:
        if any(entry["name"] == "PERSISTENCE_DATA_PATH" for entry in container.get("env") or ()):
            return container
    names = ", ".join(container["name"] for container in containers)
    raise Permanent("ContainerNotFound", f"none of the containers ({names}) looks like Weaviate's; call it 'weaviate'")


def owned_pods(stateful_set: Json, pods: Sequence[Json]) -> list[Json]:
    """Those it made, of all that carry its labels."""
    uid = stateful_set["metadata"]["uid"]
    return [
        pod for pod in pods if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or ())
    ]


def secret_names(pod_spec: Json) -> frozenset[str]:
    """Secrets whose keys become variables, so that their names must be known."""
    container = weaviate_container(pod_spec)
    return frozenset(
        _referenced(each["secretRef"], "envFrom.secretRef")
        for each in container.get("envFrom") or ()
        if "secretRef" in each
    )


def config_map_names(pod_spec: Json) -> frozenset[str]:
    """ConfigMaps that must be read before the environment is complete."""
    container = weaviate_container(pod_spec)
    names = {
        _referenced(source["configMapRef"], "envFrom.configMapRef")
        for source in container.get("envFrom") or ()
        if "configMapRef" in source
    }
    for entry in container.get("env") or ():
        reference = (entry.get("valueFrom") or {}).get("configMapKeyRef")
        if reference:
            names.add(_referenced(reference, f"env {entry['name']}"))
    return frozenset(names)


def claim_names(pods: Sequence[Json]) -> frozenset[str]:
    return frozenset(
        _referenced({"name": volume["persistentVolumeClaim"]["claimName"]}, f"volume {volume['name']}")
        for pod in pods
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    )


def _referenced(reference: Json, what: str) -> str:
    """The name that a pod's reference holds. The API server does not look at all of them."""
    name, key = str(reference.get("name") or ""), reference.get("key")
    if len(name) > MAX_NAME_LENGTH or not fits(OBJECT_NAME, name) or (key is not None and not fits(DATA_KEY, key)):
        said = excerpt(repr(name if key is None else f"{name}/{key}"), 80)
        raise InvalidInput("ReferenceInvalid", f"{what} of Weaviate's container names {said}, which no object can be")
    return name


def read_environment(container: Json, sources: Sources) -> dict[str, str | SecretKey]:
    """Name → value, or the Secret key holding it. Of several entries of one name the last wins, as in a container."""
    environment: dict[str, str | SecretKey] = {}
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix", "")
        if "configMapRef" in source:
            for key, value in sources.config_maps.get(source["configMapRef"]["name"], {}).items():
                environment[prefix + key] = value
        elif "secretRef" in source:
            name = source["secretRef"]["name"]
            environment |= {prefix + key: SecretKey(name, key) for key in sources.secret_keys.get(name, ())}
    for entry in container.get("env") or ():
        value_from = entry.get("valueFrom") or {}
        if "secretKeyRef" in value_from:
            reference = value_from["secretKeyRef"]
            secret = _referenced(reference, f"env {entry['name']}")
            environment[entry["name"]] = SecretKey(secret=secret, key=reference["key"])
        elif "configMapKeyRef" in value_from:
            reference = value_from["configMapKeyRef"]
            values = sources.config_maps.get(reference["name"], {})
            if reference["key"] in values:
                environment[entry["name"]] = values[reference["key"]]
        elif "fieldRef" in value_from:
            environment[entry["name"]] = f"$(field:{value_from['fieldRef']['fieldPath']})"
        else:
            environment[entry["name"]] = _expanded(entry.get("value", ""), environment)
    return environment


def _expanded(text: str, environment: Mapping[str, str | SecretKey]) -> str:
    """`$(NAME)` stands for a variable defined before; what is not known, or secret, stays as it is."""

    def value(match: re.Match[str]) -> str:
        known = environment.get(match.group(1))
        return known if isinstance(known, str) else match.group(0)

    return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)", value, text)


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
    name = _text(environment, "CLUSTER_HOSTNAME") or str(pod["spec"].get("hostname") or pod["metadata"]["name"])
    match = re.fullmatch(r"\$\(field:metadata\.(name|uid|namespace)\)", name)
    name = str(pod["metadata"][match.group(1)]) if match else name
    if len(name) > MAX_NODE_NAME or not fits(WORD, name):
        said = f"CLUSTER_HOSTNAME of pod {pod['metadata']['name']} is {excerpt(repr(name), 80)}"
        message = f"{said}; a node's name has at most {MAX_NODE_NAME} letters, digits, '-', '_' and '.'"
        raise InvalidInput("NodeNameInvalid", message)
    return name


def _ports(container: Json, environment: Mapping[str, str | SecretKey]) -> Ports:
    probe = ((container.get("readinessProbe") or {}).get("httpGet") or {}).get("port")
    rest = _argument(container, environment, "port") or (probe if isinstance(probe, int) else None) or 8080
    gossip, data, raft = "CLUSTER_GOSSIP_BIND_PORT", "CLUSTER_DATA_BIND_PORT", "RAFT_INTERNAL_RPC_PORT"
    behind_gossip = port_of(_number(environment, gossip) or 7946, gossip) + 1
    return Ports(
        rest=port_of(rest, f"argument --port of container {container['name']}"),
        data=port_of(_number(environment, data) or behind_gossip, data),
        raft=port_of(_number(environment, raft) or 8301, raft),
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


def _argument(container: Json, environment: Mapping[str, str | SecretKey], name: str) -> str | None:
    given = (*(container.get("command") or ()), *(container.get("args") or ()))
    arguments = [_expanded(str(argument), environment) for argument in given]
    for position, argument in enumerate(arguments):
        if argument == f"--{name}" and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
    return None


def _text(environment: Mapping[str, str | SecretKey], name: str) -> str | None:
    value = environment.get(name)
    return value if isinstance(value, str) and value else None


def _number(environment: Mapping[str, str | SecretKey], name: str) -> str | None:
    value = _text(environment, name)
    return value if value and value.isdigit() else None


def _placed(pod: Json) -> bool:
    return bool(pod["spec"].get("nodeName") and (pod.get("status") or {}).get("podIP"))
