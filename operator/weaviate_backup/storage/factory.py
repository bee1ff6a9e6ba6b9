"""Opens the store of a location. SDKs are imported only for the kind in use."""

from collections.abc import Mapping
from pathlib import Path

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.errors import Permanent
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.patience import USUAL, Patience
from weaviate_backup.storage.retry import Retrying


def open_store(
    location: LocationSpec,
    *,
    credentials: Mapping[str, str],
    ca_pem: bytes | None = None,
    filesystem_root: Path | None = None,
    patience: Patience = USUAL,
) -> Retrying:
    """The location's store, with retries. `credentials` are the keys of its Secret; empty: the SDK's own chain."""
    return Retrying(_open(location, credentials, ca_pem, filesystem_root, patience), patience=patience)


def _open(
    location: LocationSpec,
    credentials: Mapping[str, str],
    ca_pem: bytes | None,
    filesystem_root: Path | None,
    patience: Patience,
) -> ObjectStore:
    if location.s3 is not None:
        from weaviate_backup.storage.s3 import S3Store

        return S3Store(location.s3, credentials=credentials, ca_pem=ca_pem, patience=patience)
    if location.filesystem is not None:
        from weaviate_backup.storage.filesystem import FilesystemStore

        if filesystem_root is None:
            raise Permanent("LocationNotMounted", "spec.filesystem.volume is not mounted here; check the agent's pod")
        return FilesystemStore(filesystem_root, path=location.filesystem.path)
    if location.gcs is not None:
        from weaviate_backup.storage.gcs import GcsStore

        return GcsStore(location.gcs, credentials=credentials, ca_pem=ca_pem, patience=patience)
    if location.azure is not None:
        from weaviate_backup.storage.azure import AzureStore

        return AzureStore(location.azure, credentials=credentials, ca_pem=ca_pem, patience=patience)
    raise Permanent("LocationInvalid", "spec names no kind of store; set exactly one of s3, gcs, azure, filesystem")
