"""GCS and Azure over TLS: the location's certificate authority is what is trusted, and an identity is enough."""

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.azure_server import ACCOUNT, AzureServer, running_azure_server
from tests.gcs_server import GcsServer, running_gcs_server
from tests.storage.authority import Authority
from tests.storage.contract import MIB, blocks, read
from tests.storage.faulty_line import faulty_line

from weaviate_backup.api.location import LocationSpec, SecretReference
from weaviate_backup.errors import Permanent
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore

BUCKET = "bucket-tls"
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
def token_server() -> Iterator[TokenServer]:
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
    made.url = f"http://127.0.0.1:{server.server_address[1]}/token"
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
    for other in (None, b"junk", Authority("another").pem):
        with pytest.raises(Permanent, match=r"CertificateRefused: spec\.gcs\.endpoint .*spec\.gcs\.caSecretRef"):
            open_store(location, credentials={}, ca_pem=other).check()


def test_azure_behind_a_private_authority(azure: AzureServer, authority: Authority) -> None:
    location = LocationSpec(azure=azure.location(BUCKET).model_copy(update={"block_size_mib": 4}))
    passes(open_store(location, credentials=azure.credentials, ca_pem=authority.pem))
    for other in (None, b"junk", Authority("another").pem):
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
        passes(open_store(LocationSpec(azure=location), credentials={}, ca_pem=authority.pem))
        assert [each["resource"] for each in tokens.asked] == [["https://storage.azure.com"]]


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


def test_gcs_signs_every_request_with_the_token_of_its_service_account(
    gcs_server: GcsServer, service_account: dict[str, str]
) -> None:
    gcs_server.make_bucket("bucket-tokens")
    with token_server() as tokens, faulty_line(gcs_server.endpoint.removeprefix("http://")) as line:
        location = gcs_server.location("bucket-tokens").model_copy(
            update={"use_auth": True, "endpoint": f"http://{line.address}"}
        )
        secret = {CREDENTIALS_KEY: json.dumps({**service_account, "token_uri": tokens.url})}
        passes(open_store(LocationSpec(gcs=location), credentials=secret))
        assert {request.headers.get("authorization") for request in line.requests} == {"Bearer the-token"}
        assert all("/o" in request.path for request in line.requests), "only objects are asked for"
        assert [each["grant_type"] for each in tokens.asked] == [["urn:ietf:params:oauth:grant-type:jwt-bearer"]]


def test_a_refused_service_account_is_named(gcs_server: GcsServer, service_account: dict[str, str]) -> None:
    with token_server() as tokens:
        tokens.status = 400
        location = gcs_server.location(BUCKET).model_copy(
            update={"use_auth": True, "credentials_secret_ref": SecretReference(name="keys")}
        )
        secret = {CREDENTIALS_KEY: json.dumps({**service_account, "token_uri": tokens.url})}
        with pytest.raises(Permanent, match=r"InvalidCredentials: .*invalid_grant.*mend the Secret") as caught:
            open_store(LocationSpec(gcs=location), credentials=secret).check()
        assert service_account["private_key"][40:80] not in str(caught.value)


def test_a_secret_cannot_name_a_program_to_run(gcs_server: GcsServer) -> None:
    source = {"executable": {"command": "/bin/true", "timeout_millis": 5000}}
    info = {"type": "external_account", "audience": "a", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}
    info |= {"token_url": "https://sts.googleapis.com/v1/token"}
    location = gcs_server.location(BUCKET).model_copy(update={"use_auth": True})
    with pytest.raises(Permanent, match=f"CredentialsInvalid: {CREDENTIALS_KEY}"):
        open_store(
            LocationSpec(gcs=location), credentials={CREDENTIALS_KEY: json.dumps({**info, "credential_source": source})}
        )
