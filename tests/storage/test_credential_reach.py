"""What the endpoint of a location's author is sent: no token, shared access signature or customer's key, unless the
installer lists it. On real connections, over TLS and without, with every kind of store."""

import base64
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.storage.authority import Authority
from tests.storage.listener import Listener, listening

from weaviate_backup.api.location import CUSTOMER_KEY, LocationSpec
from weaviate_backup.core.credential_reach import NOBODY, TrustedHosts
from weaviate_backup.errors import BackupError, Permanent
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.patience import USUAL
from weaviate_backup.storage.s3 import S3Store

TOKEN, SIGNATURE, KEY = "ya29.the-token", "THE-SIGNATURE", base64.b64encode(bytes(range(32))).decode()
SECRETS = (TOKEN, SIGNATURE, KEY)
HASTE = dataclasses.replace(USUAL, attempts=1)
LOOPBACK = TrustedHosts.parse("127.0.0.1")
Json = dict[str, Any]


@dataclass
class Place:
    """Where a location of an attacker leads: the listener, and the authority that it is believed by."""

    listener: Listener
    ca_pem: bytes | None


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("attacker")


@pytest.fixture(params=["http", "https"])
def place(request: pytest.FixtureRequest, authority: Authority, tmp_path: Path) -> Iterator[Place]:
    secure = request.param == "https"
    with listening(authority if secure else None, tmp_path) as listener:
        yield Place(listener, authority.pem if secure else None)


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch, private_key: str) -> Iterator[Mapping[str, str]]:
    """Who gives tokens to whoever asks, as a node does, and a service account whose Secret may not be read."""
    with listening() as tokens:
        later = {"access_token": TOKEN, "expires_in": 3600, "expires_on": "4102444800", "token_type": "Bearer"}
        tokens.status, tokens.body = 200, json.dumps({**later, "resource": "r"}).encode()
        monkeypatch.setenv("IDENTITY_ENDPOINT", tokens.url)
        monkeypatch.setenv("IDENTITY_HEADER", "of-the-node")
        account = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
        monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{tokens.url}/token")
        yield {"GOOGLE_APPLICATION_CREDENTIALS": json.dumps(account)}


def s3(url: str) -> Json:
    return {"s3": {"bucket": "bkt", "endpoint": url, "serverSideEncryption": {
        "customerKeySecretRef": {"name": "anything", "key": CUSTOMER_KEY}}}}  # fmt: skip


def gcs(url: str) -> Json:
    return {"gcs": {"bucket": "bkt", "endpoint": url, "credentialsSecretRef": {"name": "gcs"}}}


def azure(url: str) -> Json:
    return {"azure": {"container": "cnt", "endpoint": url, "credentialsSecretRef": {"name": "az"}}}


def identity_of_the_node(url: str) -> Json:
    return {"azure": {"container": "cnt", "endpoint": url, "account": "acc"}}


PAIR = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}
SHARED = f"AccountName=acc;BlobEndpoint=https://acc.blob.core.windows.net;SharedAccessSignature=sv=2024&sig={SIGNATURE}"
ATTEMPTS: dict[str, tuple[Callable[[str], Json], Mapping[str, str]]] = {
    "customer key": (s3, {**PAIR, CUSTOMER_KEY: KEY}),
    "token of a Secret": (gcs, {}),
    "shared access signature": (azure, {"AZURE_STORAGE_CONNECTION_STRING": SHARED}),
    "token of the node": (identity_of_the_node, {}),
}


def used(store: ObjectStore) -> None:
    store.put("k", lambda: iter([b"x"]))


def list_all(store: ObjectStore) -> None:
    list(store.list(""))


def opened(spec: Json, given: Mapping[str, str], place: Place, trusted: TrustedHosts) -> ObjectStore:
    location = LocationSpec.model_validate(spec)
    return open_store(location, credentials=given, ca_pem=place.ca_pem, patience=HASTE, trusted=trusted)


