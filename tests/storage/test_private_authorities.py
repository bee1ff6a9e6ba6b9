"""GCS and Azure over TLS: the location's certificate authority is what is trusted, and an identity is enough."""

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.azure_server import ACCOUNT, KEY, AzureServer, running_azure_server
from tests.gcs_server import GcsServer, running_gcs_server
from tests.storage.authority import Authority
from tests.storage.contract import MIB, blocks, read
from tests.storage.faulty_line import faulty_line

from weaviate_backup.api.location import GcsLocation, LocationSpec, SecretReference
from weaviate_backup.core.credential_reach import TrustedHosts
from weaviate_backup.errors import BackupError, Permanent
from weaviate_backup.storage.azure import AzureStore
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore

BUCKET = "bucket-tls"
LOOPBACK = TrustedHosts.parse("127.0.0.1,127.0.0.2")
CREDENTIALS_KEY = "GOOGLE_APPLICATION_CREDENTIALS"


def now() -> int:
    return int(datetime.now(UTC).timestamp())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("stores")


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[GcsServer]:
    directory = tmp_path_factory.mktemp("gcs-tls")
    certificate, key = authority.issue(directory)
    with running_gcs_server(directory, certificate=certificate, key=key) as server:
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[AzureServer]:
    directory = tmp_path_factory.mktemp("azure-tls")
    certificate, key = authority.issue(directory)
    with running_azure_server(directory, certificate=certificate, key=key) as server:
        server.make_container(BUCKET)
        yield server


@dataclass
class TokenServer:
    """Gives the token to whoever asks; `asked` are the forms and queries that came."""

    token: str = "the-token"
    status: int = 200
    url: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list)


