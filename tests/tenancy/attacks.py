"""What a tenant may write to be given what is not his, made of every string of every spec, and of his pods."""

import base64
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.api.objects import Json
from tests.api.strings import KEY, places, with_string
from tests.tenancy.stage import Tenant

from weaviate_backup.api.names import API_VERSION
from weaviate_backup.api.patterns import fits

PREY = "prod-db"
SCHEDULER = "kube-scheduler"
CLIMBING = (f"../../victim/secrets/{PREY}", f"%2e%2e/%2e%2e/victim/secrets/{PREY}", "..", "nul\x00")
REFERENCES = (
    f"../../victim/secrets/{PREY}",
    f"..%2f..%2fvictim%2fsecrets%2f{PREY}",
    "../../victim/configmaps/settings",
)
_SETTING = "AUTHENTICATION_APIKEY_ALLOWED_KEYS"


@dataclass(frozen=True)
class Attack:
    """An object that was stored. `field`: where its spec must be refused, empty where something else is."""

    plural: str
    name: str
    field: str = ""
    ends: bool = True
    """It fails; else it may go on as long as it stays at home."""


def store_all(tenant: Tenant, values: tuple[str, ...], operators_namespace: str) -> list[Attack]:
    """Those that the API server took."""
    _Home(tenant).make_weaviate("weaviate")
    found = [*_every_string(tenant, values), *_pods(tenant), *_foreign_owner(tenant), *_forged(tenant)]
    return [*found, *_written_about(tenant, operators_namespace)]


def _every_string(tenant: Tenant, values: tuple[str, ...]) -> Iterator[Attack]:
    for number, (place, value) in enumerate(itertools.product(places(), values)):
        attack = Attack(f"{place.kind.lower()}s", f"string-{number}", place.field)
        body = {"apiVersion": API_VERSION, "kind": place.kind, "metadata": {"name": attack.name}}
        spec = with_string(place, value)
        shape = place.schema.get("pattern", "")
        by_rule = place.path[-1] == KEY or ("x-kubernetes-validations" in place.schema and fits(shape, value))
        if by_rule and attack.plural == "weaviatebackuplocations":
            spec["suspend"] = True  # it would be tried, at home
        if tenant.create({**body, "spec": spec}):
            yield replace(attack, ends=not by_rule)


def _written_about(tenant: Tenant, operators_namespace: str) -> Iterator[Attack]:
    """The ways that were once found, each to a value that is there."""
    auth = {"apiKeySecretRef": {"name": f"../../victim/secrets/{PREY}", "key": "password"}}
    own = {"apiKeySecretRef": {"name": f"../../{operators_namespace}/secrets/registry", "key": "password"}}
    elsewhere = "../../victim/statefulsets/weaviate"
    specs: dict[str, Json] = {
        "secret": {"auth": auth},
        "own-secret": {"auth": own},
        "target": {"target": {"statefulSet": elsewhere}},
        "target-s-key": {
            "target": {"statefulSet": elsewhere},
            "auth": {"apiKeySecretRef": {"name": PREY, "key": "keys"}},
        },
        "location": {"locationRef": {"name": "../../victim/weaviatebackuplocations/theirs"}},
    }
    for name, spec in specs.items():
        yield from _backup(tenant, f"known-{name}", spec)
    body = {"apiVersion": API_VERSION, "kind": "WeaviateRestore", "metadata": {"name": "known-backup"}}
    source = {"source": {"backupRef": {"name": "../../victim/weaviatebackups/theirs"}}}
    if tenant.create({**body, "spec": source}):
        yield Attack("weaviaterestores", "known-backup")
    body = {"apiVersion": API_VERSION, "kind": "WeaviateBackupLocation", "metadata": {"name": "known-oracle"}}
    store = {"bucket": "backups", "credentialsSecretRef": {"name": f"../../victim/secrets/{PREY}"}}
    if tenant.create({**body, "spec": {"s3": store}}):
        yield Attack("weaviatebackuplocations", "known-oracle", "spec.s3.credentialsSecretRef")


def _backup(tenant: Tenant, name: str, spec: Json) -> Iterator[Attack]:
    body = {"apiVersion": API_VERSION, "kind": "WeaviateBackup", "metadata": {"name": name}}
    if tenant.create({**body, "spec": {"locationRef": {"name": "none"}, **spec}}):
        yield Attack("weaviatebackups", name)


