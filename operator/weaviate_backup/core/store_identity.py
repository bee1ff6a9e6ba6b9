"""As whom a store is asked, said so that whoever grants rights finds it, and nobody learns a secret. Pure."""

import json
from collections.abc import Mapping

from weaviate_backup.api.location import LocationSpec

SHOWN_FROM = 12
"""Shorter access keys may be chosen by people, who reuse words."""


def identity_of(location: LocationSpec, credentials: Mapping[str, str], *, user: str) -> str:
    """`credentials` as agents find them; `user` is the process's own `uid:gid`, which a file system goes by."""
    cloud = f"the cloud identity of service account {location.service_account_name or 'default'}, or of the node"
    match location.kind:
        case "s3":
            key = credentials.get("AWS_ACCESS_KEY_ID", "")
            return f"access key {_shortened(key)}" if key else cloud
        case "gcs":
            if location.gcs is not None and not location.gcs.use_auth:
                return "anonymous"
            document = credentials.get("GOOGLE_APPLICATION_CREDENTIALS", "")
            return _of_document(document) if document else cloud
        case "azure":
            return _of_account(location, credentials) or cloud
        case _:
            return f"user {user}"


def connection_parts(connection_string: str) -> dict[str, str]:
    """Of Azure's `Name=value;Name=value`; what has no value is left out."""
    return dict(part.split("=", 1) for part in connection_string.split(";") if "=" in part)


def _shortened(key: str) -> str:
    return f"{key[:4]}…{key[-4:]}" if len(key) >= SHOWN_FROM else f"{key[:2]}…"


def _of_document(document: str) -> str:
    try:
        value = json.loads(document)
    except (RecursionError, ValueError):
        value = None
    if not isinstance(value, dict):
        return "an unreadable key"
    if isinstance(value.get("client_email"), str):
        return f"service account {value['client_email'][:128]}"
    return "workload identity federation" if value.get("type") == "external_account" else "an unreadable key"


def _of_account(location: LocationSpec, credentials: Mapping[str, str]) -> str | None:
    parts = connection_parts(credentials.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    account = parts.get("AccountName") or credentials.get("AZURE_STORAGE_ACCOUNT")
    if "SharedAccessSignature" in parts:
        return f"a shared access signature of account {account}" if account else "a shared access signature"
    if parts.get("AccountKey") or credentials.get("AZURE_STORAGE_KEY"):
        return f"the key of account {account}" if account else "the key of an account without name"
    return None