@contextmanager
def token_server(tls: ssl.SSLContext | None = None) -> Iterator[TokenServer]:
    made = TokenServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.give()

        def do_GET(self) -> None:
            made.asked.append(parse_qs(self.path.partition("?")[2]))
            self.give()

        def give(self) -> None:
            good = {"access_token": made.token, "token_type": "Bearer", "expires_in": 3600}
            good |= {"expires_on": str(now() + 3600), "issued_token_type": "token", "resource": "r"}
            body = json.dumps(good if made.status == 200 else {"error": "invalid_grant"}).encode()
            self.send_response(made.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    made.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/token"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def passes(store: ObjectStore) -> None:
    store.check()
    store.put("small", lambda: blocks(b"hello"), if_absent=True)
    store.put("large", lambda: blocks(bytes(9 * MIB), MIB), if_absent=True)
    assert read(store, "small") == b"hello"
    assert read(store, "large", start=9 * MIB - 3) == bytes(3)
    assert store.stat("large").size_bytes == 9 * MIB
    store.delete(["small", "large"])
    assert list(store.list("")) == []


def test_gcs_behind_a_private_authority(gcs: GcsServer, authority: Authority) -> None:
    location = LocationSpec(gcs=gcs.location(BUCKET))
    passes(open_store(location, credentials={}, ca_pem=authority.pem))
    for other in (None, Authority("another").pem):
        with pytest.raises(Permanent, match=r"CertificateRefused: spec\.gcs\.endpoint .*spec\.gcs\.caSecretRef"):
            open_store(location, credentials={}, ca_pem=other).check()


def test_azure_behind_a_private_authority(azure: AzureServer, authority: Authority) -> None:
    location = LocationSpec(azure=azure.location(BUCKET).model_copy(update={"block_size_mib": 4}))
    passes(open_store(location, credentials=azure.credentials, ca_pem=authority.pem))
    for other in (None, Authority("another").pem):
        with pytest.raises(Permanent, match=r"CertificateRefused: spec\.azure\.endpoint .*spec\.azure\.caSecretRef"):
            open_store(location, credentials=azure.credentials, ca_pem=other).check()


def test_azure_takes_the_identity_of_the_agents(
    azure: AzureServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = {
        "iss": "https://sts.windows.net/t/",
        "aud": "https://storage.azure.com",
        "iat": now() - 60,
        "nbf": now() - 60,
        "exp": now() + 600,
    }
    with token_server() as tokens:
        tokens.token = ".".join(
            base64.urlsafe_b64encode(part).decode().rstrip("=")
            for part in (b'{"alg":"RS256","typ":"JWT"}', json.dumps(claims).encode(), b"unchecked")
        )
        monkeypatch.setenv("IDENTITY_ENDPOINT", tokens.url)
        monkeypatch.setenv("IDENTITY_HEADER", "of-the-pod")
        location = azure.location(BUCKET).model_copy(update={"account": ACCOUNT, "block_size_mib": 4})
        passes(open_store(LocationSpec(azure=location), credentials={}, ca_pem=authority.pem, trusted=LOOPBACK))
        assert [each["resource"] for each in tokens.asked] == [["https://storage.azure.com"]]


def test_a_shared_access_signature_is_enough_and_never_told(azure: AzureServer, authority: Authority) -> None:
    permission = ContainerSasPermissions(read=True, add=True, create=True, write=True, delete=True, list=True)
    signature = generate_container_sas(
        ACCOUNT, BUCKET, account_key=KEY, permission=permission, expiry=datetime.now(UTC) + timedelta(hours=1)
    )
    string = f"BlobEndpoint={azure.endpoint};SharedAccessSignature={signature}"
    credentials = {"AZURE_STORAGE_CONNECTION_STRING": string}
    location = azure.location(BUCKET).model_copy(update={"endpoint": None, "block_size_mib": 4})
    store = open_store(LocationSpec(azure=location), credentials=credentials, ca_pem=authority.pem, trusted=LOOPBACK)
    store.check()
    store.put("large", lambda: blocks(bytes(9 * MIB), MIB), if_absent=True)
    assert read(store, "large", start=9 * MIB - 2) == bytes(2)
    store.delete(["large"])
    assert list(store.list("")) == []

    closed = string.replace(azure.endpoint, "https://127.0.0.1:9/testaccount")
    with pytest.raises(BackupError) as caught:
        AzureStore(location, credentials={"AZURE_STORAGE_CONNECTION_STRING": closed}, trusted=LOOPBACK).check()
    told, error = "", cast(BaseException | None, caught.value)
    while error is not None:
        told += f"{error!r} {error}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert "sig=" not in told


def test_no_token_is_sent_in_the_clear(azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with token_server() as tokens:
        monkeypatch.setenv("IDENTITY_ENDPOINT", tokens.url)
        monkeypatch.setenv("IDENTITY_HEADER", "of-the-pod")
        location = azure_server.location(BUCKET).model_copy(update={"account": ACCOUNT})
        with pytest.raises(Permanent, match=r"LocationInvalid: spec\.azure\.endpoint .*is not https"):
            open_store(LocationSpec(azure=location), credentials={}).check()


@pytest.fixture(scope="module")
def service_account() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "k",
        "private_key": pem,
        "client_email": "backup@p.iam.gserviceaccount.com",
        "client_id": "1",
    }


@pytest.fixture
def secure_tokens(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    """Its authority is one of the machine's: a location's own counts for the store alone."""
    with token_server(authority.server_context(tmp_path)) as tokens:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.crt"))
        yield tokens


def test_gcs_signs_every_request_with_the_token_of_its_service_account(
    gcs: GcsServer, authority: Authority, service_account: dict[str, str], secure_tokens: TokenServer, tmp_path: Path
) -> None:
    gcs.make_bucket("bucket-tokens")
    (tmp_path / "line").mkdir()
    near, far = authority.server_context(tmp_path / "line"), authority.client_context()
    with faulty_line(gcs.endpoint.removeprefix("https://"), tls=near, target_tls=far) as line:
        location = gcs.location("bucket-tokens").model_copy(
            update={"use_auth": True, "endpoint": f"https://{line.address}"}
        )
        secret = {CREDENTIALS_KEY: json.dumps({**service_account, "token_uri": secure_tokens.url})}
        store = open_store(LocationSpec(gcs=location), credentials=secret, ca_pem=authority.pem, trusted=LOOPBACK)
        passes(store)
        assert {request.headers.get("authorization") for request in line.requests} == {"Bearer the-token"}
        assert all("/o" in request.path for request in line.requests), "only objects are asked for"
        assert [each["grant_type"] for each in secure_tokens.asked] == [["urn:ietf:params:oauth:grant-type:jwt-bearer"]]


def test_a_refused_service_account_is_named(
    gcs: GcsServer, authority: Authority, service_account: dict[str, str], secure_tokens: TokenServer
) -> None:
    secure_tokens.status = 400
    location = gcs.location(BUCKET).model_copy(
        update={"use_auth": True, "credentials_secret_ref": SecretReference(name="keys")}
    )
    secret = {CREDENTIALS_KEY: json.dumps({**service_account, "token_uri": secure_tokens.url})}
    store = open_store(LocationSpec(gcs=location), credentials=secret, ca_pem=authority.pem, trusted=LOOPBACK)
    with pytest.raises(Permanent, match=r"InvalidCredentials: .*invalid_grant.*mend the Secret") as caught:
        store.check()
    assert service_account["private_key"][40:80] not in str(caught.value)


def test_a_secret_cannot_name_a_program_to_run() -> None:
    source = {"executable": {"command": "/bin/true", "timeout_millis": 5000}}
    info = {"type": "external_account", "audience": "a", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}
    info |= {"token_url": "https://sts.googleapis.com/v1/token"}
    with pytest.raises(Permanent, match=f"CredentialsInvalid: credential_source in {CREDENTIALS_KEY}"):
        open_store(
            LocationSpec(gcs=GcsLocation(bucket=BUCKET)),
            credentials={CREDENTIALS_KEY: json.dumps({**info, "credential_source": source})},
        )