def learned(place: Place) -> list[str]:
    return [secret for secret in SECRETS if secret in place.listener.everything]


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_host_that_nobody_listed_is_sent_nothing_at_all(
    attempt: str, place: Place, identity: Mapping[str, str]
) -> None:
    make, given = ATTEMPTS[attempt]
    with pytest.raises(Permanent) as refused:
        used(opened(make(place.listener.url), given or identity, place, NOBODY))
    assert place.listener.sent == []
    assert refused.value.reason == ("LocationInvalid" if place.ca_pem is None else "EndpointNotTrusted")
    assert ".endpoint 'http" in refused.value.message
    assert not [secret for secret in SECRETS if secret in str(refused.value)]


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_host_that_is_listed_is_sent_it_over_tls_alone(
    attempt: str, place: Place, identity: Mapping[str, str]
) -> None:
    """Which shows, too, that the other test would see it."""
    make, given = ATTEMPTS[attempt]
    with pytest.raises(BackupError) as refused:  # the listener says 403
        used(opened(make(place.listener.url), given or identity, place, LOOPBACK))
    if place.ca_pem is None:
        assert refused.value.reason == "LocationInvalid"
        assert place.listener.sent == []
    else:
        assert refused.value.reason in {"AccessDenied", "InvalidCredentials"}
        assert len(learned(place)) == 1


def test_signatures_and_nothing_go_to_every_host_over_http_too(place: Place) -> None:
    key = base64.b64encode(b"key").decode()
    connection = f"AccountName=acc;AccountKey={key};SharedAccessSignature=sv=2024&sig={SIGNATURE}"
    for spec, given in (
        ({"s3": {"bucket": "bkt", "endpoint": place.listener.url}}, PAIR),
        ({"gcs": {"bucket": "bkt", "endpoint": place.listener.url, "useAuth": False}}, {}),
        (azure(place.listener.url), {"AZURE_STORAGE_CONNECTION_STRING": connection}),
    ):
        place.listener.sent.clear()
        with pytest.raises(BackupError) as refused:
            used(opened(spec, given, place, NOBODY))
        assert refused.value.reason in {"AccessDenied", "InvalidCredentials"}
        assert place.listener.sent
        assert learned(place) == []


@pytest.mark.parametrize(
    "string",
    [
        "BlobEndpoint={url}/acc;SharedAccessSignature={sas}",
        "AccountKey=a2V5;BlobEndpoint={url}/acc;SharedAccessSignature={sas}",
        "BlobEndpoint=https://acc.blob.core.windows.net;blobendpoint={url}/acc;SharedAccessSignature={sas}",
        "AccountName=acc;AccountKey=a2V5;BlobEndpoint={url}/acc?{sas}",
        "AccountName=acc/;EndpointSuffix=x@{host};SharedAccessSignature={sas}",
        "AccountName={host}/;SharedAccessSignature={sas}",
    ],
)
def test_a_connection_string_leads_nowhere_else_either(string: str, place: Place) -> None:
    host = place.listener.url.partition("://")[2]
    given = string.format(url=place.listener.url, host=host, sas=f"sv=2024&sig={SIGNATURE}")
    spec = {"azure": {"container": "cnt", "credentialsSecretRef": {"name": "az"}}}
    with pytest.raises(Permanent) as refused:
        used(opened(spec, {"AZURE_STORAGE_CONNECTION_STRING": given}, place, NOBODY))
    assert place.listener.sent == []
    assert SIGNATURE not in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "given"), [({"s3": {"bucket": "bkt"}}, PAIR), ({"gcs": {"bucket": "bkt", "useAuth": False}}, {})]
)
def test_no_variable_of_the_environment_moves_a_store(
    spec: Json, given: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as listener:
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "STORAGE_EMULATOR_HOST", "API_ENDPOINT_OVERRIDE"):
            monkeypatch.setenv(name, listener.url)
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # the provider's own host is behind it, out of reach
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(BackupError, match="EndpointUnreachable"):
            used(opened(spec, given, Place(listener, None), NOBODY))
        assert listener.sent == []


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_an_answer_leads_nowhere_else(
    attempt: str, status: int, authority: Authority, identity: Mapping[str, str], tmp_path: Path
) -> None:
    """Of a host that is listed, to one that is not."""
    make, given = ATTEMPTS[attempt]
    with listening(authority, tmp_path) as first, listening() as second:
        first.status, first.answers = status, {"Location": f"{second.url}/there", "x-amz-bucket-region": "eu-west-1"}
        place = Place(first, authority.pem)
        store = opened(make(first.url), given or identity, place, LOOPBACK)
        for act in (used, lambda store: store.check(), lambda store: store.stat("k"), list_all):
            with pytest.raises(BackupError):
                act(store)
        assert first.sent
        assert second.sent == []


