"""What others answer: Weaviate's REST API, its data port and its raft port, and agents. Real clients ask a real server
on loopback, which answers with the case.

A case begins with two bytes: which call is made, and with which status it is answered.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import grpc
from e2e.fuzzing import own_seeds
from e2e.fuzzing.judging import Broken, Format, Reading
from e2e.fuzzing.spoiling import Choices, behind, in_bytes, in_json
from tests.places import place_of
from tests.ports import HOST

from weaviate_backup.agent_client import AgentClient
from weaviate_backup.api.config import BackupOptions, RestoreOptions
from weaviate_backup.controller.certificates import issue, server_name
from weaviate_backup.core.server_place import ServerPlace
from weaviate_backup.core.session import (
    BackupContents,
    Failure,
    Frozen,
    Inspected,
    NodeReport,
    Step,
    StepCommand,
    StepPhase,
    StepReport,
)
from weaviate_backup.weaviate.late_writes import MAGIC, Write, encode, replay
from weaviate_backup.weaviate.protocol import cluster_pb2
from weaviate_backup.weaviate.raft_access import AccessClient
from weaviate_backup.weaviate.rest import NodeClient, RestClient
from weaviate_backup.weaviate.server_backups import ServerBackups

HEAD_BYTES = 2
CLOSING_SECONDS = 0.2
"""A TLS connection closes when the other end has."""
STATUSES = (200, 200, 200, 200, 204, 301, 400, 401, 403, 404, 409, 422, 429, 500, 503)
CODES = tuple(grpc.StatusCode)[1:]
T = TypeVar("T")
Call = Callable[[T], Awaitable[Any]]


@dataclass
class Answering:
    """What the server says to whatever it is asked."""

    status: int = 200
    body: bytes = b""

    async def serve(self, kept: AsyncExitStack, *, tls: ssl.SSLContext | None = None) -> int:
        """The port it listens at, for as long as that is kept."""
        server = await kept.enter_async_context(await asyncio.start_server(self._connected, HOST, 0, ssl=tls))
        return int(server.sockets[0].getsockname()[1])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if b"content-length:" in head:
                    await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
                body = b"" if self.status == 204 else self.body
                writer.write(b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n" % (self.status, len(body)))
                writer.write(body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.close()


REST_CALLS: tuple[Call[RestClient], ...] = (
    lambda client: client.meta(),
    lambda client: client.nodes(len),
    lambda client: client.positions(),
    lambda client: client.schema(len),
    lambda client: client.tenants("Article"),
    lambda client: client.aliases(),
    lambda client: client.native_backups_active(),
    lambda client: client.users_enabled(),
    lambda client: client.ready(),
    lambda client: client.call("GET", "/v1/anything"),
    lambda client: client.delete_alias("News"),
)
NODE_CALLS: tuple[Call[NodeClient], ...] = (
    lambda client: client.status(),
    lambda client: client.shards("Article"),
    lambda client: client.position(),
)
ENGINE_CALLS: tuple[Call[ServerBackups], ...] = (
    lambda engine: engine.status("b"),
    lambda engine: engine.restore_status("b"),
    lambda engine: engine.cancel("b"),
    lambda engine: engine.create("b", ["Article"], BackupOptions()),
    lambda engine: engine.restore("b", [], RestoreOptions(), node_mapping={}, overwrite_alias=False),
)
RAFT_CALLS: tuple[Call[AccessClient], ...] = (
    lambda client: client.class_names(),
    lambda client: client.collection("Article"),
    lambda client: client.sharding_state("Article"),
    lambda client: client.snapshot("Article"),
    lambda client: client.aliases(),
    lambda client: client.role_names(),
    lambda client: client.user_names(),
    lambda client: client.restore_class("Article", own_seeds.CLASS, own_seeds.STATE),
    lambda client: client.create_alias("News", "Article"),
    lambda client: client.delete_user("ada"),
)
ORDER = StepCommand(operation_uid="u", step=Step.FREEZE)
AGENT_CALLS: tuple[Call[AgentClient], ...] = (
    lambda client: client.report(),
    lambda client: client.report(after=3, wait_seconds=1),
    lambda client: client.take(ORDER),
)


def _weaviate(directory: Path, _: Path | None) -> Reading:
    loop, kept, answering = asyncio.new_event_loop(), AsyncExitStack(), Answering()
    (directory / "late").write_bytes(MAGIC + encode(Write(UUID(int=1), 1, b"object")))

    async def opened() -> list[Callable[[], Awaitable[Any]]]:
        port = await answering.serve(kept)
        rest = await kept.enter_async_context(RestClient(f"http://{HOST}:{port}", "key"))
        node = await kept.enter_async_context(NodeClient(HOST, port))
        engine = ServerBackups(rest, ServerPlace("filesystem"))

        def late() -> Awaitable[Any]:
            return replay(HOST, port, collection="Article", shard="s0", captured=place_of(directory) / "late")

        return [
            *(_bound(call, rest) for call in REST_CALLS),
            *(_bound(call, node) for call in NODE_CALLS),
            *(_bound(call, engine) for call in ENGINE_CALLS),
            late,
        ]

    bodies = [json.dumps(each).encode() for each in SAID]
    return _answers(loop, kept, answering, loop.run_until_complete(opened()), bodies)


def _bound(call: Call[T], client: T) -> Callable[[], Awaitable[Any]]:
    return lambda: call(client)


def _answers(
    loop: asyncio.AbstractEventLoop,
    kept: AsyncExitStack,
    answering: Answering,
    calls: Sequence[Callable[[], Awaitable[Any]]],
    bodies: Sequence[bytes],
) -> Reading:
    def read(content: bytes, _: Path) -> None:
        if len(content) < HEAD_BYTES:
            return
        answering.status = STATUSES[content[1] % len(STATUSES)]
        answering.body = content[HEAD_BYTES:]
        found = loop.run_until_complete(calls[content[0] % len(calls)]())
        if isinstance(found, NodeReport) and NodeReport.model_validate_json(found.model_dump_json()) != found:
            raise Broken("the report says something else when it is kept")

    corpus = [bytes((call, 0)) + body for call in range(len(calls)) for body in bodies]
    return Reading(corpus, read, lambda: _close(loop, kept))


def _close(loop: asyncio.AbstractEventLoop, kept: AsyncExitStack) -> None:
    async def close() -> None:
        await kept.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(CLOSING_SECONDS)

    loop.run_until_complete(close())
    loop.close()


def _agent(directory: Path, _: Path | None) -> Reading:
    loop, kept, answering = asyncio.new_event_loop(), AsyncExitStack(), Answering()
    made = issue("u", {"n0": "pod-0"}, now=datetime.now(UTC), valid_seconds=7 * 24 * 3600)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = made.agents["n0"]
    for name, pem in (("tls.crt", leaf.certificate_pem), ("tls.key", leaf.key_pem)):
        (directory / name).write_bytes(pem)
    tls.load_cert_chain(directory / "tls.crt", directory / "tls.key")

    async def opened() -> list[Callable[[], Awaitable[Any]]]:
        port = await answering.serve(kept, tls=tls)
        client = AgentClient(host=HOST, server_name=server_name("pod-0", "u"), tls=made.client.context(), port=port)
        await kept.enter_async_context(client)
        return [_bound(call, client) for call in AGENT_CALLS]

    bodies = [REPORT.model_dump_json().encode(), b'{"reason": "SessionConflict", "message": "another operation"}']
    return _answers(loop, kept, answering, loop.run_until_complete(opened()), bodies)


class _Raft(grpc.GenericRpcHandler):
    """Answers every method with the same message, or the same error."""

    def __init__(self) -> None:
        self.answer = b""
        self.code: grpc.StatusCode | None = None

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        async def answer(_: bytes, context: Any) -> bytes:
            if self.code is not None:
                await context.abort(self.code, self.answer.decode(errors="replace"))
            return self.answer

        return grpc.unary_unary_rpc_method_handler(answer)


def _raft(directory: Path, _: Path | None) -> Reading:
    loop, kept, raft = asyncio.new_event_loop(), AsyncExitStack(), _Raft()

    async def opened() -> AccessClient:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((raft,))
        port = server.add_insecure_port(f"{HOST}:0")
        await server.start()
        kept.push_async_callback(server.stop, None)
        return await kept.enter_async_context(AccessClient(HOST, port))

    client = loop.run_until_complete(opened())

    def read(content: bytes, _: Path) -> None:
        if len(content) < HEAD_BYTES:
            return
        kind, body = content[1] % (2 + len(CODES)), content[HEAD_BYTES:]
        raft.code = CODES[kind - 2] if kind >= 2 else None
        raft.answer = body[:1024] if raft.code else body if kind else _message(body)
        loop.run_until_complete(RAFT_CALLS[content[0] % len(RAFT_CALLS)](client))

    corpus = [bytes((call, 0)) + json.dumps(each).encode() for call in range(len(RAFT_CALLS)) for each in QUERIES]
    return Reading(corpus, read, lambda: _close(loop, kept))


def _message(answer_json: bytes) -> bytes:
    return cluster_pb2.QueryResponse(answer_json=answer_json).SerializeToString()


def _spoil(choose: Choices, content: bytes, corpus: Sequence[bytes]) -> bytes:
    """Answers are large now and then; so are errors, in any alphabet."""
    if choose.number(0, 40) == 0:
        return content * 50
    return in_bytes(choose, content, corpus) if choose.number(0, 5) == 0 else in_json(choose, content, corpus)


CONTENTS = BackupContents(
    server_version="1.39.1", layout_version="2.1", status="SUCCESS", leader="n0", nodes=("n0",), verifiable=True,
    collections=("Article",), aliases={"News": "Article"}, bytes_total=5, sha256="ab" * 32,
)  # fmt: skip
REPORT = NodeReport(
    operation_uid="u",
    session_id="s",
    node="n0",
    revision=3,
    steps={Step.FREEZE: StepReport(phase=StepPhase.FAILED, failure=Failure(reason="A", message="b", transient=True))},
    frozen=Frozen(collections=("Article",), shards=1, bytes_total=5, files_total=1, longest_halt_seconds=0.1),
    inspected=Inspected(contents=CONTENTS, bytes_required=1, bytes_free=2),
)
SHARD = {
    "class": "Article", "name": "s0", "objectCount": 3, "loaded": True,
    "vectorIndexingStatus": "READY", "vectorQueueLength": 0,
}  # fmt: skip
SAID: tuple[Any, ...] = (
    {"version": "1.39.1", "hostname": "http://[::]:8080", "modules": {"backup-filesystem": {"backupsPath": "/b"}}},
    {"nodes": [{"name": "n0", "status": "HEALTHY", "version": "1.39.1", "shards": [SHARD]}]},
    {"name": "n0", "version": "1.39.1", "status": "HEALTHY", "shards": [SHARD]},
    {
        "statistics": [{"name": "n0", "leaderId": "n0", "raft": {"state": "Leader", "appliedIndex": "7"}}],
        "synchronized": True,
    },
    {"classes": [own_seeds.CLASS]},
    [{"name": "acme", "activityStatus": "HOT"}, {"name": "globex", "activityStatus": "COLD"}],
    {"aliases": [{"alias": "News", "class": "Article"}]},
    [{"id": "b", "status": "STARTED", "classes": ["Article"]}, {"id": "c", "status": "SUCCESS"}],
    {"id": "b", "status": "SUCCESS", "error": "", "size": 0.5, "path": "/b"},
    {"error": [{"message": "already in progress"}]},
    [None, {"error": "refused"}],
)
QUERIES: tuple[Any, ...] = (
    {"Schema": {"classes": [own_seeds.CLASS]}},
    {"Classes": {"Article": {**own_seeds.CLASS, "Version": 7}}},
    {"State": own_seeds.STATE, "Version": 7},
    {"Aliases": {"News": "Article"}},
    {"Class": "Article"},
    {"Roles": {"editor": [{"Resource": "a", "Verb": "R", "Domain": "data"}]}},
    {"Users": {"ada": {"Id": "ada"}}},
)
FORMATS = (
    Format("weaviate-answers", _weaviate, behind(HEAD_BYTES, _spoil), transient=True),
    Format("raft-answers", _raft, behind(HEAD_BYTES, _spoil), transient=True),
    Format("agent-answers", _agent, behind(HEAD_BYTES, _spoil), transient=True),
)
