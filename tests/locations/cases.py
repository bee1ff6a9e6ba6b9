"""What people get wrong in a location, and what must be said of it."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.api_server import Json
from tests.azure_server import ACCOUNT, KEY
from tests.locations.places import READER_KEY, READER_SECRET, Servers
from tests.locations.trying import Trial
from tests.storage.authority import Authority

from weaviate_backup.api.location import CUSTOMER_KEY

UNKNOWN_HOST = "no-such-store.invalid"


@dataclass(frozen=True)
class Case:
    """What is wrong, and what must be said of it."""

    name: str
    make: Callable[[Servers], Trial]
    reason: str
    words: tuple[str, ...]


def without(trial: Trial, *fields: str) -> Trial:
    kind, spec = next(iter(trial.spec.items()))
    return replace(trial, spec={kind: {name: value for name, value in spec.items() if name not in fields}})


def with_secret(trial: Trial, **secret: str) -> Trial:
    return replace(trial, secret=secret)


def with_customer_key(trial: Trial) -> Trial:
    encryption = {"customerKeySecretRef": {"name": "own", "key": CUSTOMER_KEY}}
    key = base64.b64encode(bytes(32)).decode()
    spec = {"s3": {**trial.spec["s3"], "serverSideEncryption": encryption}}
    return replace(trial, spec=spec, secret={**trial.secret, CUSTOMER_KEY: key})


def token_from(url: str) -> str:
    return json.dumps({**SERVICE_ACCOUNT, "token_uri": url})


SERVICE_ACCOUNT: Json = {
    "type": "service_account",
    "client_email": "saver@project.iam.gserviceaccount.com",
    "private_key": rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode(),
    "token_uri": "https://oauth2.googleapis.com/token",
}
SHARED_ACCESS = "AccountName=acc;BlobEndpoint=https://acc.blob.core.windows.net;SharedAccessSignature=sv=1&sig=xxx"
ACCOUNT_NAME = "AZURE_STORAGE_ACCOUNT"
S3_SECRET, GCS_SECRET, AZURE_SECRET = (f"spec.{kind}.credentialsSecretRef" for kind in ("s3", "gcs", "azure"))
CASES = [
    Case("s3 bucket", lambda s: s.s3_with(bucket="nowhere"), "BucketNotFound", ("spec.s3.bucket 'nowhere'",)),
    Case(
        "s3 unknown key",
        lambda s: with_secret(s.s3_with(), AWS_ACCESS_KEY_ID="AKIAUNKNOWNUNKNOWN00", AWS_SECRET_ACCESS_KEY="x" * 40),
        "InvalidCredentials",
        (S3_SECRET, "AKIA…WN00"),
    ),
    Case(
        "s3 wrong secret",
        lambda s: with_secret(s.s3_with(), AWS_ACCESS_KEY_ID="testkey", AWS_SECRET_ACCESS_KEY="x" * 40),
        "InvalidCredentials",
        (S3_SECRET, "te…"),
    ),
    Case(
        "s3 half a key",
        lambda s: with_secret(s.s3_with(), AWS_ACCESS_KEY_ID="testkey"),
        "CredentialsMissing",
        (S3_SECRET, "AWS_SECRET_ACCESS_KEY"),
    ),
    Case(
        "s3 no identity",
        lambda s: with_secret(without(s.s3_with(), "credentialsSecretRef")),
        "CredentialsMissing",
        (S3_SECRET, "spec.serviceAccountName"),
    ),
    Case(
        "s3 rights",
        lambda s: with_secret(s.s3_with(), AWS_ACCESS_KEY_ID=READER_KEY, AWS_SECRET_ACCESS_KEY=READER_SECRET),
        "AccessDenied",
        ("write and writeOnce and multipart and delete denied", "AKIA…ER01"),
    ),
    Case("s3 host", lambda s: s.s3_with(endpoint=UNKNOWN_HOST), "EndpointUnreachable", ("spec.s3.endpoint",)),
    Case("s3 port", lambda s: s.s3_with(endpoint=s.closed), "EndpointUnreachable", ("spec.s3.endpoint",)),
    Case("s3 silent", lambda s: s.s3_with(endpoint=s.silent), "StoreUnavailable", ("spec.s3.endpoint",)),
    Case("s3 no store", lambda s: s.s3_with(endpoint=s.page), "EndpointWrong", ("spec.s3.endpoint",)),
    Case(
        "s3 region",
        lambda s: s.s3_with(endpoint=s.elsewhere),
        "RegionWrong",
        ("spec.s3.region 'us-east-1'", "eu-central-1"),
    ),
    Case("s3 no CA", lambda s: s.tls_with(None), "CertificateRefused", ("spec.s3.endpoint", "spec.s3.caSecretRef")),
    Case(
        "s3 other CA",
        lambda s: s.tls_with(Authority("another").pem),
        "CertificateRefused",
        ("spec.s3.endpoint", "spec.s3.caSecretRef"),
    ),
    Case("s3 junk CA", lambda s: s.tls_with(b"no certificate"), "CertificateRefused", ("spec.s3.caSecretRef",)),
    Case(
        "s3 CA key",
        lambda s: replace(s.tls_with(b""), ca_pem=None),
        "SecretKeyNotFound",
        ("spec.s3.caSecretRef", "'authority'", "'pem'"),
    ),
    Case("s3 plain to TLS", lambda s: s.s3_with(s.tls), "StoreUnavailable", ("spec.s3.endpoint", "useSSL")),
    Case("s3 TLS to plain", lambda s: s.s3_with(useSSL=True), "CertificateRefused", ("spec.s3.endpoint", "useSSL")),
    Case(
        "gcs bucket",
        lambda s: s.gcs_with(bucket="nowhere", useAuth=False),
        "BucketNotFound",
        ("spec.gcs.bucket 'nowhere'",),
    ),
    Case(
        "gcs host",
        lambda s: s.gcs_with(endpoint=f"http://{UNKNOWN_HOST}", useAuth=False),
        "EndpointUnreachable",
        ("spec.gcs.endpoint",),
    ),
    Case(
        "gcs port",
        lambda s: s.gcs_with(endpoint=f"http://{s.closed}", useAuth=False),
        "EndpointUnreachable",
        ("spec.gcs.endpoint",),
    ),
    Case(
        "gcs silent",
        lambda s: s.gcs_with(endpoint=f"http://{s.silent}", useAuth=False),
        "StoreUnavailable",
        ("spec.gcs.endpoint",),
    ),
    Case(
        "gcs no store",
        lambda s: s.gcs_with(endpoint=f"http://{s.page}", useAuth=False),
        "EndpointWrong",
        ("spec.gcs.endpoint",),
    ),
    Case(
        "gcs CA",
        lambda s: s.gcs_with(endpoint=f"https://{s.tls.endpoint}", useAuth=False),
        "CertificateRefused",
        ("spec.gcs.endpoint", "spec.gcs.caSecretRef"),
    ),
    Case(
        "gcs key missing",
        lambda s: s.gcs_with(""),
        "CredentialsMissing",
        (GCS_SECRET, "GOOGLE_APPLICATION_CREDENTIALS"),
    ),
    Case(
        "gcs JSON cut",
        lambda s: s.gcs_with(json.dumps(SERVICE_ACCOUNT)[:200]),
        "CredentialsInvalid",
        (GCS_SECRET, "JSON"),
    ),
    Case("gcs path", lambda s: s.gcs_with("/var/secrets/key.json"), "CredentialsInvalid", (GCS_SECRET, "path")),
    Case(
        "gcs key cut",
        lambda s: s.gcs_with(json.dumps({**SERVICE_ACCOUNT, "private_key": "-----BEGIN"})),
        "CredentialsInvalid",
        (GCS_SECRET,),
    ),
    Case(
        "gcs token",
        lambda s: replace(s.gcs_with(token_from(f"https://{UNKNOWN_HOST}/token")), trusted=UNKNOWN_HOST),
        "EndpointUnreachable",
        ("token_uri",),
    ),
    Case(
        "gcs token elsewhere",
        lambda s: s.gcs_with(token_from(f"http://{s.page}/token")),
        "CredentialsInvalid",
        (GCS_SECRET, "token_uri", "trustedStoreHosts"),
    ),
    Case(
        "gcs in the clear",
        lambda s: s.gcs_with(json.dumps(SERVICE_ACCOUNT), endpoint=s.gcs.endpoint),
        "LocationInvalid",
        ("spec.gcs.endpoint 'http://127.0.0.1'", "is not https"),
    ),
    Case(
        "gcs elsewhere",
        lambda s: s.gcs_with(json.dumps(SERVICE_ACCOUNT), endpoint=f"https://{s.tls.endpoint}"),
        "EndpointNotTrusted",
        ("spec.gcs.endpoint 'https://127.0.0.1'", "trustedStoreHosts"),
    ),
    Case(
        "azure in the clear",
        lambda s: s.azure_with({"AZURE_STORAGE_CONNECTION_STRING": SHARED_ACCESS}),
        "LocationInvalid",
        ("spec.azure.endpoint 'http://127.0.0.2'", "is not https"),
    ),
    Case(
        "azure elsewhere",
        lambda s: without(s.azure_with({}, account=ACCOUNT, endpoint=f"https://{s.page}"), "credentialsSecretRef"),
        "EndpointNotTrusted",
        ("spec.azure.endpoint 'https://127.0.0.1'", "trustedStoreHosts"),
    ),
    Case(
        "s3 key in the clear",
        lambda s: with_customer_key(s.s3_with()),
        "LocationInvalid",
        ("spec.s3.endpoint 'http://127.0.0.1'", "is not https"),
    ),
    Case(
        "s3 key elsewhere",
        lambda s: with_customer_key(s.s3_with(endpoint=f"https://{s.tls.endpoint}", useSSL=True)),
        "EndpointNotTrusted",
        ("spec.s3.endpoint 'https://127.0.0.1'", "trustedStoreHosts"),
    ),
    Case(
        "s3 empty Secret",
        lambda s: with_secret(s.s3_with(), password="x"),
        "CredentialsMissing",
        (S3_SECRET, "AWS_ACCESS_KEY_ID"),
    ),
    Case(
        "azure container",
        lambda s: s.azure_with(container="nowhere"),
        "BucketNotFound",
        ("spec.azure.container 'nowhere'",),
    ),
    Case(
        "azure cut",
        lambda s: s.azure_with({"AZURE_STORAGE_CONNECTION_STRING": s.azure.connection_string[:40]}),
        "CredentialsInvalid",
        (AZURE_SECRET, "AZURE_STORAGE_CONNECTION_STRING"),
    ),
    Case(
        "azure typo",
        lambda s: s.azure_with({"AZURE_STORAGE_ACCOUNT": ACCOUNT, "AZURE_STORAGE_KEY": KEY[:-3]}),
        "CredentialsInvalid",
        (AZURE_SECRET, "AZURE_STORAGE_KEY"),
    ),
    Case(
        "azure wrong key",
        lambda s: s.azure_with(
            {"AZURE_STORAGE_ACCOUNT": ACCOUNT, "AZURE_STORAGE_KEY": KEY[::-1].replace("=", "") + "AA=="}
        ),
        "AccessDenied",
        (AZURE_SECRET, f"account {ACCOUNT}"),
    ),
    Case(
        "azure account",
        lambda s: s.azure_with({"AZURE_STORAGE_ACCOUNT": "someoneelse", "AZURE_STORAGE_KEY": KEY}),
        "AccessDenied",
        (AZURE_SECRET, "account someoneelse"),
    ),
    Case(
        "azure no account",
        lambda s: without(s.azure_with({}), "credentialsSecretRef"),
        "CredentialsMissing",
        (AZURE_SECRET, "spec.azure.account"),
    ),
    Case("azure empty Secret", lambda s: s.azure_with({}), "CredentialsMissing", (AZURE_SECRET, ACCOUNT_NAME)),
    Case(
        "azure host",
        lambda s: s.azure_with(endpoint=f"http://{UNKNOWN_HOST}"),
        "EndpointUnreachable",
        ("spec.azure.endpoint",),
    ),
    Case(
        "azure port",
        lambda s: s.azure_with(endpoint=f"http://{s.closed}"),
        "EndpointUnreachable",
        ("spec.azure.endpoint",),
    ),
    Case(
        "azure silent",
        lambda s: s.azure_with(endpoint=f"http://{s.silent}"),
        "StoreUnavailable",
        ("spec.azure.endpoint",),
    ),
    Case(
        "azure no store", lambda s: s.azure_with(endpoint=f"http://{s.page}"), "EndpointWrong", ("spec.azure.endpoint",)
    ),
    Case(
        "azure CA",
        lambda s: s.azure_with(endpoint=f"https://{s.tls.endpoint}"),
        "CertificateRefused",
        ("spec.azure.endpoint", "spec.azure.caSecretRef"),
    ),
    Case(
        "files not mounted",
        lambda s: s.files_in(s.directory / "absent"),
        "DirectoryNotFound",
        ("spec.filesystem.volume",),
    ),
    Case(
        "files read-only",
        lambda s: s.files_in(s.read_only),
        "ReadOnlyFilesystem",
        ("spec.filesystem.volume", "readOnly"),
    ),
    Case("files full", lambda s: s.files_in(s.full), "DiskFull", ("spec.filesystem.volume",)),
    Case(
        "files path",
        lambda s: s.files_in(s.directory, path="a-file"),
        "PathNoDirectory",
        ("spec.filesystem.path 'a-file'",),
    ),
]
