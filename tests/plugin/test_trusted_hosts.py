"""Whom a copy tells credentials: a location that somebody else wrote does not get those of who copies."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.plugin.conftest import Cluster
from tests.plugin.test_copy_command import location_yaml
from tests.storage.authority import Authority
from tests.storage.listener import Listener, listening
from tests.stored.own_backup import own_backup
from typer.testing import CliRunner

from weaviate_backup.api.location import CUSTOMER_KEY
from weaviate_backup.errors import BackupError
from weaviate_backup.plugin.commands import app

TOKEN = "ya29.the-token"


@dataclass
class Place:
    """A directory with a backup, and a location of an attacker over TLS, each as a file."""

    listener: Listener
    words: list[str]

    def copied(self, *more: str) -> BackupError:
        result = CliRunner().invoke(app, ["copy", "nightly", *self.words, *more])
        assert isinstance(result.exception, BackupError), result.output
        return result.exception


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    own_backup(tmp_path / "store", "nightly", files={"a": b"1"})
    authority = Authority("attacker")
    with listening() as tokens, listening(authority, tmp_path) as listener:
        tokens.status = 200
        tokens.body = json.dumps({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}).encode()
        monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", tokens.url)
        account = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
        monkeypatch.setenv("TO_GOOGLE_APPLICATION_CREDENTIALS", json.dumps(account))
        here, there = tmp_path / "here.yaml", tmp_path / "there.yaml"
        here.write_text(location_yaml(filesystem={"volume": {"nfs": {"server": "a", "path": "/"}}}))
        secret = {"caSecretRef": {"name": "ca", "key": "ca.crt"}, "credentialsSecretRef": {"name": "gcs"}}
        there.write_text(location_yaml(gcs={"bucket": "theirs", "endpoint": listener.url, **secret}))
        source = ["--from-file", str(here), "--from-directory", str(tmp_path / "store")]
        yield Place(listener, [*source, "--to-file", str(there), "--to-ca-file", str(tmp_path / "ca.crt")])


def test_a_token_goes_to_no_host_that_the_person_does_not_trust(place: Place) -> None:
    for names in ((), ("--trust-host", "store.example.com", "--trust-host", "*.0.0.1")):
        refused = place.copied(*names)
        assert refused.reason == "EndpointNotTrusted"
        assert "--trust-host" in refused.message
        assert place.listener.sent == []
    assert place.copied("--trust-host", "https://127.0.0.1").reason == "InvalidRequest"
    assert place.copied("--trust-host", "store.example.com", "--trust-host", "127.0.0.1").reason == "AccessDenied"
    assert {each.headers["authorization"] for each in place.listener.sent} == {f"Bearer {TOKEN}"}


@pytest.mark.kubernetes
def test_only_keys_for_stores_are_taken_from_secrets(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a backup says so that was made before the schema did."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.server.kubeconfig))
    cluster.apply("Secret", "prod-db", stringData={"password": "hunter2"})
    cluster.apply("WeaviateBackup", "old", spec={"locationRef": {"name": "here"}})
    encryption = {"customerKeySecretRef": {"name": "prod-db", "key": "password"}}
    location = {"s3": {"bucket": "b-b", "endpoint": "https://127.0.0.1:9", "serverSideEncryption": encryption}}
    path = f"/apis/backup.weaviate.io/v1alpha1/namespaces/{cluster.namespace}/weaviatebackups/old/status"
    status = {"phase": "Completed", "backupID": "old", "location": location}
    code, answer = cluster.server.request(
        "PATCH", path, {"status": status}, content_type="application/merge-patch+json"
    )
    assert code == 200, answer
    cluster.bucket("there")
    result = CliRunner().invoke(app, ["copy", "old", "--to", "there", "-n", cluster.namespace])
    assert isinstance(result.exception, BackupError), result.output
    assert result.exception.reason == "SecretNotMeant"
    assert CUSTOMER_KEY in result.exception.message
