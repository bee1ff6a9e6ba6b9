"""Identities that a new pod does not have yet are waited for in its first minute, and missing for good afterwards.

Who gives tokens is a server on loopback, where the client libraries are pointed by the variables that clouds set.
"""

import base64
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google.auth.compute_engine._metadata as google_metadata
import pytest
from tests.azure_server import ACCOUNT, running_azure_server
from tests.gcs_server import running_gcs_server
from tests.ports import free_port
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from tests.storage.authority import Authority
from tests.storage.contract import blocks, read

from weaviate_backup.agent.probe import PATIENCE
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.credential_reach import TrustedHosts
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.plugin.location_access import AT_A_TERMINAL
from weaviate_backup.storage import beginning
from weaviate_backup.storage.beginning import Beginning, NotYet
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.patience import USUAL, Patience
from weaviate_backup.storage.retry import Retrying

LOOPBACK = TrustedHosts.parse("127.0.0.1,127.0.0.2")
WAITED_SECONDS = USUAL.identity_seconds
HASTY = Patience(attempts=2, first_wait_seconds=0.01, longest_wait_seconds=0.01)
"""Of any other failure; waits for an identity are as short."""


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Giver:
    """Gives tokens once `after` questions were refused with `status`; every question takes `seconds` of the clock."""

    clock: Clock
    after: int = 3
    status: int = 503
    seconds: float = 10.0
    url: str = ""
    answer: Callable[[str], Any] = lambda _: {}
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def giver(clock: Clock) -> Iterator[Giver]:
    giver = Giver(clock)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            giver.asked.append(self.path)
            giver.clock.now += giver.seconds
            refused = len(giver.asked) <= giver.after
            body = b"{}" if refused else json.dumps(giver.answer(self.path)).encode()
            self.send_response(giver.status if refused else 200)
            for name, value in {"Content-Type": "application/json", "Metadata-Flavor": "Google"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    giver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield giver
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginning, "PAUSE_SECONDS", 0.01)


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


# S3: an agent of the node hands out a role's keys


@pytest.fixture
def s3_store(
    s3_server: S3Server, giver: Giver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Retrying]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{giver.url}/role")
    giver.answer = lambda _: {
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "Token": "",
        "Expiration": in_an_hour(),
    }
    bucket = f"identity-{time.monotonic_ns()}"
    s3_server.make_bucket(bucket)
    spec = LocationSpec(s3=s3_server.location(bucket))
    return lambda: open_store(spec, credentials={}, patience=HASTY, beginning=Beginning(clock))


def test_a_role_whose_keys_come_late_is_waited_for(s3_store: Callable[[], Retrying], giver: Giver) -> None:
    giver.after = 4
    store = s3_store()
    store.put("k", lambda: blocks(b"1"))
    assert read(store, "k") == b"1"
    store.check()


@pytest.mark.parametrize("status", [404, 503])
def test_a_role_without_keys_is_told_after_the_first_minute(
    s3_store: Callable[[], Retrying], giver: Giver, clock: Clock, status: int
) -> None:
    giver.after, giver.status = 10_000, status
    with pytest.raises(BackupError, match=r"spec\.serviceAccountName") as caught:
        s3_store().check()
    assert not isinstance(caught.value, NotYet)
    assert caught.value.reason == "TokenUnavailable"
    assert clock.now >= 1000 + WAITED_SECONDS
    asked = len(giver.asked)
    with pytest.raises(BackupError):
        store = s3_store()
        clock.now += WAITED_SECONDS
        store.check()
    assert len(giver.asked) <= asked + 2 * HASTY.attempts + 6


