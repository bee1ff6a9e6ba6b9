"""Tenants with the right to make pods: what they put into objects that the operator reads, and what calls itself their
Weaviate."""

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from tests.answers.hostile_server import (
    CHUNKED,
    MIB,
    TRICKS,
    HostileServer,
    Line,
    Trick,
    chunked,
    endless,
    whole,
    wide,
)
from tests.api_server import ApiServer, Json
from tests.ports import HOST

from weaviate_backup.api.names import API_VERSION
from weaviate_backup.controller.agent_pods import MANAGED_BY
from weaviate_backup.weaviate.protocol import cluster_pb2, cluster_pb2_grpc

STATEFUL_SET = "weaviate"
NO_LOCATION = "there is no WeaviateBackupLocation"
LABELS = {"app": STATEFUL_SET}
LEADER = b'"name": "weaviate-0", "leaderId": "weaviate-0", "ready": true, "raft": {"state": "Leader"}'
FIGURES = b'{"statistics": [{' + LEADER + b'}], "synchronized": true}'
HONEST = {
    "/v1/.well-known/ready": b"",
    "/v1/meta": b'{"version": "1.39.1", "modules": {"backup-s3": {}}}',
    "/v1/cluster/statistics": FIGURES,
    "/v1/nodes": b'{"nodes": [{"name": "weaviate-0", "status": "HEALTHY"}]}',
    "/v1/backups/s3": b"[]",
}


@dataclass
class Pretender(HostileServer):
    """Answers as Weaviate does, but for one route."""

    route: str = "/v1/backups/s3"

    def play(self, line: Line, head: bytes) -> None:
        path = head.split(b" ", 2)[1].decode().partition("?")[0]
        if path == self.route:
            super().play(line, head)
        else:
            whole(HONEST.get(path, b"{}"))(line, "")


@dataclass(frozen=True)
class Tenant:
    """A namespace, and what is to be said of a backup in it, perhaps among other things."""

    server: ApiServer
    namespace: str
    words: str

    def __post_init__(self) -> None:
        code, answer = self.server.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        )
        assert code in (200, 201), answer

    def create(self, *bodies: Json) -> list[Json]:
        made = []
        for body in bodies:
            at_home = {**body, "metadata": {**body["metadata"], "namespace": self.namespace}}
            code, answer = self.server.request("POST", self.server.path_of(at_home, collection=True), at_home)
            assert code == 201, answer
            made.append(answer)
        return made

    def config_maps(self, count: int, size_bytes: int) -> list[str]:
        names = [f"settings-{number}" for number in range(count)]
        self.create(
            *(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {name: "x" * size_bytes}}
                for name in names
            )
        )
        return names

    def weaviate(self, container: Json, *, pods: Iterable[Json] = ({},), rest: int = 1, raft: int = 1) -> None:
        """A StatefulSet with pods that run; each may have other fields in its container."""
        arguments = ["--port", str(rest), "--scheme", "http"]
        raft_port = {"name": "RAFT_INTERNAL_RPC_PORT", "value": str(raft)}
        template = {"name": "weaviate", "image": "weaviate", "args": arguments, "env": [raft_port], **container}
        made = [{**template, **each} for each in pods]
        (stateful_set,) = self.create(
            {
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "metadata": {"name": STATEFUL_SET},
                "spec": {
                    "replicas": len(made),
                    "serviceName": STATEFUL_SET,
                    "selector": {"matchLabels": LABELS},
                    "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [template]}},
                },
            }
        )
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": STATEFUL_SET}
        reference = {**owner, "uid": stateful_set["metadata"]["uid"], "controller": True}
        self.create(
            *(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{STATEFUL_SET}-{number}",
                        "labels": LABELS,
                        "ownerReferences": [reference],
                    },
                    "spec": {"containers": [each], "nodeName": "node-0"},
                }
                for number, each in enumerate(made)
            )
        )
        status = {"phase": "Running", "podIP": HOST, "podIPs": [{"ip": HOST}]}
        ready = {"name": "weaviate", "ready": True, "restartCount": 0, "image": "weaviate", "imageID": "weaviate"}
        for number in range(min(len(made), 8)):
            path = f"/api/v1/namespaces/{self.namespace}/pods/{STATEFUL_SET}-{number}/status"
            body = {"status": {**status, "containerStatuses": [ready]}}
            code, answer = self.server.request("PATCH", path, body, content_type="application/merge-patch+json")
            assert code == 200, answer

    def agents(self, count: int, size_bytes: int) -> None:
        """Pods that say to be the operator's."""
        variable = {"name": "A", "value": "<" * size_bytes}
        container = {"name": "agent", "image": "agent", "env": [variable]}
        self.create(
            *(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"agent-{number}", "labels": dict(MANAGED_BY)},
                    "spec": {"containers": [container]},
                }
                for number in range(count)
            )
        )

    def backups(self, count: int) -> None:
        self.create(*(self._backup(f"backup-{number}") for number in range(count)))

    def backup(self, name: str) -> None:
        self.create(self._backup(name))

    def _backup(self, name: str) -> Json:
        """Of what is not there: it ends as soon as Weaviate has said what is."""
        spec = {"locationRef": {"name": "none"}, "include": ["Missing"]}
        return {"apiVersion": API_VERSION, "kind": "WeaviateBackup", "metadata": {"name": name}, "spec": spec}


