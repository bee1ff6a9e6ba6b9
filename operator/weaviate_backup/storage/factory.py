"""Opens the store of a location. SDKs are imported only for the kind in use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weaviate_backup.api.location import CREDENTIAL_KEYS, LocationSpec
from weaviate_backup.core.credential_reach import NOBODY, TrustedHosts
from weaviate_backup.errors import Permanent
from weaviate_backup.storage.authority import certificates_in
from weaviate_backup.storage.beginning import OF_PROCESS, Beginning
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
    trusted: TrustedHosts = NOBODY,
    beginning: Beginning = OF_PROCESS,
) -> Retrying:
    """The location's store, with retries. `credentials` are the keys of its Secret; empty: the SDK's own chain. They go
    to the provider's own hosts and to `trusted` ones alone, if they are not only signed with. An identity that is not
    there yet is waited for, as `beginning` says."""
    _refuse_empty_secret(location, credentials)
    ca_pem = None if ca_pem is None else certificates_in(ca_pem, kind=location.kind)
    store = _open(
        location,
        filesystem_root,
        {
            "credentials": credentials,
            "ca_pem": ca_pem,
            "patience": patience,
            "trusted": trusted,
            "beginning": beginning,
        },
    )
    return Retrying(store, patience=patience)


def _refuse_empty_secret(location: LocationSpec, credentials: Mapping[str, str]) -> None:
    """Else the store would be asked with an identity that nobody named: the pod's, or the node's."""
    if location.gcs is not None and not location.gcs.use_auth:
        return
    named = location.credentials_secret or location.credential_keys
    wanted = CREDENTIAL_KEYS.get(location.kind, ())
    if named and not any(credentials.get(key) for key in wanted):
        raise Permanent(
            "CredentialsMissing",
            f"the Secret of spec.{location.kind}.credentialsSecretRef holds none of {', '.join(wanted)}; add what the "
            "store needs, or name no Secret to use the identity of the agents",
        )


def _open(location: LocationSpec, filesystem_root: Path | None, access: Mapping[str, Any]) -> ObjectStore:
    if location.s3 is not None:
        from weaviate_backup.storage.s3 import S3Store

        return S3Store(location.s3, **access)
    if location.filesystem is not None:
        from weaviate_backup.storage.filesystem import FilesystemStore

        if filesystem_root is None:
            raise Permanent("LocationNotMounted", "spec.filesystem.volume is not mounted here; check the agent's pod")
        return FilesystemStore(filesystem_root, path=location.filesystem.path)
    if location.gcs is not None:
        from weaviate_backup.storage.gcs import GcsStore

        return GcsStore(location.gcs, **access)
    if location.azure is not None:
        from weaviate_backup.storage.azure import AzureStore

        return AzureStore(location.azure, **access)
    raise Permanent("LocationInvalid", "spec names no kind of store; set exactly one of s3, gcs, azure, filesystem")
