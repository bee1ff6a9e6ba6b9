"""What a real API server accepts and refuses, and what it says then. Every rule is both kept and broken here."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.api.objects import FULL, MINIMAL, PUBLIC_KEY, PUBLIC_PEM, Json, manifest, merged
from tests.api_server import ApiServer

from weaviate_backup.api.backup import BackupSpec
from weaviate_backup.api.crd import definitions
from weaviate_backup.api.restore import RestoreSpec

pytestmark = pytest.mark.kubernetes

BACKUP, RESTORE, LOCATION = "WeaviateBackup", "WeaviateRestore", "WeaviateBackupLocation"


@dataclass(frozen=True)
class Case:
    """A spec laid over the smallest valid one. `rule` is in the message of the rule that is kept or broken."""

    kind: str
    change: Json
    rule: str
    name: str = field(default="nightly")

    def __str__(self) -> str:
        return f"{self.kind[8:]} {self.change or self.name} ({self.rule})"[:90]


GCS: Json = {"s3": None, "gcs": {"bucket": "backups"}}
AZURE: Json = {"s3": None, "azure": {"container": "backups"}}
DISK: Json = {"s3": None, "filesystem": {"volume": {"nfs": {"server": "10.0.0.1", "path": "/exports"}}}}
VOLUMES: list[Json] = [
    {"persistentVolumeClaim": {"claimName": "backups", "readOnly": True}},
    {"nfs": {"server": "fd00::1", "path": "/"}},
    {"nfs": {"server": "nas.example.org", "path": "/exports/of us", "readOnly": False}},
    {
        "csi": {
            "driver": "nfs.csi.k8s.io",
            "fsType": "nfs4",
            "readOnly": False,
            "volumeAttributes": {"share": "/backups", "csi.storage.k8s.io/x": ""},
            "nodePublishSecretRef": {"name": "nas"},
        }
    },
    {"hostPath": {"path": "/mnt/share", "type": "Directory"}},
]
OTHER_VOLUMES = ("secret", "configMap", "projected", "downwardAPI", "emptyDir", "ephemeral", "image", "cephfs")


def on(volume: Json) -> Json:
    return {"s3": None, "filesystem": {"volume": volume}}


CUSTOMER_KEY: Json = {"customerKeySecretRef": {"name": "keys", "key": "SSE_CUSTOMER_KEY"}}
KEYS: list[Json] = [{"name": "one", "key": "AWS_ACCESS_KEY_ID"}, {"name": "two", "key": "AWS_SECRET_ACCESS_KEY"}]
ENDPOINTS: list[Json] = [
    {"endpoint": "minio:9000"},
    {"endpoint": "minio:9000", "useSSL": False},
    {"endpoint": "http://minio:9000"},
    {"endpoint": "https://minio:9000/", "useSSL": True},
    {"endpoint": "http://[::1]:9000", "useSSL": False},
]
URLS: list[Json] = [
    merged(GCS, {"gcs": {"endpoint": "http://fake-gcs:4443"}}),
    merged(AZURE, {"azure": {"endpoint": "http://azurite:10000/devstoreaccount1"}}),
]
RESOURCES: Json = {"limits": {"memory": "1Gi", "example.com/device": 1}}
BY_ID: Json = {"source": {"backupRef": None, "locationRef": {"name": "bucket"}, "backupID": "nightly"}}

ACCEPTED = [
    Case(BACKUP, {}, "at most 52", name="a" * 52),
    Case(RESTORE, {}, "at most 52", name="a" * 52),
    Case(LOCATION, {}, "at most 52", name="a" * 52),
    Case(BACKUP, {"backupID": "nightly"}, "may not hold dots", name="nightly.1"),
    Case(RESTORE, {}, "at most 52", name="nightly.1"),
    Case(BACKUP, {"include": ["A"], "exclude": []}, "include or exclude"),
    Case(BACKUP, {"exclude": ["A", "B*"]}, "include or exclude"),
    Case(RESTORE, {"include": [], "exclude": ["B?"]}, "include or exclude"),
    *(Case(kind, {"include": ["C" * 32] * 1000}, "32768 characters") for kind in (BACKUP, RESTORE)),
    Case(BACKUP, {"config": {"cpuPercentage": 1}}, "cpuPercentage"),
    Case(BACKUP, {"config": {"cpuPercentage": 80}}, "cpuPercentage"),
    Case(RESTORE, {"config": {"cpuPercentage": 80}}, "cpuPercentage"),
    Case(BACKUP, {"config": {"chunkSize": 2}}, "chunkSize"),
    Case(BACKUP, {"config": {"chunkSize": 512}}, "chunkSize"),
    Case(BACKUP, {"backupID": "a-b_9"}, "backupID may hold only"),
    Case(RESTORE, BY_ID, "backupID may hold only"),
    Case(BACKUP, {"timeout": "90m"}, "longer than 0s"),
    Case(RESTORE, {"timeout": "1h30m"}, "longer than 0s"),
    Case(BACKUP, {"config": {"path": "a..b/c"}}, "may not hold '..'"),
    Case(RESTORE, {"config": {"path": "a/b"}}, "may not hold '..'"),
    Case(RESTORE, {}, "set either source.backupRef"),
    Case(RESTORE, {"source": {"backupSHA256": "0123456789abcdef" * 4}}, "source.backupSHA256 is a SHA-256"),
    *(
        Case(LOCATION, {"verify": {"publicKeys": [each]}}, "verify.publicKeys holds")
        for each in (PUBLIC_KEY, PUBLIC_PEM)
    ),
    Case(RESTORE, BY_ID, "belong together"),
    Case(LOCATION, GCS, "exactly one of"),
    Case(LOCATION, AZURE, "exactly one of"),
    Case(LOCATION, DISK, "exactly one of"),
    *(Case(LOCATION, on(volume), "exactly one of persistentVolumeClaim") for volume in VOLUMES),
    Case(LOCATION, on({"nfs": {"server": "nas", "path": "/a/..b/c.."}}), "is absolute and may not hold '..'"),
    Case(LOCATION, on({"csi": {"driver": "d", "volumeAttributes": {"a" * 128: "x"}}}), "volumeAttributes has 1 to 128"),
    Case(LOCATION, {"s3": {"path": "a/..b"}}, "may not hold '..'"),
    *(Case(LOCATION, {"s3": each}, "s3.endpoint") for each in ENDPOINTS),
    *(Case(LOCATION, each, "endpoint is a URL") for each in URLS),
    Case(LOCATION, {"s3": {"serverSideEncryption": CUSTOMER_KEY}}, "customerKeySecretRef"),
    Case(LOCATION, {"s3": {"credentialKeyRefs": KEYS}}, "names a key twice"),
    Case(LOCATION, {"s3": {"credentialKeyRefs": KEYS}}, "a key that no store takes"),
    Case(LOCATION, {"s3": {"serverSideEncryption": CUSTOMER_KEY}}, "customerKeySecretRef.key must be"),
    Case(LOCATION, {"s3": {"tags": {"team": "search", "empty": ""}, "metadata": {"team": "search"}}}, "1 to 128"),
    Case(LOCATION, {"s3": {"bucket": "Old_Bucket.eu"}}, "the bucket's name alone"),
    Case(LOCATION, merged(AZURE, {"azure": {"container": "$root"}}), "the container's name alone"),
    Case(BACKUP, {"agent": {"nodeSelector": {"disk": "", "example.com/disk": "fast"}}}, "named as on a node"),
    Case(RESTORE, {"agent": {"nodeSelector": {"disk": "fast"}}}, "named as on a node"),
    *(Case(kind, {"agent": {"resources": RESOURCES}}, "named as in a Pod") for kind in (BACKUP, RESTORE)),
    Case(RESTORE, {"nodeMapping": {"Node_1.local": "weaviate-0"}}, "nodeMapping names nodes"),
    Case(LOCATION, merged(AZURE, {"azure": {"account": "abc0123456789"}}), "storage account's name"),
]

REFUSED = [
    Case(BACKUP, {}, "at most 52", name="a" * 53),
    Case(RESTORE, {}, "at most 52", name="a" * 53),
    Case(LOCATION, {}, "at most 52", name="a" * 53),
    Case(BACKUP, {}, "may not hold dots", name="nightly.1"),
    Case(BACKUP, {"include": ["A"], "exclude": ["B"]}, "include or exclude"),
    Case(RESTORE, {"include": ["A"], "exclude": ["B"]}, "include or exclude"),
    *(Case(kind, {"exclude": ["C" * 33] * 1000}, "32768 characters") for kind in (BACKUP, RESTORE)),
    Case(BACKUP, {"config": {"cpuPercentage": 0}}, "cpuPercentage"),
    Case(BACKUP, {"config": {"cpuPercentage": 81}}, "cpuPercentage"),
    Case(RESTORE, {"config": {"cpuPercentage": 81}}, "cpuPercentage"),
    Case(BACKUP, {"config": {"chunkSize": 1}}, "chunkSize"),
    Case(BACKUP, {"config": {"chunkSize": 513}}, "chunkSize"),
    Case(BACKUP, {"backupID": "Nightly"}, "backupID may hold only"),
    Case(BACKUP, {"backupID": "a/b"}, "backupID may hold only"),
    Case(RESTORE, merged(BY_ID, {"source": {"backupID": ".."}}), "backupID may hold only"),
    Case(BACKUP, {"timeout": "0s"}, "longer than 0s"),
    Case(RESTORE, {"timeout": "0h0m"}, "longer than 0s"),
    Case(BACKUP, {"config": {"path": "a/../b"}}, "may not hold '..'"),
    Case(RESTORE, {"config": {"path": ".."}}, "may not hold '..'"),
    Case(RESTORE, {"source": {"locationRef": {"name": "bucket"}, "backupID": "b"}}, "set either source.backupRef"),
    Case(RESTORE, {"source": {"backupRef": None}}, "set either source.backupRef"),
    Case(RESTORE, {"source": {"backupRef": None, "backupID": "b"}}, "belong together"),
    Case(RESTORE, {"source": {"backupRef": None, "locationRef": {"name": "bucket"}}}, "belong together"),
    *(
        Case(RESTORE, {"source": {"backupSHA256": each}}, "source.backupSHA256 is a SHA-256")
        for each in ("", "0f" * 31, "0F" * 32, "../" * 20)
    ),
    *(
        Case(LOCATION, {"verify": {"publicKeys": [each]}}, "verify.publicKeys holds")
        for each in ("", "A" * 44, PUBLIC_PEM.replace("PUBLIC", "PRIVATE"), f"{PUBLIC_PEM}\n<x>", "A" * 42 + "==")
    ),
    Case(LOCATION, {"gcs": {"bucket": "backups"}}, "exactly one of"),
    Case(LOCATION, {"s3": None}, "exactly one of"),
    *(Case(LOCATION, on(volume), "exactly one of persistentVolumeClaim") for volume in ({}, VOLUMES[0] | VOLUMES[2])),
    *(
        Case(LOCATION, on(volume), "is absolute and may not hold '..'")
        for volume in (
            {"nfs": {"server": "nas", "path": "/.."}},
            {"nfs": {"server": "nas", "path": "/a/../b"}},
            {"hostPath": {"path": "/a/.."}},
        )
    ),
    *(
        Case(LOCATION, on({"csi": {"driver": "d", "volumeAttributes": {name: "x"}}}), "volumeAttributes has 1 to 128")
        for name in ("", "a" * 129, "a b")
    ),
    Case(LOCATION, {"s3": {"path": "../other"}}, "may not hold '..'"),
    Case(LOCATION, merged(GCS, {"gcs": {"path": "a/.."}}), "may not hold '..'"),
    Case(LOCATION, merged(AZURE, {"azure": {"path": ".."}}), "may not hold '..'"),
    Case(LOCATION, merged(DISK, {"filesystem": {"path": "a/../.."}}), "may not hold '..'"),
    *(
        Case(LOCATION, {"s3": {"endpoint": each}}, "s3.endpoint is host[:port]")
        for each in ("minio:9000/backups", "https://", "ftp://minio", "key:secret@minio:9000", "minio 9000")
    ),
    Case(LOCATION, {"s3": {"endpoint": "http://minio:9000", "useSSL": True}}, "contradict each other"),
    Case(LOCATION, {"s3": {"endpoint": "https://minio:9000", "useSSL": False}}, "contradict each other"),
    Case(LOCATION, merged(GCS, {"gcs": {"endpoint": "fake-gcs:4443"}}), "endpoint is a URL"),
    Case(
        LOCATION, merged(AZURE, {"azure": {"endpoint": "https://a.blob.core.windows.net/?sig=x"}}), "endpoint is a URL"
    ),
    Case(LOCATION, merged(AZURE, {"azure": {"account": "My-Account"}}), "storage account's name"),
    Case(LOCATION, {"s3": {"serverSideEncryption": {**CUSTOMER_KEY, "kmsKeyID": "k"}}}, "customerKeySecretRef"),
    Case(LOCATION, {"s3": {"credentialKeyRefs": [*KEYS, {**KEYS[0], "name": "three"}]}}, "names a key twice"),
    Case(LOCATION, {"s3": {"serverSideEncryption": {**CUSTOMER_KEY, "algorithm": "aws:kms"}}}, "customerKeySecretRef"),
    Case(LOCATION, {"s3": {"tags": {"": "search"}}}, "1 to 128"),
    Case(
        LOCATION,
        {"s3": {"serverSideEncryption": {"customerKeySecretRef": {"name": "prod-db", "key": "password"}}}},
        "customerKeySecretRef.key must be SSE_CUSTOMER_KEY",
    ),
    Case(
        LOCATION, {"s3": {"credentialKeyRefs": [{"name": "prod-db", "key": "password"}]}}, "a key that no store takes"
    ),
    Case(LOCATION, {"s3": {"metadata": {"..": "search"}}}, "1 to 128"),
    *(Case(LOCATION, {"s3": {"bucket": each}}, "the bucket's name alone") for each in ("s3://backups", "backups/prod")),
    Case(LOCATION, merged(AZURE, {"azure": {"container": "Backups/prod"}}), "the container's name alone"),
    Case(BACKUP, {"agent": {"nodeSelector": {"a/b/c": "fast"}}}, "named as on a node"),
    Case(RESTORE, {"agent": {"nodeSelector": {"": "fast"}}}, "named as on a node"),
    *(
        Case(kind, {"agent": {"resources": {"limits": {"../memory": 1}}}}, "named as in a Pod")
        for kind in (BACKUP, RESTORE)
    ),
    Case(RESTORE, {"nodeMapping": {"../weaviate-0": "weaviate-0"}}, "nodeMapping names nodes"),
]

REFUSED_BY_SCHEMA = [
    Case(BACKUP, {"locationRef": None}, "spec.locationRef: Required value"),
    Case(BACKUP, {"config": {"compressionLevel": "Zip"}}, 'supported values: "DefaultCompression"'),
    Case(BACKUP, {"timeout": "P1D"}, "spec.timeout in body should match"),
    Case(BACKUP, {"include": ["A"] * 1001}, "spec.include: Too many"),
    Case(BACKUP, {"agent": {"resources": {"limits": {"memory": "plenty"}}}}, "should match"),
    Case(RESTORE, {"config": {"rolesOptions": "some"}}, 'supported values: "noRestore", "all"'),
    Case(LOCATION, {"s3": {"bucket": "ab"}}, "at least 3 chars long"),
    *(Case(LOCATION, on({kind: {}}), f'unknown field "spec.filesystem.volume.{kind}"') for kind in OTHER_VOLUMES),
    Case(
        LOCATION,
        on({"nfs": {"server": "nas", "path": "/", "mode": {}}}),
        'unknown field "spec.filesystem.volume.nfs.mode',
    ),
    Case(LOCATION, on({"nfs": {"server": "nas"}}), "volume.nfs.path: Required"),
    *(
        Case(LOCATION, on({"nfs": {"server": server, "path": "/"}}), "volume.nfs.server in body should match")
        for server in ("-oacl", "nas/x", "nas ", "a,b")
    ),
    *(
        Case(LOCATION, on({kind: {"server": "nas", "path": path}}), f"volume.{kind}.path in body should match")
        for kind, path in (("nfs", "exports"), ("nfs", "/a\nb"))
    ),
    Case(LOCATION, on({"hostPath": {"path": "etc"}}), "volume.hostPath.path in body should match"),
    Case(LOCATION, on({"hostPath": {"path": "/", "type": "Socket"}}), 'supported values: "Directory"'),
    Case(LOCATION, on({"persistentVolumeClaim": {"claimName": "../x"}}), "claimName in body should match"),
    Case(
        LOCATION, on({"csi": {"driver": "d", "volumeAttributes": dict.fromkeys(map(str, range(33)), "")}}), "Too many"
    ),
    Case(LOCATION, on({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "A"}}}), "should match"),
    Case(LOCATION, {"verify": {"publicKeys": []}}, "at least 1 items"),
    Case(LOCATION, {"verify": {"publicKeys": [PUBLIC_KEY] * 17}}, "at most 16"),
    Case(LOCATION, {"verify": {"requireSigned": True}}, "spec.verify.publicKeys: Required value"),
    Case(BACKUP, {"configuration": {}}, 'unknown field "spec.configuration"'),
]


def create(server: ApiServer, case: Case) -> tuple[int, str]:
    return create_spec(server, case.kind, merged(MINIMAL[case.kind], case.change), name=case.name)


def create_spec(server: ApiServer, kind: str, spec: Json, *, name: str = "nightly") -> tuple[int, str]:
    body = manifest(kind, spec, name=name)
    path = server.path_of(body, collection=True)
    status, answer = server.request("POST", path, body, query={"dryRun": "All", "fieldValidation": "Strict"})
    return status, str(answer.get("message", ""))


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_accepts(api_server: ApiServer, case: Case) -> None:
    assert create(api_server, case) == (201, "")


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refuses_with_the_rule_s_own_words(api_server: ApiServer, case: Case) -> None:
    status, message = create(api_server, case)
    assert status == 422
    assert any(case.rule in text and text in message for text in messages(case.kind)), message


@pytest.mark.parametrize("case", REFUSED_BY_SCHEMA, ids=str)
def test_refuses_by_schema(api_server: ApiServer, case: Case) -> None:
    status, message = create(api_server, case)
    assert status in (400, 422)
    assert case.rule in message


@pytest.mark.parametrize("kind", FULL)
def test_accepts_every_field(api_server: ApiServer, kind: str) -> None:
    assert create_spec(api_server, kind, FULL[kind]) == (201, "")


def messages(kind: str) -> set[str]:
    """Messages of all rules of a kind's spec and root."""
    definition = next(crd for crd in definitions().values() if crd["spec"]["names"]["kind"] == kind)
    return set(_messages(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


def _messages(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [text for member in schema for text in _messages(member)]
    if not isinstance(schema, dict):
        return []
    own = [entry["message"] for entry in schema.get("x-kubernetes-validations", ())]
    return own + [text for child in schema.values() for text in _messages(child)]


def is_transition(message: str) -> bool:
    return any(part in message for part in ("is immutable", "cannot be taken back", "can neither come nor go"))


@pytest.mark.parametrize("kind", MINIMAL)
def test_every_rule_has_both_cases(kind: str) -> None:
    """Rules about a change of an object have theirs in test_immutability."""
    for message in messages(kind):
        if is_transition(message):
            continue
        for cases in (ACCEPTED, REFUSED):
            assert any(case.kind == kind and case.rule in message for case in cases), message


def test_field_names_of_models_are_those_of_the_rules() -> None:
    """A frozen field cannot be forgotten: the rules are made from the models."""
    for kind, model in ((BACKUP, BackupSpec), (RESTORE, RestoreSpec)):
        frozen = {message.split()[0] for message in messages(kind) if "is immutable" in message}
        assert frozen == {f"spec.{entry.alias}" for name, entry in model.model_fields.items() if name != "cancel"}
