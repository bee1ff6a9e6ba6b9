"""What Google Cloud Storage and the way to it answer, as our errors: the one judge of that conversation.

Every message names the field of the location, its value and the cure; none holds a token or a key.
"""

import ssl
from typing import Any

import google.auth.exceptions
import requests.exceptions
from google.api_core.exceptions import GoogleAPICallError, from_http_response

from weaviate_backup.api.location import GcsLocation
from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent, Transient, excerpt
from weaviate_backup.storage.wording import certificate_trouble, retry_after_seconds

NO_BUCKET = "bucket does not exist"
"""Of Google's message; an object that is missing has another."""


def classify(  # noqa: PLR0911 (a table of failures)
    error: Exception, *, key: str, location: GcsLocation
) -> BackupError:
    """Never raises; chain the result to `error`."""
    if isinstance(error, GoogleAPICallError):
        return _of_answer(error, key, location)
    if isinstance(error, google.auth.exceptions.TransportError):
        return Transient(
            "EndpointUnreachable",
            "the server that gives tokens cannot be reached; check NetworkPolicies, and token_uri in the JSON of "
            "spec.gcs.credentialsSecretRef",
        )
    if isinstance(error, google.auth.exceptions.RefreshError):
        return _of_token(error)
    if isinstance(error, google.auth.exceptions.DefaultCredentialsError):
        return Permanent(
            "CredentialsMissing",
            "no credentials: set spec.gcs.credentialsSecretRef (GOOGLE_APPLICATION_CREDENTIALS), give the agents an "
            "identity with spec.serviceAccountName, or set spec.gcs.useAuth to false",
        )
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        return Permanent("InvalidCredentials", "the store wants other credentials; check spec.gcs.credentialsSecretRef")
    if isinstance(error, requests.exceptions.SSLError | ssl.SSLError) or _is_authority_file(error):
        return Permanent(
            "CertificateRefused",
            f"spec.gcs.endpoint {location.endpoint!r}: {certificate_trouble(str(error))}; set spec.gcs.caSecretRef",
        )
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return Permanent("LocationInvalid", f"spec.gcs.endpoint {location.endpoint!r} is no URL of a server")
    return _of_line(error, location)


def is_of_identity(error: Exception) -> bool:
    """It came up while a token was wanted, and no store was asked."""
    return isinstance(error, google.auth.exceptions.GoogleAuthError)


def no_bucket(location: GcsLocation) -> Permanent:
    return Permanent("BucketNotFound", f"spec.gcs.bucket {location.bucket!r} does not exist; create it or name another")


def answer_failure(response: requests.Response, *, key: str, location: GcsLocation) -> BackupError:
    """Of an answer that was asked for without the client library."""
    made: Any = from_http_response
    return classify(made(response), key=key, location=location)


def _of_token(error: google.auth.exceptions.RefreshError) -> BackupError:
    if getattr(error, "retryable", False) or isinstance(error.__cause__, google.auth.exceptions.TransportError):
        return Transient("TokenUnavailable", "the server that gives tokens is busy")
    said = str(error.args[0]) if error.args else ""
    code = said.partition(":")[0] if len(said) < 200 else ""
    return Permanent(
        "InvalidCredentials",
        f"no token for the credentials of spec.gcs.credentialsSecretRef or spec.serviceAccountName: "
        f"{excerpt(code or 'refused', 60)}; mend the Secret or the workload identity",
    )


def _is_authority_file(error: Exception) -> bool:
    """requests says so when the file holds no certificate."""
    return isinstance(error, OSError) and "certificate" in str(error).lower()


def _of_line(error: Exception, location: GcsLocation) -> Transient:
    where = f"spec.gcs.endpoint {location.endpoint!r}" if location.endpoint else "Google Cloud Storage"
    if isinstance(error, requests.exceptions.ConnectTimeout) or "Max retries exceeded" in str(error):
        return Transient("EndpointUnreachable", f"{where} cannot be reached; check endpoint and NetworkPolicies")
    if isinstance(error, ValueError | requests.exceptions.TooManyRedirects):
        return Transient(
            "EndpointWrong",
            f"{where} answers, but not as Google Cloud Storage does; name the store's own address, not that of its "
            "console or of another service",
        )
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):
        said = "takes connections but does not answer in time; check the store, the port and proxies"
    elif "Connection aborted" in str(error) or isinstance(error, ConnectionError):
        said = "hung up without an answer; check the store, the port and the scheme"
    else:
        said = f"broke off: {type(error).__name__}: {excerpt(str(error), 120)}"
    return Transient("StoreUnavailable", f"{where} {said}")


def _of_answer(  # noqa: PLR0911 (a table of answers)
    error: GoogleAPICallError, key: str, location: GcsLocation
) -> BackupError:
    status = int(error.code or 0)
    said = excerpt(_without_address(str(error.message or "")), 120)
    what = f"spec.gcs.bucket {location.bucket!r}" + (f", {key}" if key else "")
    if status == 404 and (not key or NO_BUCKET in said):
        return no_bucket(location)
    if status == 404:
        return ObjectNotFound(key)
    if status == 412:
        return ObjectExists(key)
    if status == 416:
        return Permanent("RangeOutside", f"{what}: the object ends before the wanted bytes")
    if status == 401:
        return Permanent(
            "InvalidCredentials",
            f"the store refuses the credentials of spec.gcs.credentialsSecretRef: {said}; mend the Secret, or set "
            "spec.gcs.useAuth",
        )
    if status == 403:
        return Permanent(
            "AccessDenied",
            f"{what}: {said or 'forbidden'}; the identity needs storage.objects.get, create, list and delete",
        )
    if status == 429:
        return Transient("Throttled", f"{what}: {said}", retry_after_seconds=_retry_after(error))
    if status == 501:
        return Permanent("OperationUnsupported", f"{what}: {said}; the store lacks what a backup needs")
    if status >= 500 or status in (408, 409, 410):
        return Transient(
            "StoreUnavailable", f"{what}: {status} {said}".rstrip(), retry_after_seconds=_retry_after(error)
        )
    return Permanent("StoreRefused", f"{what}: {status} {said}".rstrip())


def _without_address(message: str) -> str:
    """The library puts `METHOD URL: ` in front of what the store said."""
    head, found, rest = message.partition(": ")
    return rest if found and "://" in head else message


def _retry_after(error: GoogleAPICallError) -> float | None:
    return retry_after_seconds(str(getattr(error.response, "headers", {}).get("Retry-After", "")))
