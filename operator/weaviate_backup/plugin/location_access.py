"""A location with all that opens it: found in a cluster, or in a file with credentials from the environment.

Credentials stay in memory and are shown nowhere.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from weaviate_backup.api.backup import Backup, BackupPhase
from weaviate_backup.api.location import CUSTOMER_KEY, LocationSpec, SecretKeyReference
from weaviate_backup.api.names import LOCATION_KIND
from weaviate_backup.core.copy_plan import place_of
from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.kube import BACKUPS, LOCATIONS, SECRETS, Kube
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore

GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS"
CREDENTIAL_NAMES = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", CUSTOMER_KEY),
    "gcs": (GOOGLE,),
    "azure": ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY"),
    "filesystem": (),
}


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
        pairs = (part.partition("=") for part in self.credentials.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";"))
        named = {name: value for name, _, value in pairs}
        account = named.get("BlobEndpoint") or named.get("AccountName") or self.credentials.get("AZURE_STORAGE_ACCOUNT")
        directory = str(self.directory.resolve()) if self.directory else ""
        return place_of(self.location, directory=directory, account=account or "")

    def open(self) -> ObjectStore:
        if self.location.filesystem is not None and self.directory is None:
            raise Permanent(
                "LocationNotMounted",
                f"{self.location.address} is a volume: mount it here and name its root with --from-directory or "
                "--to-directory, or run this command in a Pod that mounts it",
            )
        return open_store(
            self.location, credentials=self.credentials, ca_pem=self.ca_pem, filesystem_root=self.directory
        )


async def location_in_cluster(
    kube: Kube, namespace: str, name: str, *, writing: bool, directory: Path | None
) -> LocationAccess:
    """A WeaviateBackupLocation with its Secrets."""
    found = await kube.get(LOCATIONS, namespace, name)
    if found is None:
        raise Permanent("LocationNotFound", f"there is no WeaviateBackupLocation {name!r} in namespace {namespace}")
    location = _validated(found["spec"], f"location {name}")
    _refuse_use(location, f"location {name}", writing=writing)
    return await _with_secrets(kube, namespace, location, directory)


async def location_of_backup(
    kube: Kube, namespace: str, name: str, *, directory: Path | None
) -> tuple[LocationAccess, str]:
    """Where a completed WeaviateBackup lies, and its identifier there."""
    found = await kube.get(BACKUPS, namespace, name)
    if found is None:
        message = f"there is no WeaviateBackup {name!r} in namespace {namespace}; with a backup's ID, say --from"
        raise Permanent("BackupNotFound", message)
    status = Backup.model_validate(found).status
    if status.phase is not BackupPhase.COMPLETED or status.location is None or status.backup_id is None:
        message = f"WeaviateBackup {name!r} is {status.phase}, and only a Completed one is copied"
        raise Permanent("BackupNotCompleted", message)
    return await _with_secrets(kube, namespace, status.location, directory), status.backup_id


def location_in_file(
    path: Path,
    environment: Mapping[str, str],
    *,
    prefix: str,
    writing: bool,
    ca_file: Path | None = None,
    directory: Path | None = None,
) -> LocationAccess:
    """A location's YAML, as it would be applied. A variable named `prefix` and the credential's name goes before one of
    the plain name, so that two stores of one kind can have different keys.
    """
    spec = _spec_in(path)
    location = _validated(spec, str(path))
    if unknown := next(_unknown(spec, location.model_dump(mode="json", by_alias=True), "spec"), None):
        raise Permanent("LocationInvalid", f"{path}: there is no field {unknown}; correct it or leave it away")
    _refuse_use(location, str(path), writing=writing)
    credentials = {}
    for name in CREDENTIAL_NAMES[location.kind]:
        value = environment.get(f"{prefix}{name}") or environment.get(name)
        if value:
            credentials[name] = _google_key(value) if name == GOOGLE else value
    if location.credentials_secret and not credentials.keys() - {CUSTOMER_KEY}:
        wanted = ", ".join(CREDENTIAL_NAMES[location.kind])
        message = f"{path} names Secret {location.credentials_secret!r}: set its keys in the environment ({wanted}"
        raise Permanent("CredentialsMissing", f"{message}, each also with {prefix} in front)")
    return LocationAccess(location, credentials, ca_file.read_bytes() if ca_file else None, directory)


async def _with_secrets(kube: Kube, namespace: str, location: LocationSpec, directory: Path | None) -> LocationAccess:
    credentials: dict[str, str] = {}
    if location.credentials_secret:
        data = await _secret(kube, namespace, location.credentials_secret)
        credentials = {key: value.decode(errors="replace").rstrip("\r\n") for key, value in data.items()}
    if location.customer_key:
        key = await _secret_key(kube, namespace, location.customer_key)
        credentials[CUSTOMER_KEY] = key.decode(errors="replace").rstrip("\r\n")
    ca_pem = await _secret_key(kube, namespace, location.authority) if location.authority else None
    return LocationAccess(location, credentials, ca_pem, directory)


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


def _refuse_use(location: LocationSpec, what: str, *, writing: bool) -> None:
    if location.suspend:
        raise Permanent("LocationSuspended", f"{what} is suspended (spec.suspend)")
    if writing and location.read_only:
        raise Permanent("LocationReadOnly", f"{what} is read-only (spec.readOnly)")


def _spec_in(path: Path) -> Any:
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent("FileUnreadable", f"{path} cannot be read: {excerpt(str(error), 120)}") from error
    except yaml.YAMLError as error:
        raise Permanent("FileUnreadable", f"{path} is no YAML: {excerpt(str(error), 120)}") from error
    found = [each for each in documents if isinstance(each, dict) and each.get("kind") == LOCATION_KIND]
    if len(found) != 1:
        raise Permanent("LocationInvalid", f"{path} holds {len(found)} objects of kind {LOCATION_KIND}, not one")
    return found[0].get("spec")


def _validated(spec: Any, what: str) -> LocationSpec:
    try:
        location = LocationSpec.model_validate(spec)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(("spec", *(str(part) for part in first["loc"])))
        raise Permanent("LocationInvalid", f"{what}: {where}: {excerpt(first['msg'], 120)}") from error
    if not location.kind:
        raise Permanent("LocationInvalid", f"{what}: set exactly one of s3, gcs, azure and filesystem")
    return location


def _unknown(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> Iterator[str]:
    """Fields that an API server would refuse."""
    for name, value in given.items():
        if name not in known:
            yield f"{where}.{name}"
        elif isinstance(value, dict) and isinstance(known[name], dict):
            yield from _unknown(value, known[name], f"{where}.{name}")


def _google_key(value: str) -> str:
    """The environment names a file, a Secret holds its content."""
    if value.lstrip().startswith("{"):
        return value
    try:
        return Path(value).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent("CredentialsMissing", f"{GOOGLE} names a file that cannot be read") from error
