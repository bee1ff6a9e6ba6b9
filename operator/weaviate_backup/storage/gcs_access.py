"""Who we are to Google Cloud Storage: a session that signs every request, as the location and its Secret say.

The kinds of credentials are told apart here instead of by google-auth's own loader: a Secret must not be able to name
a program that is run to get a token.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import google.auth
import google.auth.exceptions
from google.auth import identity_pool
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import credentials as user
from google.oauth2 import service_account

from weaviate_backup.answers import FEW
from weaviate_backup.api.location import GcsLocation
from weaviate_backup.core.credential_reach import Credential, Reach
from weaviate_backup.core.google_document import check_document
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.json_bounds import BeyondBounds
from weaviate_backup.storage.connections import prepare

SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
CREDENTIALS_KEY = "GOOGLE_APPLICATION_CREDENTIALS"
_AuthorizedSession: Any = AuthorizedSession  # neither is annotated
_AnonymousCredentials: Any = AnonymousCredentials
_Credentials: Any = Credentials
_SECRET = f"{CREDENTIALS_KEY} in the Secret of spec.gcs.credentialsSecretRef"
_LOADERS: dict[str, Callable[..., Any]] = {
    "service_account": service_account.Credentials.from_service_account_info,
    "external_account": identity_pool.Credentials.from_info,
    "authorized_user": user.Credentials.from_authorized_user_info,
}


def endpoint_of(location: GcsLocation) -> str:
    """Always said to the library, which else asks variables of the environment."""
    return (location.endpoint or "https://storage.googleapis.com").rstrip("/")


def new_session(
    location: GcsLocation, secret: Mapping[str, str], ca_file: str | None, reach: Reach
) -> AuthorizedSession:
    """A session for many threads that never tries again by itself. The authority is the store's, not the token's."""
    if location.use_auth:
        reach.check(Credential.TOKEN, endpoint_of(location), field="spec.gcs.endpoint")
    credentials = _credentials(location, secret, reach)
    renewing: dict[str, Any] = {} if location.use_auth else {"refresh_status_codes": ()}
    session: AuthorizedSession = _AuthorizedSession(credentials, **renewing)
    prepare(session, ca_file, reach)
    return session


def _credentials(location: GcsLocation, secret: Mapping[str, str], reach: Reach) -> Credentials:
    if not location.use_auth:
        return cast(Credentials, _AnonymousCredentials())
    if is_of_surroundings(location, secret):
        return cast(Credentials, _Surroundings())
    given = secret.get(CREDENTIALS_KEY, "").strip()
    if not given:
        raise Permanent("CredentialsMissing", f"there is no {_SECRET}; add that key, with a service account's JSON")
    info = _parsed(given)
    load = _LOADERS.get(str(info.get("type")))
    if load is None:
        known = ", ".join(_LOADERS)
        raise Permanent("CredentialsInvalid", f"{_SECRET} has type {str(info.get('type'))[:40]!r}; known are {known}")
    check_document(info, field=_SECRET, trusted=reach.trusted)
    try:
        return cast(Credentials, load(info, scopes=SCOPES))
    except (ValueError, KeyError, google.auth.exceptions.GoogleAuthError) as error:
        raise Permanent(
            "CredentialsInvalid", f"{_SECRET} is damaged or incomplete; put the JSON there as Google gave it"
        ) from error


def _parsed(given: str) -> dict[str, Any]:
    try:
        info = FEW.parse(given.encode())
    except BeyondBounds:
        raise Permanent("CredentialsInvalid", f"{_SECRET} is no key file: it is too large, or too deep") from None
    except json.JSONDecodeError as error:
        what = "holds a path" if given.startswith("/") else f"is no JSON (line {error.lineno})"
        # without its cause, which holds the whole text
        raise Permanent("CredentialsInvalid", f"{_SECRET} {what}; put the content of the key file there") from None
    if not isinstance(info, dict):
        raise Permanent("CredentialsInvalid", f"{_SECRET} is no JSON object; put the content of the key file there")
    return info


class _Surroundings(_Credentials):  # type: ignore[misc]  # it is Any
    """Workload identity of the pod's service account, or the node's own: looked for when a token is wanted, and again
    until it is found, since a new pod may not have it yet."""

    def __init__(self) -> None:
        super().__init__()
        self._found: Any = None

    def refresh(self, request: Any) -> None:
        if self._found is None:
            self._found = google.auth.default(scopes=SCOPES)[0]
        self._found.refresh(request)
        self.token, self.expiry = self._found.token, self._found.expiry


def is_of_surroundings(location: GcsLocation, secret: Mapping[str, str]) -> bool:
    """No credentials are named, so that the agents' own identity is used."""
    return location.use_auth and location.credentials_secret_ref is None and CREDENTIALS_KEY not in secret
