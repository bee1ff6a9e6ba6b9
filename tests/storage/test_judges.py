"""What each store's answers and broken lines are called, without a store: every row of the three judges.

Real servers give some of these answers only (`contract.py`, `test_faults.py`); the others are as they are documented.
"""

import ssl
from types import SimpleNamespace
from typing import Any

import botocore.exceptions
import google.api_core.exceptions
import google.auth.exceptions
import pytest
import requests
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)

from weaviate_backup.api.location import AzureLocation, GcsLocation, S3Location
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.storage import azure_failures, gcs_failures, s3_failures
from weaviate_backup.storage.wording import NO_TLS, certificate_trouble, retry_after_seconds

S3 = S3Location.model_validate({"bucket": "abc", "endpoint": "minio:9000", "region": "eu-1"})
AWS = S3Location.model_validate({"bucket": "abc"})
GCS = GcsLocation.model_validate({"bucket": "abc", "endpoint": "https://gcs.example"})
GOOGLE = GcsLocation.model_validate({"bucket": "abc"})
AZURE = AzureLocation.model_validate({"container": "abc", "endpoint": "https://blob.example/a"})
MICROSOFT = AzureLocation.model_validate({"container": "abc"})
KEY = "b/n/chunk-1"
ANSWERS: Any = google.api_core.exceptions
TOKENS: Any = google.auth.exceptions


def told(error: BackupError) -> tuple[str, bool, float | None]:
    """Its name, whether it may pass, and how long the store wants to be let alone."""
    passes = isinstance(error, Transient)
    name = error.reason if type(error) in (Permanent, Transient) else type(error).__name__
    return name, passes, error.retry_after_seconds if isinstance(error, Transient) else None


