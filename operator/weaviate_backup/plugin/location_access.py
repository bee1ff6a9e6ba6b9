"""A location with all that opens it, found in a cluster with the rights of whoever asks.

Credentials stay in memory and are shown nowhere.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from weaviate_backup.api.backup import Backup, BackupPhase
from weaviate_backup.api.location import CREDENTIAL_KEYS, CUSTOMER_KEY, LocationSpec, SecretKeyReference
from weaviate_backup.api.reading import read_object
from weaviate_backup.core.copy_plan import place_of
from weaviate_backup.core.credential_reach import NOBODY, TrustedHosts
from weaviate_backup.core.secret_purpose import check_customer_key
from weaviate_backup.core.store_identity import connection_parts
from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.kube import BACKUPS, LOCATIONS, SECRETS, Kube
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.patience import USUAL

AT_A_TERMINAL = replace(USUAL, identity_seconds=0)
"""A person's identity is there, or missing."""


@dataclass(frozen=True)
class LocationAccess:
    """`directory`: where the volume of a filesystem location is mounted on this machine."""

    location: LocationSpec
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_pem: bytes | None = field(default=None, repr=False)
    directory: Path | None = None

    @property
    def place(self) -> str:
        """Where backups lie, to be compared with another."""
        named = connection_parts(self.credentials.get("AZURE_STORAGE_CONNECTION_STRING", ""))
        account = named.get("BlobEndpoint") or named.get("AccountName") or self.credentials.get("AZURE_STORAGE_ACCOUNT")
        directory = str(self.directory.resolve()) if self.directory else ""
        return place_of(self.location, directory=directory, account=account or "")

    def open(self, trusted: TrustedHosts = NOBODY) -> ObjectStore:
        if self.location.filesystem is not None and self.directory is None:
            raise Permanent(
                "LocationNotMounted",
                f"{self.location.address} is a volume: mount it here and name its root with --from-directory or "
                "--to-directory, or run this command in a Pod that mounts it",
            )
        return open_store(
            self.location,
            credentials=self.credentials,
            ca_pem=self.ca_pem,
            filesystem_root=self.directory,
            trusted=trusted,
            patience=AT_A_TERMINAL,
        )


async def location_in_cluster(
    kube: Kube, namespace: str, name: str, *, writing: bool, directory: Path | None
) -> LocationAccess:
    """A WeaviateBackupLocation with its Secrets."""
    found = await kube.get(LOCATIONS, namespace, name)
    if found is None:
        raise Permanent("LocationNotFound", f"there is no WeaviateBackupLocation {name!r} in namespace {namespace}")
    location = validated(found["spec"], f"location {name}")
    refuse_use(location, f"location {name}", writing=writing)
    return await _with_secrets(kube, namespace, location, directory)


async def location_of_backup(
    kube: Kube, namespace: str, name: str, *, directory: Path | None
) -> tuple[LocationAccess, str]:
    """Where a completed WeaviateBackup lies, and its identifier there."""
    found = await kube.get(BACKUPS, namespace, name)
    if found is None:
        message = f"there is no WeaviateBackup {name!r} in namespace {namespace}; with a backup's ID, say --from"
        raise Permanent("BackupNotFound", message)
    status = read_object(Backup, found, where=f"backup {name}", cure="say --from instead").status
    if status.phase is not BackupPhase.COMPLETED or status.location is None or status.backup_id is None:
        message = f"WeaviateBackup {name!r} is {status.phase}, and only a Completed one is copied"
        raise Permanent("BackupNotCompleted", message)
    return await _with_secrets(kube, namespace, status.location, directory), status.backup_id


async def _with_secrets(kube: Kube, namespace: str, location: LocationSpec, directory: Path | None) -> LocationAccess:
    credentials: dict[str, str] = {}
    if location.credentials_secret:
        data = await _secret(kube, namespace, location.credentials_secret)
        credentials = {key: _text(data[key]) for key in CREDENTIAL_KEYS.get(location.kind, ()) if key in data}
    for reference in location.credential_keys:
        credentials[reference.key] = _text(await _secret_key(kube, namespace, reference))
    if location.customer_key:
        check_customer_key(location.customer_key)
        credentials[CUSTOMER_KEY] = _text(await _secret_key(kube, namespace, location.customer_key))
    ca_pem = await _secret_key(kube, namespace, location.authority) if location.authority else None
    return LocationAccess(location, credentials, ca_pem, directory)


def _text(value: bytes) -> str:
    return value.decode(errors="replace").rstrip("\r\n")


async def _secret(kube: Kube, namespace: str, name: str) -> dict[str, bytes]:
    found = await kube.get(SECRETS, namespace, name)
    if found is None:
        message = f"there is no Secret {name!r} in namespace {namespace}, which the location names"
        raise Permanent("SecretNotFound", message)
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in (found.get("data") or {}).items()}
    except binascii.Error as error:
        raise Permanent("SecretUnreadable", f"Secret {name!r} in namespace {namespace} is not base64") from error


async def _secret_key(kube: Kube, namespace: str, reference: SecretKeyReference) -> bytes:
    data = await _secret(kube, namespace, reference.name)
    if reference.key not in data:
        raise Permanent("SecretKeyNotFound", f"Secret {reference.name!r} has no key {reference.key!r}")
    return data[reference.key]


def refuse_use(location: LocationSpec, what: str, *, writing: bool) -> None:
    """Raise when the location itself forbids it. `what` names it for people."""
    if location.suspend:
        raise Permanent("LocationSuspended", f"{what} is suspended (spec.suspend)")
    if writing and location.read_only:
        raise Permanent("LocationReadOnly", f"{what} is read-only (spec.readOnly)")


def validated(spec: Any, what: str) -> LocationSpec:
    """The spec as a model, or `LocationInvalid` with the field."""
    try:
        location = LocationSpec.model_validate(spec)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(("spec", *(str(part) for part in first["loc"])))
        raise Permanent("LocationInvalid", f"{what}: {where}: {excerpt(first['msg'], 120)}") from error
    if sum(store is not None for store in (location.s3, location.gcs, location.azure, location.filesystem)) != 1:
        raise Permanent("LocationInvalid", f"{what}: set exactly one of s3, gcs, azure and filesystem")
    return location
