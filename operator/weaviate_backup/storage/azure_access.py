"""Who we are to Azure Blob Storage: a client of the container, as the location and its Secret say.

A connection string wins over account and key, as in Weaviate's own module; without a key the identity of the agents is
used, and only then is azure-identity imported.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import ContainerClient

from weaviate_backup.api.location import AzureLocation
from weaviate_backup.core.credential_reach import Credential, Reach
from weaviate_backup.core.store_identity import connection_parts
from weaviate_backup.errors import Permanent
from weaviate_backup.storage.connections import prepare
from weaviate_backup.storage.patience import Patience

CONNECTION_STRING = "AZURE_STORAGE_CONNECTION_STRING"
ACCOUNT, KEY = "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY"
READ_BYTES = 1 << 50
"""At most of one request of a download: always all that is wanted, which is read as it comes."""
_SECRET = "the Secret of spec.azure.credentialsSecretRef"  # noqa: S105


def new_container(
    location: AzureLocation,
    secret: Mapping[str, str],
    *,
    whole_bytes: int,
    ca_file: str | None,
    patience: Patience,
    reach: Reach,
) -> ContainerClient:
    """A client for many threads that never tries again by itself. It puts up to `whole_bytes` in one request."""
    options: dict[str, Any] = {
        "transport": _transport(ca_file, patience, reach),
        "permit_redirects": False,
        "retry_total": 0,
        "max_single_put_size": whole_bytes,
        "max_block_size": whole_bytes,
        "max_single_get_size": READ_BYTES,
    }
    if given := secret.get(CONNECTION_STRING, "").strip():
        parts = _parsed(given)
        if location.endpoint:
            parts["BlobEndpoint"] = location.endpoint.rstrip("/")
        joined = ";".join(f"{name}={value}" for name, value in parts.items())
        try:
            client = ContainerClient.from_connection_string(joined, location.container, **options)
        except ValueError as error:
            raise _incomplete() from error
        if "sig=" in client.url:  # as the library has read the string, which may say things twice
            field = "spec.azure.endpoint" if location.endpoint else f"the address in {CONNECTION_STRING} of {_SECRET}"
            reach.check(Credential.SHARED_ACCESS, client.url, field=field)
        return client
    account = secret.get(ACCOUNT, "").strip() or location.account
    if not account:
        raise Permanent(
            "CredentialsMissing",
            f"no storage account: {_SECRET} needs {CONNECTION_STRING}, or {ACCOUNT} and {KEY}; or set "
            "spec.azure.account to use the identity of the agents",
        )
    url = (location.endpoint or f"https://{account}.blob.core.windows.net").rstrip("/")
    key = secret.get(KEY, "").strip()
    if not key:
        field = "spec.azure.endpoint" if location.endpoint else "the address of the storage account"
        reach.check(Credential.TOKEN, url, field=field)
    credential: Any = {"account_name": account, "account_key": _checked(key, KEY)} if key else _identity()
    return ContainerClient(url, location.container, credential=credential, **options)


def is_of_agents(secret: Mapping[str, str]) -> bool:
    """No credentials are named, so that the agents' own identity is used."""
    return not any(secret.get(name, "").strip() for name in (CONNECTION_STRING, KEY))


def _transport(ca_file: str | None, patience: Patience, reach: Reach) -> RequestsTransport:
    session = requests.Session()
    prepare(session, ca_file, reach)
    return RequestsTransport(
        session=session,
        connection_timeout=patience.read_seconds,  # it counts while a request is sent, too
        read_timeout=patience.read_seconds,
    )


def _parsed(given: str) -> dict[str, str]:
    """The parts of a connection string, which must hold an account and something to prove who we are."""
    if given.strip("; ") == "UseDevelopmentStorage=true":
        raise Permanent(
            "CredentialsInvalid", f"{CONNECTION_STRING} in {_SECRET} names no account; write it out in full"
        )
    parts = connection_parts(given)
    if not (parts.get("AccountName") or parts.get("BlobEndpoint")):
        raise _incomplete()
    if parts.get("AccountKey"):
        _checked(parts["AccountKey"], CONNECTION_STRING)
    elif not parts.get("SharedAccessSignature"):
        raise _incomplete()
    return parts


def _incomplete() -> Permanent:
    return Permanent(
        "CredentialsInvalid",
        f"{CONNECTION_STRING} in {_SECRET} is cut short: it needs AccountName and AccountKey, or BlobEndpoint and "
        "SharedAccessSignature; copy it as the portal shows it",
    )


def _checked(key: str, name: str) -> str:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Permanent(
            "CredentialsInvalid", f"the account's key in {name} of {_SECRET} is no base64; it is cut short or mistyped"
        ) from error
    return key


def _identity() -> Any:
    """Workload identity of the pod's service account, or the node's managed identity."""
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential(
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_cli_credential=True,
        exclude_developer_cli_credential=True,
        exclude_powershell_credential=True,
        exclude_interactive_browser_credential=True,
    )
