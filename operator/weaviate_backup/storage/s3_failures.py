"""What S3 and the way to it answer, as our errors: the one judge of that conversation.

Every message names the field of the location, its value and the cure; none holds a key.
"""

import re
from dataclasses import dataclass
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


PATH_REFUSED = frozenset({"SecondLevelDomainForbidden", "PathStyleDomainForbidden", "VirtualHostDomainRequired"})
"""Of Alibaba's OSS, Tencent's COS and Huawei's OBS."""
_PATH_REFUSED = re.compile(r"virtual[- ]?host|path[- ]style|third level domain", re.IGNORECASE)
_PARTS_REFUSED = re.compile(r"parts? .*(same|equal|uniform) (length|size)", re.IGNORECASE)
_REGION = re.compile(r"\bregion\b", re.IGNORECASE)
TOKENS = frozenset({"AssumeRoleWithWebIdentity", "AssumeRole", "GetRoleCredentials"})
"""Operations of the service that gives tokens, not of a store."""
LONGEST_WORDS = 1000
"""Of a refusal that is searched: expressions take longer the more there is, some by its square."""
PASSING_OF_TOKENS = frozenset({"IDPCommunicationError", "RequestTimeout"})


@dataclass(frozen=True)
class Refusal:
    """What a store itself said, as far as anybody would read it."""

    code: str = ""
    message: str = ""

    @property
    def words(self) -> str:
        return f"{self.code} {self.message}"

    @property
    def is_of_path(self) -> bool:
        """The bucket must be named by the host."""
        return self.code in PATH_REFUSED or _PATH_REFUSED.search(self.message) is not None

    @property
    def is_of_parts(self) -> bool:
        """An upload's parts are not what they should be: one is gone, or they are not of one size."""
        return self.code == "InvalidPart" or _PARTS_REFUSED.search(self.message) is not None


def refusal_of(error: BaseException) -> Refusal:
    """Of a client's error, or of ours that was made from one."""
    found = error if isinstance(error, botocore.exceptions.ClientError) else error.__cause__
    if not isinstance(found, botocore.exceptions.ClientError):
        return Refusal()
    said = found.response.get("Error", {})
    return Refusal(str(said.get("Code", ""))[:LONGEST_WORDS], str(said.get("Message", ""))[:LONGEST_WORDS])


def classify(error: Exception, *, key: str, location: S3Location) -> BackupError:
    """Never raises; chain the result to `error`."""
    if is_of_identity(error):
        return _of_identity(error)
    if isinstance(error, botocore.exceptions.ClientError):
        return _of_answer(dict(error.response), key, location)
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


def is_of_identity(error: Exception) -> bool:
    """It came up while credentials were looked for, and no store was asked."""
    without = (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
        botocore.exceptions.CredentialRetrievalError,
        botocore.exceptions.MetadataRetrievalError,
    )
    of_tokens = isinstance(error, botocore.exceptions.ClientError) and error.operation_name in TOKENS
    return of_tokens or isinstance(error, without)


def _of_identity(error: Exception) -> BackupError:
    said = refusal_of(error)
    if isinstance(error, botocore.exceptions.NoCredentialsError | botocore.exceptions.PartialCredentialsError):
        return Permanent(
            "CredentialsMissing",
            "no credentials: set spec.s3.credentialsSecretRef (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or give "
            "the agents an identity with spec.serviceAccountName",
        )
    if not isinstance(error, botocore.exceptions.ClientError):
        return Transient(
            "TokenUnavailable",
            "the agents' identity (spec.serviceAccountName, or the node's) gives no credentials now: "
            f"{type(error).__name__}; check NetworkPolicies to the server that gives them",
        )
    response: dict[str, Any] = dict(error.response)
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if said.code in PASSING_OF_TOKENS or said.code in THROTTLING or status >= 500 or status == 429:
        return Transient("TokenUnavailable", f"the server that gives tokens is busy: {said.code or status}")
    return Permanent(
        "InvalidCredentials",
        f"no token for the agents' identity (spec.serviceAccountName): {said.code}, {excerpt(said.message, 120)}; "
        "check the role that the service account names, and whom that role trusts",
    )


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
    if error := _of_access(Refusal(code, said), status, what, location):
        return error
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
    if code in THROTTLING or status == 429:
        wished = retry_after_seconds(str(meta.get("HTTPHeaders", {}).get("retry-after", "")))
        return Transient("Throttled", f"{what}: {said or code}", retry_after_seconds=wished)
    if status >= 500 or status == 408 or code in LOST_ON_THE_WAY:
        return Transient("StoreUnavailable", f"{what}: {code} {said}".rstrip())
    return Permanent("StoreRefused", f"{what}: {code} {said}".rstrip())


def _of_access(said: Refusal, status: int, what: str, location: S3Location) -> Permanent | None:
    """Where a bucket is and who asks, which some stores say of the signature, as a region is part of it."""
    code, words = said.code, said.message.rstrip(".")
    if code in OTHER_REGION or status == 301 or (code in BAD_CREDENTIALS and _REGION.search(words)):
        used = repr(location.region) if location.region else f"{DEFAULT_REGION!r} (none is set)"
        return Permanent(
            "RegionWrong",
            f"spec.s3.region {used} is not the one of bucket {location.bucket!r}"
            + (f" ({words})" if words else "")
            + "; set it to the bucket's",
        )
    if said.is_of_path:
        return Permanent(
            "EndpointWrong",
            f"{what}: {code}, {words}; name the store's own host in spec.s3.endpoint, not an address, leave "
            "forcePathStyle false, and use a bucket without dots",
        )
    if code in BAD_CREDENTIALS:
        unset = code == "SignatureDoesNotMatch" and location.endpoint is not None and not location.region
        cure = f", or set spec.s3.region if the store has another than {DEFAULT_REGION}" if unset else ""
        return Permanent(
            "InvalidCredentials",
            f"the store refuses the credentials of spec.s3.credentialsSecretRef: {code}"
            + (f", {words}" if words else "")
            + f"; mend the Secret{cure}",
        )
    return None
