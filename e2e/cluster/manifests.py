"""The custom resources as a user writes them, and the Secret beside a location."""

import copy
from typing import Any

from e2e.cluster.surroundings import Store, StoreOfAnyKind

Manifest = dict[str, Any]
API_VERSION = "backup.weaviate.io/v1alpha1"


def secret(name: str, store: Store) -> Manifest:
    """Credentials of a store, under the names that the Weaviate chart uses."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key},
    }


def location(name: str, store: StoreOfAnyKind, *, path: str = "") -> list[Manifest]:
    """A location of any kind with its Secret, if it needs one, which has the same name."""
    spec = copy.deepcopy(store.location)
    place = spec[store.kind]
    if path:
        place["path"] = path
    objects: list[Manifest] = []
    if store.credentials:
        place["credentialsSecretRef"] = {"name": name}
        objects.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": store.credentials}
        )
    return [*objects, _resource("WeaviateBackupLocation", name, spec)]


def s3_location(
    name: str, store: Store, *, secret_name: str, path: str = "", bucket: str = "", endpoint: str = ""
) -> Manifest:
    """`bucket` and `endpoint` replace the store's own."""
    s3: Manifest = {
        "bucket": bucket or store.bucket,
        "endpoint": endpoint or store.host_and_port,
        "region": "us-east-1",
        "useSSL": False,
        "forcePathStyle": True,
        "credentialsSecretRef": {"name": secret_name},
    }
    if path:
        s3["path"] = path
    return _resource("WeaviateBackupLocation", name, {"s3": s3})


def backup(name: str, *, location: str = "s3", **spec: Any) -> Manifest:
    return _resource(
        "WeaviateBackup", name, {"target": {"statefulSet": "weaviate"}, "locationRef": {"name": location}, **spec}
    )


def restore(name: str, *, source: Manifest, **spec: Any) -> Manifest:
    return _resource("WeaviateRestore", name, {"target": {"statefulSet": "weaviate"}, "source": source, **spec})


def _resource(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
