"""Objects of our kinds for tests: the smallest that is valid, and one with every field of its spec set."""

from typing import Any

from weaviate_backup.api.names import API_VERSION

Json = dict[str, Any]

PUBLIC_KEY = "A" * 43 + "="
_PEM = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
PUBLIC_PEM = f"-----BEGIN PUBLIC KEY-----\n{_PEM}\n-----END PUBLIC KEY-----\n"

MINIMAL: dict[str, Json] = {
    "WeaviateBackup": {"locationRef": {"name": "bucket"}},
    "WeaviateRestore": {"source": {"backupRef": {"name": "nightly"}}},
    "WeaviateBackupLocation": {"s3": {"bucket": "backups"}},
}

_OPERATION: Json = {
    "target": {"statefulSet": "vectors"},
    "include": ["Article", "Book*"],
    "auth": {"apiKeySecretRef": {"name": "weaviate-keys", "key": "admin"}},
    "agent": {
        "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"cpu": 2, "memory": "1Gi"}},
        "priorityClassName": "important",
        "nodeSelector": {"disk": "fast"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "method": "Agent",
    "timeout": "1h30m",
    "cancel": False,
}
FULL: dict[str, Json] = {
    "WeaviateBackup": {
        **_OPERATION,
        "locationRef": {"name": "bucket"},
        "backupID": "nightly-2026_11_25",
        "config": {"cpuPercentage": 80, "chunkSize": 2, "compressionLevel": "NoCompression", "path": "other/place"},
        "deletionPolicy": "Delete",
    },
    "WeaviateRestore": {
        **_OPERATION,
        "source": {"locationRef": {"name": "bucket"}, "backupID": "nightly", "backupSHA256": "0f" * 32},
        "config": {
            "cpuPercentage": 1,
            "path": "other/place",
            "rolesOptions": "all",
            "usersOptions": "noRestore",
            "moduleAddresses": ["https://models.example.com/v1"],
        },
        "nodeMapping": {"weaviate-0": "vectors-0"},
        "overwriteAlias": True,
        "dryRun": True,
    },
    "WeaviateBackupLocation": {
        "s3": {
            "bucket": "backups",
            "path": "weaviate/prod",
            "endpoint": "minio.storage:9000",
            "region": "eu-central-1",
            "useSSL": False,
            "forcePathStyle": True,
            "credentialsSecretRef": {"name": "backup-s3"},
            "credentialKeyRefs": [{"name": "tokens", "key": "AWS_SESSION_TOKEN"}],
            "caSecretRef": {"name": "ca", "key": "ca.crt"},
            "serverSideEncryption": {"algorithm": "aws:kms", "kmsKeyID": "alias/backups"},
            "storageClass": "STANDARD_IA",
            "tags": {"team": "search"},
            "metadata": {"purpose": "backup"},
        },
        "serviceAccountName": "backups",
        "signing": {"keySecretRef": {"name": "signer", "key": "pem"}},
        "verify": {"publicKeys": [PUBLIC_KEY, PUBLIC_PEM], "requireSigned": True},
        "readOnly": True,
        "suspend": True,
    },
}


def manifest(kind: str, spec: Json, *, name: str = "nightly", namespace: str = "default") -> Json:
    """A whole object."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def merged(first: Json, second: Json) -> Json:
    """`second` laid over `first`, objects key by key; None takes a key away."""
    made = dict(first)
    for key, value in second.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict) and isinstance(made.get(key), dict):
            made[key] = merged(made[key], value)
        else:
            made[key] = value
    return made
