"""What S3 and the way to it answer, as our errors: the one judge of that conversation.

Every message names the field of the location, its value and the cure; none holds a key.
"""

from typing import Any

import botocore.exceptions

from weaviate_backup.api.location import S3Location
from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent, Transient, excerpt
from weaviate_backup.storage.wording import NO_TLS, certificate_trouble, retry_after_seconds

DEFAULT_REGION = "us-east-1"
THROTTLING = frozenset({"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"})
BAD_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "XAdminUserNotFound"}
)
OTHER_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
LOST_ON_THE_WAY = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InvalidPart",
        "NoSuchUpload",
        "OperationAborted",
        "RequestTimeout",
        "XAmzContentChecksumMismatch",
    }
)
"""What arrived is not what was sent, or an upload is not as it was left: starting again helps."""


def code_of(error: Exception) -> str:
    if isinstance(error, botocore.exceptions.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def classify(error: Exception, *, key: str, location: S3Location) -> BackupError:
    """Never raises; chain the result to `error`."""
    if isinstance(error, botocore.exceptions.ClientError):
        return _of_answer(dict(error.response), key, location)
    if isinstance(error, botocore.exceptions.NoCredentialsError | botocore.exceptions.PartialCredentialsError):
        return Permanent(
            "CredentialsMissing",
            "no credentials: set spec.s3.credentialsSecretRef (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or give "
            "the agents an identity with spec.serviceAccountName",
        )
    if isinstance(error, botocore.exceptions.SSLError):
        return Permanent(
            "CertificateRefused",
            f"{_where(location)}: {_certificate_trouble(str(error))}; set spec.s3.caSecretRef or useSSL",
        )
    if isinstance(
        error, botocore.exceptions.ParamValidationError | botocore.exceptions.InvalidRegionError | ValueError
    ):
        return Permanent("LocationInvalid", f"spec.s3: {excerpt(str(error), 160)}")
    return _of_line(error, location)


def _where(location: S3Location) -> str:
    if location.endpoint:
        return f"spec.s3.endpoint {location.endpoint!r}"
    return f"AWS's own endpoint of spec.s3.region {location.region or DEFAULT_REGION!r}"


def _certificate_trouble(text: str) -> str:
    said = certificate_trouble(text)
    return "no certificate in the Secret's key" if said == NO_TLS and "NO_CERTIFICATE" in text else said


def no_store(location: S3Location) -> Permanent:
    """Somebody answers, but not as a store does: often the port of its console."""
    return Permanent(
        "EndpointWrong",
        f"spec.s3.endpoint {location.endpoint!r} answers, but does not speak S3; name the store's own host and port, "
        "not those of its console or of another service",
    )


def _of_line(error: Exception, location: S3Location) -> Transient:
    where = _where(location)
    unreachable = (
        botocore.exceptions.EndpointConnectionError,
        botocore.exceptions.ConnectTimeoutError,
        botocore.exceptions.ProxyConnectionError,
    )
    if isinstance(error, unreachable):
        return Transient(
            "EndpointUnreachable", f"{where} cannot be reached; check endpoint, useSSL, region and NetworkPolicies"
        )
    if isinstance(error, botocore.exceptions.ReadTimeoutError):
        said = "takes connections but does not answer in time; check the store, the port and proxies"
    elif isinstance(error, botocore.exceptions.ConnectionClosedError):
        said = "hung up without an answer; check the store, the port and useSSL"
    else:
        said = f"broke off: {type(error).__name__}: {excerpt(str(error), 120)}"
    return Transient("StoreUnavailable", f"{where} {said}")


def _of_answer(  # noqa: PLR0911 (a table of answers)
    response: dict[str, Any], key: str, location: S3Location
) -> BackupError:
    meta = response.get("ResponseMetadata", {})
    status, code = int(meta.get("HTTPStatusCode", 0)), str(response.get("Error", {}).get("Code", ""))
    said = excerpt(str(response.get("Error", {}).get("Message", "")), 120)
    what = f"spec.s3.bucket {location.bucket!r}" + (f", {key}" if key else "")
    if code in BAD_CREDENTIALS:
        return Permanent(
            "InvalidCredentials",
            f"the store refuses the credentials of spec.s3.credentialsSecretRef: {code}; mend the Secret",
        )
    if code == "NoSuchBucket" or (status == 404 and not key):
        return Permanent(
            "BucketNotFound", f"spec.s3.bucket {location.bucket!r} does not exist; create it or name another"
        )
    if code in ("NoSuchKey", "404", "NotFound") or (status == 404 and code != "NoSuchUpload"):
        return ObjectNotFound(key)
    if status == 412 or code == "PreconditionFailed":
        return ObjectExists(key)
    if code == "ConditionalRequestConflict":  # another writer is not done yet: nobody knows who wins
        return Transient("ConcurrentWrite", f"{what}: another write is under way")
    if status == 416 or code == "InvalidRange":
        return Permanent("RangeOutside", f"{what}: the object ends before the wanted bytes")
    if status == 501 or code == "NotImplemented":
        return Permanent("OperationUnsupported", f"{what}: {said or code}; the store lacks what a backup needs")
    if code in ("ExpiredToken", "RequestTimeTooSkewed"):
        return Transient(code, f"{what}: {said or code}; refresh the token, or set the node's clock")
    if status in (401, 403):
        return Permanent(
            "AccessDenied",
            f"{what}: {said.rstrip('.') or 'forbidden'}; the identity needs to get, put, list and delete objects and "
            "abort uploads",
        )
    if code in OTHER_REGION or status == 301:
        return Permanent(
            "RegionWrong",
            f"spec.s3.region {location.region or DEFAULT_REGION!r} is not the one of bucket {location.bucket!r}"
            + (f" ({said.rstrip('.')})" if said else "")
            + "; set it to the bucket's",
        )
    if code in THROTTLING or status == 429:
        wished = retry_after_seconds(str(meta.get("HTTPHeaders", {}).get("retry-after", "")))
        return Transient("Throttled", f"{what}: {said or code}", retry_after_seconds=wished)
    if status >= 500 or status == 408 or code in LOST_ON_THE_WAY:
        return Transient("StoreUnavailable", f"{what}: {code} {said}".rstrip())
    return Permanent("StoreRefused", f"{what}: {code} {said}".rstrip())