def _pods(tenant: Tenant) -> Iterator[Attack]:
    """References of pods, of which the API server looks at some only, and names that environments give."""
    numbers = itertools.count(1)
    for value in REFERENCES:
        chosen = {"name": value, "key": "password"}
        claim = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": value}}]}
        for environment, more in (
            ({"env": [{"name": _SETTING, "valueFrom": {"secretKeyRef": chosen}}]}, {}),
            ({"env": [{"name": "PERSISTENCE_DATA_PATH", "valueFrom": {"configMapKeyRef": chosen}}]}, {}),
            ({"envFrom": [{"secretRef": {"name": value}}]}, {}),
            ({"envFrom": [{"configMapRef": {"name": value}}]}, {}),
            ({"env": [{"name": "CLUSTER_HOSTNAME", "value": value}]}, {}),
            ({}, claim),
            ({}, {"imagePullSecrets": [{"name": value}]}),
            ({}, {"priorityClassName": value}),
        ):
            name = f"pods-{next(numbers)}"
            if _Home(tenant).make_weaviate(name, environment, more):
                target = {"target": {"statefulSet": name}}
                yield from (replace(each, ends=False) for each in _backup(tenant, name, target))


def _foreign_owner(tenant: Tenant) -> Iterator[Attack]:
    """A pod that says to belong to somebody else's StatefulSet, whose uid any reader knows."""
    path = "/apis/apps/v1/namespaces/victim/statefulsets/weaviate"
    theirs = tenant.server.request("GET", path)[1]
    reference = {"name": _SETTING, "valueFrom": {"secretKeyRef": {"name": PREY, "key": "keys"}}}
    _Home(tenant).make_pod("foreign", theirs, {"env": [reference]}, {})
    yield from _backup(tenant, "foreign", {"target": {"statefulSet": "../../victim/statefulsets/weaviate"}})


def _forged(tenant: Tenant) -> Iterator[Attack]:
    """Plans and statuses, for whoever may write them."""
    plan = (
        '{"nodes": ["weaviate-0"], "leader": "weaviate-0", "collections": ["A"], "server_version": "1.39.1", '
        '"started_at": "2026-01-01T00:00:00Z", "location": {"s3": {"bucket": "backups"}}, '
        f'"stateful_set_uid": "x/../../../kube-system/leases/{SCHEDULER}"}}'
    )
    for name, text, phase in (("lease", plan, "Preparing"), ("waiting", plan, ""), ("nonsense", "[]", "Uploading")):
        for attack in _backup(tenant, f"forged-{name}", {}):
            (body,) = [each for each in tenant.objects(attack.plural) if each["metadata"]["name"] == attack.name]
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"wvb-{body['metadata']['uid']}"}}
            tenant.create({**secret, "data": {"plan.json": base64.b64encode(text.encode()).decode()}})
            if phase:
                tenant.say(body, {"phase": phase})
            yield replace(attack, ends=bool(phase))
    for attack in _backup(tenant, "forged-place", {}):
        (body,) = [each for each in tenant.objects(attack.plural) if each["metadata"]["name"] == attack.name]
        store = {"bucket": "backups", "credentialsSecretRef": {"name": f"../../victim/secrets/{PREY}"}}
        tenant.say(body, {"phase": "Completed", "cleanedUp": True, "backupID": "b", "location": {"s3": store}})
        body = {"apiVersion": API_VERSION, "kind": "WeaviateRestore", "metadata": {"name": "forged-place"}}
        if tenant.create({**body, "spec": {"source": {"backupRef": {"name": attack.name}}}}):
            yield Attack("weaviaterestores", "forged-place")


@dataclass(frozen=True)
class _Home:
    """Makes the tenant's StatefulSets, and their pods as a controller and a kubelet would."""

    tenant: Tenant

    def make_weaviate(self, name: str, container: Json | None = None, pod: Json | None = None) -> bool:
        spec = self._pod_spec(container or {}, pod or {})
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": spec}
        made = self.tenant.create(
            {
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "metadata": {"name": name},
                "spec": {"serviceName": "x", "selector": {"matchLabels": labels}, "template": template},
            }
        )
        if made is not None:
            self.make_pod(name, made, container or {}, pod or {})
        return made is not None

    def make_pod(self, label: str, owner: Json, container: Json, pod: Json) -> None:
        """The API server may take less in a pod than in a template; then there is none."""
        name, uid = owner["metadata"]["name"], owner["metadata"]["uid"]
        reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": uid}
        metadata = {"name": f"{label}-0", "labels": {"app": name}, "ownerReferences": [reference]}
        spec = {**self._pod_spec(container, pod), "nodeName": "node-1"}
        made = self.tenant.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        if made is not None:
            address = {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "phase": "Running"}
            self.tenant.say(made, address)

    def _pod_spec(self, container: Json, pod: Json) -> Json:
        port = str(self.tenant.listener.port)
        return {"containers": [{"name": "weaviate", "image": "evil", "args": ["--port", port], **container}], **pod}
