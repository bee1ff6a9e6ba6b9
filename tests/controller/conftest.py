"""A namespace with a real Weaviate of one node in it, as the operator sees it, and the operator beside it."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.api_server import ApiServer, Json
from tests.controller.hand_kubelet import HandKubelet
from tests.controller.scripted_agent import Script
from tests.weaviate_server import WeaviateNode, weaviate_cluster

from weaviate_backup.api.names import API_VERSION
from weaviate_backup.controller.process import run_operator
from weaviate_backup.settings import OperatorSettings

PATIENCE_SECONDS = 30.0
TRUSTED = "store.example.com"
_numbers = itertools.count(1)


@dataclass
class Stage:
    """Everything a test acts with."""

    server: ApiServer
    namespace: str
    script: Script
    kubelet: HandKubelet
    settings: OperatorSettings

    async def apply(self, kind: str, name: str, spec: Json) -> Json:
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        status, answer = await asyncio.to_thread(self.server.apply, body)
        assert status in (200, 201), answer
        return answer

    async def move(self, pod: str, address: str) -> None:
        """As one that was made anew."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/status"
        status = {"podIP": address, "podIPs": [{"ip": address}]}
        content = "application/merge-patch+json"
        code, answer = await asyncio.to_thread(
            self.server.request, "PATCH", path, {"status": status}, content_type=content
        )
        assert code == 200, answer

    async def at_home(self, name: str) -> Json:
        """A Secret in the operator's own namespace."""
        path = f"/api/v1/namespaces/{self.settings.namespace}/secrets/{name}"
        return (await asyncio.to_thread(self.server.request, "GET", path))[1]

    async def get(self, path: str) -> tuple[int, Json]:
        root = f"/apis/{API_VERSION}" if path.startswith("weaviate") else "/api/v1"
        if path.startswith("leases"):
            root = "/apis/coordination.k8s.io/v1"
        return await asyncio.to_thread(self.server.request, "GET", f"{root}/namespaces/{self.namespace}/{path}")

    async def wait(self, path: str, condition: Callable[[Json], bool]) -> Json:
        """The object once it is so."""
        found: Json = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    _, found = await self.get(path)
                    if condition(found):
                        return found
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{path} is {found.get('status', found)}; ordered {self.script.orders}") from None

    async def phase(self, name: str, phase: str) -> Json:
        return await self.wait(f"weaviatebackups/{name}", lambda body: phase_of(body) == phase)

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[None]:
        """The operator runs while the context lasts; leaving it is a restart's first half.

        It has a loop of its own: kopf ends every task of its loop when it ends.
        """
        stop = threading.Event()
        task = asyncio.create_task(asyncio.to_thread(asyncio.run, _operate(self.settings, stop)))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)


def trusted_by(pods: list[Json]) -> set[str]:
    """The lists of hosts that agents are told."""
    told = [each for pod in pods for each in pod["spec"]["containers"][0]["env"]]
    return {each.get("value", "") for each in told if each["name"] == "WVB_TRUSTED_STORE_HOSTS"}


def phase_of(body: Json) -> str:
    return str((body.get("status") or {}).get("phase", ""))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def weaviate_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateNode]:
    async with weaviate_cluster(tmp_path_factory.mktemp("weaviate"), nodes=1) as cluster:
        await cluster.create({"class": "Article", "vectorizer": "none"})
        yield cluster.nodes[0]


@pytest.fixture
async def stage(
    api_server: ApiServer, weaviate_node: WeaviateNode, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    home = f"operator-{next(_numbers)}"
    _create(api_server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    async with staged(api_server, weaviate_node, home=home) as found:
        yield found


@asynccontextmanager
async def staged(server: ApiServer, node: WeaviateNode, *, home: str) -> AsyncIterator[Stage]:
    """A namespace of its own for Weaviate, beside the operator's home."""
    namespace = f"controller-{next(_numbers)}"
    _create(server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    _create(server, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named("default", namespace)})
    show_weaviate(server, namespace, node)
    settings = OperatorSettings(
        namespace=home,
        agent_image="agent",
        watch_namespaces=namespace,
        health_port=0,
        metrics_port=0,
        agent_lease_seconds=30,
        trusted_store_hosts=TRUSTED,
        allow_host_path_volumes=True,
    )
    script = Script()
    async with HandKubelet(server, namespace, script) as kubelet:
        yield Stage(server, namespace, script, kubelet, settings)


async def _operate(settings: OperatorSettings, stop: threading.Event) -> None:
    await run_operator(settings, stop=stop)
    await asyncio.sleep(0.5)  # TLS connections end in the background; the loop must not be gone by then


def _named(name: str, namespace: str) -> Json:
    return {"name": name, "namespace": namespace}


def _create(server: ApiServer, body: Json) -> Json:
    status, answer = server.request("POST", server.path_of(body, collection=True), body)
    assert status == 201, answer
    return answer


def show_weaviate(server: ApiServer, namespace: str, node: WeaviateNode) -> None:
    """StatefulSet, pod and claim of a server that runs on loopback."""
    environment = {
        "PERSISTENCE_DATA_PATH": "/var/lib/weaviate",
        "CLUSTER_GOSSIP_BIND_PORT": str(node.gossip_port),
        "CLUSTER_DATA_BIND_PORT": str(node.data_port),
        "RAFT_INTERNAL_RPC_PORT": str(node.raft_rpc_port),
    }
    settings = {"AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true"}
    _create(
        server, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named("settings", namespace), "data": settings}
    )
    pod_spec: dict[str, Any] = {
        "containers": [
            {
                "name": "weaviate",
                "image": "weaviate",
                "args": ["--port", str(node.rest_port), "--scheme", "http"],
                "envFrom": [{"configMapRef": {"name": "settings"}}],
                "env": [{"name": key, "value": value} for key, value in environment.items()],
                "volumeMounts": [{"name": "weaviate-data", "mountPath": "/var/lib/weaviate"}],
            }
        ],
    }
    labels = {"app": "weaviate"}
    created = _create(
        server,
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": _named("weaviate", namespace),
            "spec": {
                "replicas": 1,
                "serviceName": "weaviate",
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod_spec},
                "volumeClaimTemplates": [
                    {
                        "metadata": {"name": "weaviate-data"},
                        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                    }
                ],
            },
        },
    )
    owner = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": "weaviate",
        "uid": created["metadata"]["uid"],
        "controller": True,
    }
    claim = {"persistentVolumeClaim": {"claimName": "weaviate-data-weaviate-0"}}
    _create(
        server,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**_named("weaviate-0", namespace), "labels": labels, "ownerReferences": [owner]},
            "spec": {**pod_spec, "nodeName": "node-0", "volumes": [{"name": "weaviate-data", **claim}]},
        },
    )
    status = {
        "phase": "Running",
        "podIP": node.host,
        "podIPs": [{"ip": node.host}],
        "containerStatuses": [
            {"name": "weaviate", "ready": True, "restartCount": 0, "image": "weaviate", "imageID": "weaviate"}
        ],
    }
    path = f"/api/v1/namespaces/{namespace}/pods/weaviate-0/status"
    code, answer = server.request("PATCH", path, {"status": status}, content_type="application/merge-patch+json")
    assert code == 200, answer
