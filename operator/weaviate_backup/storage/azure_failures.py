"""What Azure Blob Storage and the way to it answer, as our errors: the one judge of that conversation.

Every message names the field of the location, its value and the cure. What the client library says of a broken line is
never passed on, because the address in it may carry a shared access signature.
"""

import re
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from weaviate_backup.api.location import AzureLocation
from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent, Transient, excerpt
from weaviate_backup.storage.wording import certificate_trouble, retry_after_seconds

THROTTLING = frozenset({"ServerBusy", "TooManyRequests", "AccountIsThrottled"})
BAD_CREDENTIALS = frozenset(
    {"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation", "InvalidAccountKey"}
)
NO_CONTAINER = frozenset({"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"})
TAKEN = frozenset({"BlobAlreadyExists", "ConditionNotMet"})
LOST_RACE = frozenset({"InvalidBlockList", "InvalidBlobOrBlock", "BlobBeingRehydrated"})
"""Another writer of the same blob was first, and with its end our blocks were gone."""
_TOKENS = re.compile(r"/oauth2/|/metadata/identity/")
"""In the address of who gives tokens."""


def classify(error: Exception, *, key: str, location: AzureLocation) -> BackupError:
    """Never raises. Chain the result to `error` unless `holds_secret(error)`."""
    if is_of_identity(error):
        return _of_identity(error)
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return _of_answer(error, key, location)
    return _of_line(error, location)


def is_of_identity(error: Exception) -> bool:
    """It came up while a token was wanted, and no store was asked."""
    if not isinstance(error, ClientAuthenticationError):
        return False
    request: Any = getattr(error.response, "request", None)
    return error.status_code is None or _TOKENS.search(str(getattr(request, "url", ""))) is not None


def _of_identity(error: Exception) -> BackupError:
    status = getattr(error, "status_code", None) or 0
    if status >= 500 or status in (408, 429):
        return Transient("TokenUnavailable", f"the server that gives tokens is busy ({status})")
    return Permanent(
        "InvalidCredentials",
        "no token for the agents' identity: check spec.serviceAccountName and its workload identity, or set "
        "spec.azure.credentialsSecretRef",
    )


def holds_secret(error: Exception) -> bool:
    """Whether the text of this error, or of what it was made from, may carry a signature."""
    return "sig=" in f"{error}{error.__cause__}{error.__context__}"


def _of_line(error: Exception, location: AzureLocation) -> BackupError:
    where = f"spec.azure.endpoint {location.endpoint!r}" if location.endpoint else "Azure Blob Storage"
    text = str(error)
    if "certificate" in text.lower() or "SSLError" in text or "[SSL" in text or "[X509" in text:
        return Permanent("CertificateRefused", f"{where}: {certificate_trouble(text)}; set spec.azure.caSecretRef")
    if isinstance(error, ServiceRequestError):
        return Transient(
            "EndpointUnreachable", f"{where} cannot be reached; check endpoint, the account's name and NetworkPolicies"
        )
    cause = error.__cause__ if isinstance(error, AzureError) and error.__cause__ else error
    if isinstance(cause, ValueError):
        return Transient(
            "EndpointWrong",
            f"{where} answers, but not as Azure Blob Storage does; name the account's own address, not that of a "
            "console or of another service",
        )
    if "timed out" in text.lower():
        said = "takes connections but does not answer in time; check the store, the port and proxies"
    elif isinstance(error, ServiceResponseError):
        said = "hung up without an answer; check the store, the port and the scheme"
    else:
        said = f"broke off ({type(cause).__name__})"
    return Transient("StoreUnavailable", f"{where} {said}")


def _of_answer(  # noqa: PLR0911 (a table of answers)
    error: HttpResponseError, key: str, location: AzureLocation
) -> BackupError:
    status, code = int(error.status_code or 0), code_of(error)
    what = f"spec.azure.container {location.container!r}" + (f", {key}" if key else "")
    if code in BAD_CREDENTIALS or status == 401:
        return Permanent(
            "InvalidCredentials",
            f"the store refuses the credentials of spec.azure.credentialsSecretRef or the agents' identity: "
            f"{code or status}; mend the Secret, or set spec.azure.account",
        )
    if code in NO_CONTAINER or (status == 404 and not key):
        return Permanent(
            "BucketNotFound", f"spec.azure.container {location.container!r} does not exist; create it or name another"
        )
    if status == 404:
        return ObjectNotFound(key)
    if code in TAKEN or status == 412:
        return ObjectExists(key)
    if code in LOST_RACE:
        return Transient("ConcurrentWrite", f"{what}: another write was first ({code})")
    if status == 416:
        return Permanent("RangeOutside", f"{what}: the object ends before the wanted bytes")
    if status == 403:
        return Permanent(
            "AccessDenied",
            f"{what}: {code or 'forbidden'}; who spec.azure.credentialsSecretRef or the agents' identity stands for "
            "needs to read, write, list and delete blobs, as the role Storage Blob Data Contributor may",
        )
    if status == 429 or code in THROTTLING:
        return Transient("Throttled", f"{what}: {code or status}", retry_after_seconds=_retry_after(error))
    if status == 501:
        return Permanent("OperationUnsupported", f"{what}: {code}; the store lacks what a backup needs")
    if status >= 500 or status < 300 or status == 408 or code == "Md5Mismatch":  # 200 and no document: it was cut off
        said = f"{what}: {status} {code}".rstrip()
        return Transient("StoreUnavailable", said, retry_after_seconds=_retry_after(error))
    return Permanent("StoreRefused", f"{what}: {status} {code}; {_first_sentence(error)}")


def code_of(error: HttpResponseError) -> str:
    """The store's own word, such as `BlobNotFound`; an answer without a body has it in a header."""
    code = getattr(error, "error_code", None)
    if code is None:
        code = _header(error, "x-ms-error-code")
    return str(getattr(code, "value", code) or "")


def _header(error: HttpResponseError, name: str) -> str:
    headers: Any = getattr(error.response, "headers", None)
    return str(headers.get(name, "")) if headers is not None else ""


def _first_sentence(error: HttpResponseError) -> str:
    return excerpt(str(error.message or "").partition("RequestId")[0].partition("\n")[0], 100)


def _retry_after(error: HttpResponseError) -> float | None:
    return retry_after_seconds(_header(error, "Retry-After"))
