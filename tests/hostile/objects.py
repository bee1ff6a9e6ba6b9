"""Objects that are bad for whoever has to read them: deep, huge, oddly typed, or older than their schema."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass

from tests.api.objects import MINIMAL, Json
from tests.api_server import ADMIN_TOKEN, ApiServer

from weaviate_backup.api.crd import definitions
from weaviate_backup.api.names import API_VERSION, GROUP, VERSION
from weaviate_backup.api.stored_objects import read_json

NAMESPACE = "mallory"
PLURALS = {crd["spec"]["names"]["kind"]: crd["spec"]["names"]["plural"] for crd in definitions().values()}
ANYTHING: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEPTH = 2000
"""Levels: Python's parser ends at about 1,000, the API server takes 10,000."""
MANY = 300


@dataclass(frozen=True)
class Bad:
    """`text`: as it is sent, since Python can neither hold nor write some of it. `reason`: why it is not used."""

    kind: str
    name: str
    text: str
    reason: str = ""


def older_definitions() -> list[Json]:
    """Our kinds as they may have been stored before: specs and states of any shape."""
    found = copy.deepcopy(list(definitions().values()))
    for crd in found:
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema.pop("x-kubernetes-validations")
        schema["properties"]["spec"] = ANYTHING
        schema["properties"]["status"] = ANYTHING
        crd["spec"]["versions"][0].pop("selectableFields")
        crd["spec"]["versions"][0]["additionalPrinterColumns"] = []
    return found


def nested(depth: int, key: str = "a") -> str:
    return f'{{"{key}":' * depth + "{}" + "}" * depth


def body(kind: str, name: str, spec: Json | str, *, metadata: str = "") -> str:
    """An object as JSON text; `metadata` and a spec that is text are taken as they are."""
    text = spec if isinstance(spec, str) else json.dumps(spec)
    more = f",{metadata}" if metadata else ""
    head = f'"apiVersion":"{API_VERSION}","kind":"{kind}"'
    return f'{{{head},"metadata":{{"name":"{name}","namespace":"{NAMESPACE}"{more}}},"spec":{text}}}'


def stored_before() -> Iterator[Bad]:
    """What an older schema let pass, with the reason that a status now gives."""
    location, volume = "WeaviateBackupLocation", '{"filesystem":{"volume":%s}}'
    deep = nested(DEPTH)
    yield Bad(location, "deep-volume", body(location, "deep-volume", volume % f'{{"nfs":{deep}}}'), "SpecInvalid")
    for kind in ("secret", "projected", "emptyDir"):
        name = f"volume-{kind.lower()}"
        yield Bad(location, name, body(location, name, volume % f'{{"{kind}":{{}}}}'), "VolumeUnsupported")
    yield Bad(location, "no-kind", body(location, "no-kind", {}), "LocationInvalid")
    host = volume % '{"hostPath":{"path":"/"}}'
    yield Bad(location, "host-path", body(location, "host-path", host), "HostPathForbidden")
    driver = volume % '{"csi":{"driver":"smb.csi.k8s.io","nodePublishSecretRef":{"name":"database"}}}'
    yield Bad(location, "csi-driver", body(location, "csi-driver", driver), "CsiDriverForbidden")
    for kind in ("WeaviateBackup", "WeaviateRestore"):
        changes: dict[str, Json] = {
            "long-target": {"target": {"statefulSet": "x" * 100_000}},
            "many-collections": {"include": ["C"] * 3_000},
        }
        for name, change in changes.items():
            yield Bad(kind, name, body(kind, name, {**MINIMAL[kind], **change}), "SpecInvalid")


def of_other_types() -> Iterator[Bad]:
    """The same, of a type or a value with which the API server refuses every write of the object."""
    location = "WeaviateBackupLocation"
    odd = {"filesystem": {"volume": {"nfs": {"server": 5, "path": ["/"]}}}}
    yield Bad(location, "odd-volume", body(location, "odd-volume", odd))
    for kind in ("WeaviateBackup", "WeaviateRestore"):
        changes: dict[str, Json] = {
            "odd-target": {"target": ["weaviate"]},
            "odd-timeout": {"timeout": 7},
            "no-timeout": {"timeout": "soon"},
            "odd-agent": {"agent": {"resources": {"limits": []}}},
            "odd-cancel": {"cancel": {}},
        }
        for name, change in changes.items():
            yield Bad(kind, name, body(kind, name, {**MINIMAL[kind], **change}))
        text = json.dumps(MINIMAL[kind])[:-1] + f',"include":{{"a":{nested(DEPTH)}}}}}'
        yield Bad(kind, "odd-include", body(kind, "odd-include", text))


def stored_now(suffix: str) -> Iterator[Bad]:
    """What no schema of ours forbids: metadata."""
    field = (
        f'"managedFields":[{{"manager":"m","operation":"Update","apiVersion":"{API_VERSION}","fieldsType":"FieldsV1"'
    )
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "n"}
    metadata = {
        "deep-fields": f'{field},"fieldsV1":{nested(DEPTH, "f:a")}}}]',
        "labels": _field("labels", {f"a{number}": "" for number in range(MANY)}),
        "annotations": _field("annotations", {"note": "x" * 250_000}),
        "finalizers": _field("finalizers", [f"a/b{number}" for number in range(MANY)]),
        "owners": _field("ownerReferences", [{**owner, "uid": str(number)} for number in range(MANY)]),
    }
    for kind, spec in MINIMAL.items():
        for what, text in metadata.items():
            name = f"{what}-{suffix}"
            yield Bad(kind, name, body(kind, name, spec, metadata=text))


def _field(name: str, value: object) -> str:
    return f"{json.dumps(name)}:{json.dumps(value)}"


def create(server: ApiServer, bad: Bad) -> None:
    """As it is."""
    code, said = _talk(server, "POST", path(bad.kind), bad.text.encode())
    assert code == 201, (bad.kind, bad.name, said[:300])


def look(server: ApiServer, kind: str, name: str, namespace: str = NAMESPACE) -> Json:
    """However deep it is."""
    _, said = _talk(server, "GET", f"{path(kind, namespace)}/{name}")
    found: Json = read_json(said)
    return found


def _talk(server: ApiServer, method: str, target: str, content: bytes | None = None) -> tuple[int, bytes]:
    connection = server._connection()
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
    connection.request(method, target, content, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def change(server: ApiServer, kind: str, name: str, patch: Json, *, subresource: str = "") -> int:
    target = f"{path(kind)}/{name}{subresource}"
    return server.request("PATCH", target, patch, content_type="application/merge-patch+json")[0]


def path(kind: str, namespace: str = NAMESPACE) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURALS[kind]}"
