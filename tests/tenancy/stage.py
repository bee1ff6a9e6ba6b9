"""A cluster with a tenant in one namespace and somebody's secrets in another, and the operator with the chart's rights.

The tenant's pods are a web server that writes down what it is sent. What the operator asks for is read from the API
server's audit log, where every path stands as it arrived.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.api_server import ADMIN_TOKEN, ApiServer, Json
from tests.chart.rendering import FULL_NAME, render

from weaviate_backup.api.crd import definitions
from weaviate_backup.api.names import GROUP

VICTIM = "victim"
CANARY = "hunter2-of-another-namespace"
"""Stands in every Secret that is not the tenant's."""
_BOUNDS = frozenset(
    {"pattern", "format", "enum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
    | {"x-kubernetes-validations"}
)


def loose_definitions() -> list[Json]:
    """Our kinds as an older release may have had them: any string anywhere."""
    made = []
    for definition in definitions().values():
        (version,) = definition["spec"]["versions"]
        versions = [{**version, "schema": _loosened(version["schema"])}]
        made.append({**definition, "spec": {**definition["spec"], "versions": versions}})
    return made


def _loosened(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    made = {key: _loosened(value) for key, value in schema.items() if key not in _BOUNDS}
    if "properties" in schema:
        made["properties"] = {name: _loosened(child) for name, child in schema["properties"].items()}
    return made


class Listener:
    """The tenant's Weaviate: says it is ready, and keeps every request."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(f"{self.path} {dict(self.headers)}")
                body = b'{"version": "1.39.1"}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Tenant:
    """Somebody with all rights in one namespace, our kinds' status and the plans of operations included."""

    server: ApiServer
    namespace: str
    listener: Listener
    token: str = field(init=False)

    def __post_init__(self) -> None:
        namespace(self.server, self.namespace)
        account = {"name": "mallory", "namespace": self.namespace}
        every = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": account}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mallory"}
        apply(self.server, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        apply(self.server, {**binding, "kind": "Role", "rules": every})
        subjects = [{"kind": "ServiceAccount", **account}]
        apply(self.server, {**binding, "kind": "RoleBinding", "roleRef": role, "subjects": subjects})
        self.token = token_of(self.server, self.namespace, "mallory")

    def create(self, body: Json) -> Json | None:
        """With the tenant's own rights; None when the API server does not take it."""
        made = {**body, "metadata": {"namespace": self.namespace, **body["metadata"]}}
        path = self.server.path_of(made, collection=True)
        status, answer = self.server.request("POST", path, made, token=self.token)
        assert status in (201, 400, 422), answer
        return answer if status == 201 else None

    def say(self, body: Json, status: Json) -> None:
        """A status, of a pod or of one of our kinds."""
        path = self.server.path_of(body) + "/status"
        merge = "application/merge-patch+json"
        code, answer = self.server.request("PATCH", path, {"status": status}, content_type=merge, token=self.token)
        assert code == 200, answer

    def objects(self, plural: str) -> list[Json]:
        path = f"/apis/{GROUP}/v1alpha1/namespaces/{self.namespace}/{plural}"
        code, answer = self.server.request("GET", path, token=self.token)
        assert code == 200, answer
        found: list[Json] = answer["items"]
        return found

    def may_read_itself(self, path: str) -> bool:
        return self.server.request("GET", path, token=self.token)[0] == 200


def apply(server: ApiServer, body: Json) -> Json:
    status, answer = server.apply(body)
    assert status in (200, 201), answer
    return answer


def namespace(server: ApiServer, name: str) -> None:
    apply(server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def token_of(server: ApiServer, namespace: str, account: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token: str = server.request("POST", path, request)[1]["status"]["token"]
    return token


def secret(namespace: str, name: str, **data: str) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


@dataclass(frozen=True)
class Operator:
    """An installation of the chart: its service account with the rights that the chart gives it, no Deployment."""

    server: ApiServer
    namespace: str
    watched: str

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{FULL_NAME}"

    def install(self) -> None:
        namespace(self.server, self.namespace)
        values: Json = {"watchNamespaces": [self.watched]} if self.watched else {}
        values["rbac"] = {"aggregateToDefaultRoles": False}
        wanted = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
        for body in render(values, namespace=self.namespace):
            if body["kind"] in wanted:
                apply(self.server, body)

    @contextlib.contextmanager
    def running(self, directory: Path) -> Iterator[Path]:
        """The process, and where its log is."""
        directory.mkdir(parents=True)
        access, log = directory / "kubeconfig", directory / "operator.log"
        token = token_of(self.server, self.namespace, FULL_NAME)
        access.write_text(self.server.kubeconfig.read_text().replace(f"token: {ADMIN_TOKEN}", f"token: {token}"))
        environment = {
            **os.environ,
            "KUBECONFIG": str(access),
            "WVB_NAMESPACE": self.namespace,
            "WVB_AGENT_IMAGE": "agent",
            "WVB_WATCH_NAMESPACES": self.watched,
            "WVB_HEALTH_PORT": "0",
        }
        command = [sys.executable, "-m", "weaviate_backup.cli", "operator"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield log
            assert process.poll() is None, log.read_text()[-2000:]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