def with_large_objects(server: ApiServer) -> Iterator[Tenant]:
    """Each object is within its bounds, and so is their number."""
    tenant = Tenant(server, "many-settings", "get configmaps many-settings/settings-")
    names = tenant.config_maps(128, MIB - 4096)
    tenant.weaviate({"envFrom": [{"configMapRef": {"name": name}} for name in names]})
    yield tenant
    tenant = Tenant(server, "many-pods", "list pods in many-pods: at most ")
    tenant.weaviate({}, pods=[{"env": [{"name": "A", "value": "x" * 228_000}]}] * 200)
    yield tenant
    tenant = Tenant(server, "laughing-pod", "no process can have that")
    laughs = [{"name": f"A{after}", "value": f"$(A{before})" * 10} for before, after in itertools.pairwise(range(10))]
    tenant.weaviate({"env": [{"name": "A0", "value": "ha"}, *laughs]})
    yield tenant
    tenant = Tenant(server, "false-agents", NO_LOCATION)
    tenant.agents(12, MIB)
    yield tenant


def _drops() -> Iterator[bytes]:
    """More than is read without a turn, and then hardly anything."""
    yield b"[" + b" " * (300 << 10)
    while True:
        time.sleep(0.1)
        yield b" "


TOO_LARGE = "the answer is larger than any that is right"
ANSWERS: dict[str, tuple[Trick, str]] = {
    "drips": (endless(lambda: chunked(_drops()), first=CHUNKED), NO_LOCATION),
    "endless": (TRICKS["endless body"], TOO_LARGE),
    "deep": (TRICKS["deep JSON"], TOO_LARGE),
    "wide": (TRICKS["wide JSON"], TOO_LARGE),
    "bomb": (TRICKS["gzip bomb"], "the answer is packed (gzip), unasked"),
    "emoji": (whole('["😀'.encode() + b"x" * (15 * MIB) + b'"]'), "expected a list of JSON objects"),
}


@contextlib.contextmanager
def with_false_weaviates(server: ApiServer, *, nodes: int) -> Iterator[list[Tenant]]:
    with contextlib.ExitStack() as stack:
        made = []
        for name, (trick, words) in ANSWERS.items():
            pretender = stack.enter_context(Pretender(trick))
            tenant = Tenant(server, f"answers-{name}", words)
            tenant.weaviate({}, pods=[{}] * nodes, rest=pretender.port)
            made.append(tenant)
        schemas = {"names 100000 collections": names(100_000), TOO_LARGE: wide(15 * MIB)}
        for number, (words, schema) in enumerate(schemas.items()):
            pretender = stack.enter_context(Pretender(whole(b"[]")))
            raft = stack.enter_context(raft_that_says(schema))
            tenant = Tenant(server, f"raft-{number}", words)
            tenant.weaviate({}, pods=[{}] * nodes, rest=pretender.port, raft=raft)
            made.append(tenant)
        yield made


def names(count: int) -> bytes:
    classes = b",".join(b'{"class":"C%d"}' % number for number in range(count))
    return b'{"Schema": {"classes": [' + classes + b"]}}"


@contextlib.contextmanager
def raft_that_says(answer: bytes) -> Iterator[int]:
    """The port of a raft RPC with one answer."""

    class Service(cluster_pb2_grpc.ClusterServiceServicer):
        def Query(self, request: Any, context: Any) -> cluster_pb2.QueryResponse:  # noqa: N802 - the protocol's name
            return cluster_pb2.QueryResponse(answer_json=answer)

        def Apply(self, request: Any, context: Any) -> cluster_pb2.ApplyResponse:  # noqa: N802 - as above
            raise NotImplementedError

    options = [("grpc.max_send_message_length", 64 * MIB)]
    service = grpc.server(ThreadPoolExecutor(4), options=options)
    cluster_pb2_grpc.add_ClusterServiceServicer_to_server(Service(), service)
    port = service.add_insecure_port(f"{HOST}:0")
    service.start()
    try:
        yield port
    finally:
        service.stop(0)