def of_s3(status: int, code: str, *, key: str = KEY, headers: dict[str, str] | None = None) -> BackupError:
    response: Any = {
        "Error": {"Code": code, "Message": "It said so."},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    return s3_failures.classify(botocore.exceptions.ClientError(response, "PutObject"), key=key, location=S3)


@pytest.mark.parametrize(
    ("status", "code", "name", "passes"),
    [
        (403, "InvalidAccessKeyId", "InvalidCredentials", False),
        (403, "SignatureDoesNotMatch", "InvalidCredentials", False),
        (404, "XAdminUserNotFound", "InvalidCredentials", False),
        (404, "NoSuchBucket", "BucketNotFound", False),
        (404, "NoSuchKey", "ObjectNotFound", False),
        (404, "404", "ObjectNotFound", False),
        (404, "", "ObjectNotFound", False),
        (404, "NoSuchUpload", "StoreUnavailable", True),
        (412, "", "ObjectExists", False),
        (400, "PreconditionFailed", "ObjectExists", False),
        (409, "ConditionalRequestConflict", "ConcurrentWrite", True),
        (416, "", "RangeOutside", False),
        (400, "InvalidRange", "RangeOutside", False),
        (501, "", "OperationUnsupported", False),
        (400, "NotImplemented", "OperationUnsupported", False),
        (400, "ExpiredToken", "ExpiredToken", True),
        (403, "RequestTimeTooSkewed", "RequestTimeTooSkewed", True),
        (401, "", "AccessDenied", False),
        (403, "AccessDenied", "AccessDenied", False),
        (400, "AuthorizationHeaderMalformed", "RegionWrong", False),
        (301, "", "RegionWrong", False),
        (503, "SlowDown", "Throttled", True),
        (429, "", "Throttled", True),
        (500, "InternalError", "StoreUnavailable", True),
        (408, "", "StoreUnavailable", True),
        (400, "BadDigest", "StoreUnavailable", True),
        (400, "RequestTimeout", "StoreUnavailable", True),
        (400, "MalformedXML", "StoreRefused", False),
        (409, "BucketNotEmpty", "StoreRefused", False),
    ],
)
def test_an_answer_of_s3(status: int, code: str, name: str, passes: bool) -> None:
    error = of_s3(status, code)
    assert told(error) == (name, passes, None)
    if name not in ("ObjectNotFound", "ObjectExists"):
        assert "spec.s3" in error.message


def test_what_s3_says_of_no_object_is_of_the_bucket() -> None:
    assert told(of_s3(404, "", key="")) == ("BucketNotFound", False, None)
    assert of_s3(403, "AccessDenied", key="").message.startswith("spec.s3.bucket 'abc': It said so; the identity")
    assert of_s3(403, "AccessDenied").message.startswith(f"spec.s3.bucket 'abc', {KEY}: It said so; the identity")


def test_how_long_s3_wants_to_be_let_alone() -> None:
    assert told(of_s3(503, "SlowDown", headers={"retry-after": "7"})) == ("Throttled", True, 7.0)
    assert told(of_s3(503, "SlowDown", headers={"retry-after": "soon"})) == ("Throttled", True, None)
    assert retry_after_seconds("") is None


LINE: dict[str, Any] = {"endpoint_url": "https://minio:9000", "error": "no"}


@pytest.mark.parametrize(
    ("error", "name", "passes", "said"),
    [
        (botocore.exceptions.NoCredentialsError(), "CredentialsMissing", False, "spec.s3.credentialsSecretRef"),
        (
            botocore.exceptions.PartialCredentialsError(provider="env", cred_var="x"),
            *("CredentialsMissing", False, "spec.serviceAccountName"),
        ),
        (botocore.exceptions.SSLError(**LINE), "CertificateRefused", False, f"'minio:9000': {NO_TLS}; set"),
        (
            botocore.exceptions.SSLError(endpoint_url="", error=ssl.SSLError("[X509: NO_CERTIFICATE_OR_CRL_FOUND]")),
            *("CertificateRefused", False, "no certificate in the Secret's key"),
        ),
        (botocore.exceptions.ParamValidationError(report="bad"), "LocationInvalid", False, "spec.s3: "),
        (botocore.exceptions.InvalidRegionError(region_name="?"), "LocationInvalid", False, "spec.s3: "),
        (ValueError("no URL"), "LocationInvalid", False, "spec.s3: no URL"),
        (botocore.exceptions.EndpointConnectionError(**LINE), "EndpointUnreachable", True, "cannot be reached"),
        (botocore.exceptions.ConnectTimeoutError(**LINE), "EndpointUnreachable", True, "cannot be reached"),
        (
            botocore.exceptions.ProxyConnectionError(proxy_url="", error=""),
            *("EndpointUnreachable", True, "cannot be reached"),
        ),
        (botocore.exceptions.ReadTimeoutError(**LINE), "StoreUnavailable", True, "does not answer in time"),
        (botocore.exceptions.ConnectionClosedError(**LINE), "StoreUnavailable", True, "hung up without an answer"),
        (OSError("broken pipe"), "StoreUnavailable", True, "broke off: OSError: broken pipe"),
    ],
)
def test_a_line_to_s3(error: Exception, name: str, passes: bool, said: str) -> None:
    found = s3_failures.classify(error, key=KEY, location=S3)
    assert told(found) == (name, passes, None)
    assert said in found.message


def test_without_an_endpoint_the_region_is_named() -> None:
    found = s3_failures.classify(botocore.exceptions.ReadTimeoutError(**LINE), key="", location=AWS)
    assert found.message.startswith("AWS's own endpoint of spec.s3.region 'us-east-1' takes connections")
    assert s3_failures.no_store(S3).reason == "EndpointWrong"


def test_of_a_handshake_the_cause_is_told_without_source_lines() -> None:
    text = "[SSL] certificate verify failed: self-signed certificate (_ssl.c:1007)"
    assert certificate_trouble(text) == "certificate verify failed: self-signed certificate"
    assert certificate_trouble("wrong version number") == NO_TLS


def of_gcs(status: int, message: str = "It said so", *, key: str = KEY, retry: str = "") -> BackupError:
    response = requests.Response()
    response.status_code = status
    response.headers["Retry-After"] = retry
    error = ANSWERS.from_http_status(status, f"GET https://gcs.example/o: {message}", response=response)
    return gcs_failures.classify(error, key=key, location=GCS)


@pytest.mark.parametrize(
    ("status", "name", "passes"),
    [
        *((404, "ObjectNotFound", False), (412, "ObjectExists", False), (416, "RangeOutside", False)),
        *((401, "InvalidCredentials", False), (403, "AccessDenied", False), (429, "Throttled", True)),
        *((501, "OperationUnsupported", False), (500, "StoreUnavailable", True), (503, "StoreUnavailable", True)),
        *((408, "StoreUnavailable", True), (409, "StoreUnavailable", True), (410, "StoreUnavailable", True)),
        *((400, "StoreRefused", False), (411, "StoreRefused", False)),
    ],
)
def test_an_answer_of_gcs(status: int, name: str, passes: bool) -> None:
    error = of_gcs(status)
    assert told(error) == (name, passes, None)
    assert "https://" not in error.message, "the library's address in front of it"
    if name not in ("ObjectNotFound", "ObjectExists"):
        assert "It said so" in error.message or name == "RangeOutside"


def test_what_gcs_says_of_no_object_is_of_the_bucket() -> None:
    assert told(of_gcs(404, key="")) == ("BucketNotFound", False, None)
    assert told(of_gcs(404, "The specified bucket does not exist.")) == ("BucketNotFound", False, None)
    for status in (429, 503):
        assert told(of_gcs(status, retry="9"))[1:] == (True, 9.0)


@pytest.mark.parametrize(
    ("error", "name", "passes", "said"),
    [
        (TOKENS.TransportError("x"), "EndpointUnreachable", True, "gives tokens cannot be reached"),
        (TOKENS.RefreshError("busy", retryable=True), "TokenUnavailable", True, "is busy"),
        (
            TOKENS.RefreshError("invalid_grant: Invalid JWT"),
            *("InvalidCredentials", False, "spec.serviceAccountName: invalid_grant; mend"),
        ),
        (TOKENS.RefreshError("x" * 200), "InvalidCredentials", False, ": refused; mend"),
        (TOKENS.DefaultCredentialsError("x"), "CredentialsMissing", False, "spec.serviceAccountName"),
        (TOKENS.GoogleAuthError("x"), "InvalidCredentials", False, "other credentials"),
        (requests.exceptions.SSLError("x"), "CertificateRefused", False, f"'https://gcs.example': {NO_TLS}"),
        (ssl.SSLError("x"), "CertificateRefused", False, "spec.gcs.caSecretRef"),
        (OSError("invalid certificate bundle"), "CertificateRefused", False, "spec.gcs.caSecretRef"),
        (requests.exceptions.InvalidURL("x"), "LocationInvalid", False, "is no URL of a server"),
        (requests.exceptions.ConnectTimeout("x"), "EndpointUnreachable", True, "cannot be reached"),
        (requests.exceptions.ConnectionError("Max retries exceeded"), "EndpointUnreachable", True, "NetworkPolicies"),
        (ValueError("no JSON"), "EndpointWrong", True, "not as Google Cloud Storage does"),
        (requests.exceptions.TooManyRedirects("x"), "EndpointWrong", True, "not as Google Cloud Storage does"),
        (requests.exceptions.ReadTimeout("x"), "StoreUnavailable", True, "does not answer in time"),
        (OSError("The read operation timed out"), "StoreUnavailable", True, "does not answer in time"),
        (requests.exceptions.ConnectionError("Connection aborted"), "StoreUnavailable", True, "hung up"),
        (ConnectionResetError("x"), "StoreUnavailable", True, "hung up"),
        (OSError("odd"), "StoreUnavailable", True, "broke off: OSError: odd"),
    ],
)
def test_a_line_to_gcs(error: Exception, name: str, passes: bool, said: str) -> None:
    found = gcs_failures.classify(error, key=KEY, location=GCS)
    assert told(found) == (name, passes, None)
    assert said in found.message
    if passes and name != "TokenUnavailable" and "tokens" not in found.message:
        assert "spec.gcs.endpoint 'https://gcs.example'" in found.message
        assert gcs_failures.classify(error, key=KEY, location=GOOGLE).message.startswith("Google Cloud Storage ")


class Answered:
    """What the library keeps of an answer."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code, self.reason, self.headers = status, "because", headers

    def text(self, *_: object) -> str:
        return ""


def of_azure(status: int, code: str = "", *, key: str = KEY, **headers: str) -> BackupError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response: Any = Answered(status, {"x-ms-error-code": code, **named})
    error = HttpResponseError("It said so.\nRequestId:1", response=response)
    return azure_failures.classify(error, key=key, location=AZURE)


@pytest.mark.parametrize(
    ("status", "code", "name", "passes"),
    [
        (403, "AuthenticationFailed", "InvalidCredentials", False),
        (401, "", "InvalidCredentials", False),
        (404, "ContainerNotFound", "BucketNotFound", False),
        (409, "ContainerBeingDeleted", "BucketNotFound", False),
        (404, "BlobNotFound", "ObjectNotFound", False),
        (409, "BlobAlreadyExists", "ObjectExists", False),
        (412, "", "ObjectExists", False),
        (400, "InvalidBlockList", "ConcurrentWrite", True),
        (416, "", "RangeOutside", False),
        (403, "AuthorizationPermissionMismatch", "AccessDenied", False),
        (429, "", "Throttled", True),
        (503, "ServerBusy", "Throttled", True),
        (501, "", "OperationUnsupported", False),
        (500, "InternalError", "StoreUnavailable", True),
        (200, "", "StoreUnavailable", True),
        (299, "", "StoreUnavailable", True),
        (408, "", "StoreUnavailable", True),
        (400, "Md5Mismatch", "StoreUnavailable", True),
        (400, "InvalidInput", "StoreRefused", False),
        (300, "", "StoreRefused", False),
    ],
)
def test_an_answer_of_azure(status: int, code: str, name: str, passes: bool) -> None:
    error = of_azure(status, code)
    assert told(error) == (name, passes, None)
    if name not in ("ObjectNotFound", "ObjectExists"):
        assert "spec.azure" in error.message
    if name == "StoreRefused":
        assert error.message.endswith(f"{status} {code}; It said so.")


def test_what_azure_says_of_no_blob_is_of_the_container() -> None:
    assert told(of_azure(404, key="")) == ("BucketNotFound", False, None)
    for status in (429, 500):
        assert told(of_azure(status, Retry_After="4"))[1:] == (True, 4.0)


@pytest.mark.parametrize(
    ("url", "of_identity"),
    [
        ("https://login.microsoftonline.com/tenant/oauth2/v2.0/token", True),
        ("http://169.254.169.254/metadata/identity/oauth2/token?resource=x", True),
        ("https://account.blob.core.windows.net/backups/oauth2?comp=list", False),
        ("https://account.blob.core.windows.net/backups", False),
    ],
)
def test_whether_a_store_or_a_giver_of_tokens_refused(url: str, of_identity: bool) -> None:
    response: Any = Answered(401, {})
    response.request = SimpleNamespace(url=url)
    assert azure_failures.is_of_identity(ClientAuthenticationError("x", response=response)) is of_identity
    assert not azure_failures.is_of_identity(HttpResponseError("x", response=response))


def caused(error: AzureError, cause: Exception) -> AzureError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "name", "passes", "said"),
    [
        (ClientAuthenticationError("x"), "InvalidCredentials", False, "no token for the agents' identity"),
        (ServiceRequestError("SSLError: bad"), "CertificateRefused", False, f": {NO_TLS}; set spec.azure.caSecretRef"),
        (
            ServiceRequestError("certificate verify failed: expired (_ssl.c)"),
            *("CertificateRefused", False, "certificate verify failed: expired; set"),
        ),
        (ServiceRequestError("no route"), "EndpointUnreachable", True, "cannot be reached"),
        (caused(AzureError("x"), ValueError()), "EndpointWrong", True, "not as Azure Blob Storage does"),
        (ValueError("x"), "EndpointWrong", True, "not as Azure Blob Storage does"),
        (ServiceResponseError("Read timed out"), "StoreUnavailable", True, "does not answer in time"),
        (ServiceResponseError("x"), "StoreUnavailable", True, "hung up without an answer"),
        (IncompleteReadError("x"), "StoreUnavailable", True, "broke off (IncompleteReadError)"),
    ],
)
def test_a_line_to_azure(error: Exception, name: str, passes: bool, said: str) -> None:
    found = azure_failures.classify(error, key=KEY, location=AZURE)
    assert told(found) == (name, passes, None)
    assert said in found.message
    if passes:
        assert "spec.azure.endpoint 'https://blob.example/a'" in found.message
        assert azure_failures.classify(error, key=KEY, location=MICROSOFT).message.startswith("Azure Blob Storage ")


def test_an_address_with_a_signature_is_known_wherever_it_stands() -> None:
    signed = ServiceRequestError("https://blob.example/a?sig=abc")
    assert azure_failures.holds_secret(signed)
    assert azure_failures.holds_secret(caused(AzureError("x"), signed))
    during = AzureError("x")
    during.__context__ = signed
    assert azure_failures.holds_secret(during)
    assert not azure_failures.holds_secret(AzureError("x"))
