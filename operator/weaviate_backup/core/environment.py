"""What a Weaviate container is told: its variables, from wherever they come, and its arguments. Pure.

Read as Kubernetes makes them for the process. Values of Secrets are never read: what comes from one is known by name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weaviate_backup.api.patterns import DATA_KEY, MAX_NAME_LENGTH, OBJECT_NAME, fits
from weaviate_backup.errors import InvalidInput, Permanent, excerpt

Json = Mapping[str, Any]
CONTAINER_NAME = "weaviate"
MOST_ENVIRONMENT_BYTES = 2 << 20
"""Of a container's variables, or its arguments: Linux gives a process no more of both."""


@dataclass(frozen=True)
class SecretKey:
    """One value in a Secret. Only its name travels; agents mount it."""

    secret: str
    key: str


@dataclass(frozen=True)
class Sources:
    """What environments refer to: ConfigMaps with their values, Secrets with the names of their keys only."""

    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secret_keys: Mapping[str, Sequence[str]] = field(default_factory=dict)


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
    room = _Room(container["name"])
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
            environment[entry["name"]] = _expanded(entry.get("value", ""), environment, room)
    return environment


@dataclass
class _Room:
    """What is left of a container's variables or arguments. One can name another ten times, which names another."""

    container: str
    left_bytes: int = MOST_ENVIRONMENT_BYTES

    def take(self, text: str) -> str:
        """The text. Raises `EnvironmentTooLarge`."""
        self.left_bytes -= len(text)
        if self.left_bytes < 0:
            message = f"variables or arguments of container {self.container} have more than {MOST_ENVIRONMENT_BYTES}"
            raise Permanent(
                "EnvironmentTooLarge", f"{message} characters with what they name; no process can have that"
            )
        return text


def _expanded(text: str, environment: Mapping[str, str | SecretKey], room: _Room) -> str:
    """`$(NAME)` stands for a variable defined before; what is not known, or secret, stays as it is."""

    def value(match: re.Match[str]) -> str:
        known = environment.get(match.group(1))
        return room.take(known if isinstance(known, str) else match.group(0))

    return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)", value, text)


def argument_of(container: Json, environment: Mapping[str, str | SecretKey], name: str) -> str | None:
    given = (*(container.get("command") or ()), *(container.get("args") or ()))
    room = _Room(container["name"])
    arguments = [_expanded(str(argument), environment, room) for argument in given]
    for position, argument in enumerate(arguments):
        if argument == f"--{name}" and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
    return None


def text_of(environment: Mapping[str, str | SecretKey], name: str) -> str | None:
    value = environment.get(name)
    return value if isinstance(value, str) and value else None


def number_of(environment: Mapping[str, str | SecretKey], name: str) -> str | None:
    value = text_of(environment, name)
    return value if value and value.isdigit() else None