def test_an_upload_session_is_not_begun_on_one_host_and_fed_on_another(
    authority: Authority, identity: Mapping[str, str], tmp_path: Path
) -> None:
    with listening(authority, tmp_path) as first, listening() as second:
        first.status, first.answers = 200, {"Location": f"{second.url}/session"}
        store = opened(gcs(first.url), identity, Place(first, authority.pem), LOOPBACK)
        with pytest.raises(Permanent, match=r"LocationInvalid: the store's address 'http://127\.0\.0\.1' is not https"):
            store.put("k", lambda: iter([bytes(9 << 20)]))
        assert second.sent == []


def test_a_customers_key_stays_wherever_the_client_library_goes(authority: Authority, tmp_path: Path) -> None:
    make, given = ATTEMPTS["customer key"]
    with listening(authority, tmp_path) as first, listening() as second:
        location = LocationSpec.model_validate(make(first.url)).s3
        assert location is not None
        store = S3Store(location, credentials=given, ca_pem=authority.pem, trusted=LOOPBACK)

        def turn(request: Any, **_: Any) -> None:
            request.url = f"{second.url}/there"

        store._store._client_now().meta.events.register("before-sign.s3", turn)
        with pytest.raises(Permanent, match=r"LocationInvalid: the store's address 'http://127\.0\.0\.1' is not https"):
            used(store)
        assert first.sent == second.sent == []


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        ({"gcs": {"bucket": "bkt"}}, None),
        ({"azure": {"container": "cnt", "account": "acc"}}, {}),
        ({"s3": s3("https://s3.amazonaws.com")["s3"]}, {**PAIR, CUSTOMER_KEY: KEY}),
    ],
)
def test_an_authority_of_the_locations_own_makes_nobody_the_provider(
    spec: Json, given: Mapping[str, str] | None, authority: Authority, identity: Mapping[str, str]
) -> None:
    """With it, whoever answers to the provider's name, on a network of the author's, would be believed."""
    (kind,) = spec
    with pytest.raises(Permanent, match=rf"EndpointNotTrusted: .*spec\.{kind}\.caSecretRef"):
        place = Place(Listener(), authority.pem)
        used(opened(spec, identity if given is None else given, place, NOBODY))


def test_what_is_named_as_an_authority_is_kept_only_if_it_is_one(authority: Authority, private_key: str) -> None:
    spec = LocationSpec.model_validate({"s3": {"bucket": "bkt", "caSecretRef": {"name": "n", "key": "k"}}})
    for content in (b"", b"hunter2", private_key.encode(), b"\xff\xfe"):
        with pytest.raises(Permanent, match=r"CertificateRefused: what spec\.s3\.caSecretRef names") as refused:
            open_store(spec, credentials=PAIR, ca_pem=content)
        assert content.decode(errors="replace")[:20] not in str(refused.value) or not content
    open_store(spec, credentials=PAIR, ca_pem=private_key.encode() + authority.pem)


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_a_secret_that_holds_nothing_for_the_store_is_no_leave_to_use_the_nodes_identity(kind: str) -> None:
    root = {"container": "cnt", "account": "acc"} if kind == "azure" else {"bucket": "bkt"}
    spec = {kind: {**root, "credentialsSecretRef": {"name": "n"}}}
    with pytest.raises(Permanent, match=rf"CredentialsMissing: the Secret of spec\.{kind}\.credentialsSecretRef"):
        open_store(LocationSpec.model_validate(spec), credentials={"password": "hunter2"})
