"""Which Secrets a pod of the target is sent as an API key: a real API server, and a pod that notes what it gets."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.api_server import ApiServer
from tests.controller.conftest import show_weaviate
from tests.storage.listener import Listener, listening
from tests.weaviate_server import WeaviateNode

from weaviate_backup.api.operation_spec import Authentication
from weaviate_backup.controller.cluster_view import ask_weaviate, read_cluster
from weaviate_backup.core.secret_purpose import API_KEY_LABEL, API_KEY_NAMES
from weaviate_backup.errors import BackupError
from weaviate_backup.kube import Kube

pytestmark = pytest.mark.kubernetes
VALUE = "hunter2-0123456789"
_numbers = itertools.count(1)


@dataclass
class Target:
    """A StatefulSet of somebody who wants to know what is sent to it."""

    server: ApiServer
    namespace: str
    pod: Listener

    def asked(self, name: str, key: str) -> str:
        """The reason with which the operator ends who is told of that Secret and key."""
        return asyncio.run(self._ask(name, key))

    async def _ask(self, name: str, key: str) -> str:
        auth = Authentication.model_validate({"apiKeySecretRef": {"name": name, "key": key}})
        async with await Kube.connect() as kube:
            cluster = await read_cluster(kube, self.namespace, "weaviate")
            with pytest.raises(BackupError) as refused:
                await ask_weaviate(kube, cluster, auth)
        assert VALUE not in str(refused.value)
        return refused.value.reason

    def keep(self, name: str, key: str, **labels: str) -> None:
        metadata = {"name": name, "namespace": self.namespace, "labels": labels}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {key: VALUE}}
        assert self.server.apply(body)[0] in (200, 201)

    @property
    def keys_by_path(self) -> dict[str, str | None]:
        return {each.line: each.headers.get("authorization") for each in self.pod.sent}


@pytest.fixture
def target(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    namespace = f"api-keys-{next(_numbers)}"
    for kind, metadata in (
        ("Namespace", {"name": namespace}),
        ("ServiceAccount", {"name": "default", "namespace": namespace}),
    ):
        assert api_server.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata})[0] == 201
    with listening() as pod:
        pod.status, pod.body = 200, b'{"version": "1.39.1"}'
        port = int(pod.url.rpartition(":")[2])
        show_weaviate(api_server, namespace, WeaviateNode("weaviate-0", tmp_path, port, 1, 1))
        yield Target(api_server, namespace, pod)


def test_a_secret_of_another_purpose_is_sent_to_nobody(target: Target) -> None:
    target.keep("prod-db", "password", app="database")
    assert target.asked("prod-db", "password") == "SecretNotMeant"
    assert target.asked("prod-db", "no-such-key") == "SecretNotMeant", "nor may its keys be guessed"
    assert target.asked("absent", API_KEY_NAMES[0]) == "SecretNotFound"
    assert target.pod.sent == []


@pytest.mark.parametrize("key", [*API_KEY_NAMES, "admin"])
def test_a_key_of_weaviates_is_sent_to_pods_that_say_they_are_ready(target: Target, key: str) -> None:
    labels = {} if key in API_KEY_NAMES else {API_KEY_LABEL: "true"}
    target.keep("weaviate-keys", key, **labels)
    target.asked("weaviate-keys", key)  # a listener is no Weaviate: the answers end it later
    seen = target.keys_by_path
    assert seen.pop("GET /v1/.well-known/ready") is None
    assert set(seen.values()) == {f"Bearer {VALUE}"}
    assert "GET /v1/meta" in seen


def test_a_pod_that_is_not_ready_is_not_told_the_key(target: Target) -> None:
    target.pod.status = 503
    target.keep("weaviate-keys", API_KEY_NAMES[0])
    assert target.asked("weaviate-keys", API_KEY_NAMES[0]) == "NodeNotReady"
    assert set(target.keys_by_path) == {"GET /v1/.well-known/ready"}
    assert VALUE not in target.pod.everything