def test_nobody_who_gives_keys_is_missing_credentials(
    s3_store: Callable[[], Retrying], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable names anyone: the webhook that sets them was away."""
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    store = s3_store()
    seen = list[BackupError]()
    judge = Beginning.judge

    def later(self: Beginning, failure: BackupError, *, within_seconds: float) -> BackupError:
        clock.now += 20
        seen.append(judge(self, failure, within_seconds=within_seconds))
        return seen[-1]

    monkeypatch.setattr(Beginning, "judge", later)
    with pytest.raises(Permanent, match=r"CredentialsMissing: no credentials: set spec\.s3\.credentialsSecretRef"):
        store.check()
    assert [type(each) for each in seen] == [NotYet] * 3 + [Permanent]
    assert all("waits for it" in each.message for each in seen[:-1])


def test_a_pair_of_a_secret_is_never_waited_for(s3_server: S3Server, clock: Clock) -> None:
    s3_server.make_bucket("identity-secret")
    wrong = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "x" * 20}
    spec = LocationSpec(s3=s3_server.location("identity-secret"))
    with pytest.raises(Permanent, match="InvalidCredentials"):
        open_store(spec, credentials=wrong, patience=HASTY, beginning=Beginning(clock)).check()


# GCS: the metadata server


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("stores")


@pytest.fixture
def gcs_store(
    giver: Giver, clock: Clock, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[], Retrying]]:
    monkeypatch.setenv("GCE_METADATA_IP", giver.url.removeprefix("http://"))
    monkeypatch.setattr(google_metadata, "_GCE_METADATA_HOST", giver.url.removeprefix("http://"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    account = {"email": "agents@project.iam.gserviceaccount.com", "scopes": []}
    token = {"access_token": "the-token", "expires_in": 3600, "token_type": "Bearer"}
    giver.answer = lambda path: token if "/token" in path else account
    certificate, key = authority.issue(tmp_path)
    with running_gcs_server(tmp_path, certificate=certificate, key=key) as server:
        server.make_bucket("bucket")
        spec = LocationSpec(gcs=server.location("bucket").model_copy(update={"use_auth": True}))
        yield lambda: open_store(
            spec, credentials={}, ca_pem=authority.pem, trusted=LOOPBACK, patience=HASTY, beginning=Beginning(clock)
        )


def test_a_metadata_server_that_comes_late_is_waited_for(gcs_store: Callable[[], Retrying], giver: Giver) -> None:
    giver.after = 5
    store = gcs_store()
    assert giver.asked == [], "to open a store asks nobody"
    store.put("k", lambda: blocks(b"1"))
    assert read(store, "k") == b"1"


@pytest.mark.parametrize("reaches", [True, False], ids=["refuses", "out of reach"])
def test_a_metadata_server_that_never_comes_is_told_after_the_first_minute(
    gcs_store: Callable[[], Retrying],
    giver: Giver,
    clock: Clock,
    reaches: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    giver.after = 10_000
    if not reaches:
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{free_port()}")
        monkeypatch.setattr(google_metadata.ping, "__defaults__", (0.2, 1))
        judge = Beginning.judge

        def later(self: Beginning, failure: BackupError, *, within_seconds: float) -> BackupError:
            clock.now += 20
            return judge(self, failure, within_seconds=within_seconds)

        monkeypatch.setattr(Beginning, "judge", later)
    with pytest.raises(Permanent, match=r"CredentialsMissing: no credentials: .*spec\.serviceAccountName") as caught:
        gcs_store().check()
    assert "waits for it" not in caught.value.message
    assert WAITED_SECONDS <= clock.now - 1000 < WAITED_SECONDS + 60


def test_a_metadata_server_that_goes_away_later_passes(
    gcs_store: Callable[[], Retrying], giver: Giver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token ran out, and whoever renews it restarts: that is for a store's own patience, and no wrong identity."""
    giver.after, giver.seconds = 0, 0.0
    store = gcs_store()
    store.check()
    clock.now += WAITED_SECONDS
    monkeypatch.setattr(google_metadata, "_GCE_METADATA_HOST", f"127.0.0.1:{free_port()}")
    bare: Any = store._store
    bare._session.credentials.token = None
    with pytest.raises(Transient, match="TokenUnavailable") as caught:
        bare.check()
    assert not isinstance(caught.value, NotYet)


# Azure: a managed identity


@pytest.fixture
def azure_store(
    giver: Giver, clock: Clock, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[], Retrying]]:
    for name in ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{giver.url}/metadata/identity/oauth2/token")
    monkeypatch.setenv("IDENTITY_HEADER", "of-the-pod")
    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": "https://sts.windows.net/t/", "aud": "https://storage.azure.com"}
    claims |= {"iat": now - 60, "nbf": now - 60, "exp": now + 3600}  # type: ignore[dict-item]
    token = ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=")
        for part in (b'{"alg":"RS256","typ":"JWT"}', json.dumps(claims).encode(), b"unchecked")
    )
    giver.answer = lambda _: {
        "access_token": token, "token_type": "Bearer", "expires_on": str(now + 3600), "resource": "r"
    }  # fmt: skip
    certificate, key = authority.issue(tmp_path)
    with running_azure_server(tmp_path, certificate=certificate, key=key) as server:
        server.make_container("bucket")
        spec = LocationSpec(azure=server.location("bucket").model_copy(update={"account": ACCOUNT}))
        yield lambda: open_store(
            spec, credentials={}, ca_pem=authority.pem, trusted=LOOPBACK, patience=HASTY, beginning=Beginning(clock)
        )


def test_a_managed_identity_that_comes_late_is_waited_for(azure_store: Callable[[], Retrying], giver: Giver) -> None:
    giver.after, giver.status = 3, 400
    store = azure_store()
    store.put("k", lambda: blocks(b"1"))
    assert read(store, "k") == b"1"


def test_a_managed_identity_that_never_comes_is_told_after_the_first_minute(
    azure_store: Callable[[], Retrying], giver: Giver, clock: Clock
) -> None:
    giver.after, giver.status = 10_000, 400
    with pytest.raises(Permanent, match=r"InvalidCredentials: no token for the agents' identity") as caught:
        azure_store().check()
    assert "waits for it" not in caught.value.message
    assert WAITED_SECONDS <= clock.now - 1000 < WAITED_SECONDS + 60


# The minute itself


def test_the_first_minute_ends_by_a_clock_that_nobody_sets(clock: Clock) -> None:
    failure = Permanent("CredentialsMissing", "none")
    since = Beginning(clock)
    clock.now += WAITED_SECONDS - 0.1
    early = since.judge(failure, within_seconds=WAITED_SECONDS)
    assert isinstance(early, NotYet)
    assert (early.reason, early.retry_after_seconds) == ("CredentialsMissing", 0.01)
    clock.now += 0.2
    assert since.judge(failure, within_seconds=WAITED_SECONDS) is failure
    assert 60 <= WAITED_SECONDS <= 120
    assert PATIENCE.identity_seconds < 20, "a probe says what is wrong within half a minute"
    assert AT_A_TERMINAL.identity_seconds == 0
    assert Beginning()._clock is time.monotonic
