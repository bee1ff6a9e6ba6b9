"""Every call to Weaviate, to an agent and to the API server, against every trick: it ends in time with one of our
errors, takes little memory, asks nobody else, and says nothing that steers a terminal."""

import asyncio
import inspect
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.answers.hostile_server import TRICKS, HostileServer, Peak, whole
from tests.ports import HOST

from weaviate_backup import agent_client, kube
from weaviate_backup.agent_client import AgentClient
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.controller import agent_links, driving
from weaviate_backup.controller.agent_links import AgentAddress, AgentLinks
from weaviate_backup.controller.certificates import issue, server_name
from weaviate_backup.core.session import NodeReport, SessionOrder, Step, StepCommand, StoreOrder
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.kube import PODS, Kube
from weaviate_backup.weaviate import rest
from weaviate_backup.weaviate.rest import NodeClient, RestClient
from weaviate_backup.weaviate.rpc import ClusterCredentials
from weaviate_backup.weaviate.shard_objects import DataPort, open_data_port

SECONDS = 1.5
SLACK_SECONDS = 12.0
PEAK_MIB = 100
"""A body of 15 MiB takes 30 while it is put together, and as much again in the server, which is in this process."""

SECRETS = ("secret-of-a-user", "secret-of-the-operator", "secret-of-the-data-port")

Call = Callable[[Any], Awaitable[Any]]


def calls_of(kind: type) -> dict[str, Call]:
    """Every call that the class has, with arguments made from its signature: a new one is in here by itself."""

    def call(name: str, wanted: dict[str, Any]) -> Call:
        return lambda instance: getattr(instance, name)(**wanted)

    found: dict[str, Call] = {}
    for name, function in inspect.getmembers(kind, inspect.iscoroutinefunction):
        if name.startswith("_") or name == "close" or isinstance(inspect.getattr_static(kind, name), classmethod):
            continue
        parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
        wanted = {each.name: ARGUMENTS[each.name] for each in parameters if each.default is each.empty}
        found[f"{kind.__name__}.{name}"] = call(name, wanted)
    return found


BODY = {"metadata": {"namespace": "a", "name": "b"}, "kind": "Pod"}
ARGUMENTS: dict[str, Any] = {
    "alias": "A",
    "body": BODY,
    "collection": "Article",
    "keep": lambda body: body,
    "command": StepCommand(operation_uid="u", step=Step.FREEZE),
    "method": "GET",
    "name": "b",
    "namespace": "a",
    "order": SessionOrder(
        operation_uid="u", node="weaviate-0", backup_id="b", server_version="1.39.1", weaviate=None, work=StoreOrder(),
        location=LocationSpec.model_validate({"s3": {"bucket": "bucket"}}),
    ),
    "path": "/v1/anything",
    "resource": PODS,
    "reason": "Refused",
    "shard": "one",
    "take": lambda found: found,
    "tenants": ("one",),
    "url": "/indices/Article/shards/one/objects",
}  # fmt: skip


Opened = Callable[[HostileServer, Path], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def kube_of(server: HostileServer, directory: Path) -> AsyncIterator[Kube]:
    """As the operator finds its API server."""
    config = directory / f"{uuid4()}.kubeconfig"
    cluster = {"name": "a", "cluster": {"server": server.url}}
    user = {"name": "a", "user": {"token": "secret-of-the-operator"}}
    context = {"name": "a", "context": {"cluster": "a", "user": "a", "namespace": "a"}}
    document = {"apiVersion": "v1", "kind": "Config", "current-context": "a"}
    await asyncio.to_thread(
        config.write_text, json.dumps({**document, "clusters": [cluster], "users": [user], "contexts": [context]})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(config))
        connected = await Kube.connect()
    async with connected:
        yield connected


@asynccontextmanager
async def data_port_of(server: HostileServer) -> AsyncIterator[Any]:
    """Asked by whole URLs."""
    async with open_data_port(ClusterCredentials("u", "secret-of-the-data-port"), timeout_seconds=SECONDS) as port:

        class Port:
            async def send(self, method: str, url: str, *, reason: str) -> bytes:
                return await port.send(method, server.url + url, reason=reason, body=b"")

        yield Port()


CERTIFICATES = issue("uid", {"weaviate-0": "pod-0"}, now=datetime.now(UTC), valid_seconds=3600)
FAMILIES: dict[type, Opened] = {
    RestClient: lambda server, _: RestClient(server.url, "secret-of-a-user", timeout_seconds=SECONDS),
    NodeClient: lambda server, _: NodeClient(HOST, server.port, ClusterCredentials("u", "secret-of-the-data-port")),
    AgentClient: lambda server, _: AgentClient(
        host=HOST, server_name=server_name("pod-0", "uid"), tls=CERTIFICATES.client.context(), port=server.port
    ),
    Kube: kube_of,
    DataPort: lambda server, _: data_port_of(server),
}
CALLS = {name: (kind, call) for kind in FAMILIES for name, call in calls_of(kind).items()}


def agents_tls(directory: Path) -> ssl.SSLContext:
    leaf = CERTIFICATES.agents["weaviate-0"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (directory / "tls.crt").write_bytes(leaf.certificate_pem)
    (directory / "tls.key").write_bytes(leaf.key_pem)
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    return context


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "TIMEOUT_SECONDS", SECONDS)
    monkeypatch.setattr(agent_client, "ANSWER_SECONDS", SECONDS)
    monkeypatch.setattr(kube, "TIMEOUT_SECONDS", SECONDS)


def test_every_call_is_tried() -> None:
    assert len(CALLS) >= 25
    assert {
        "RestClient.schema",
        "NodeClient.shards",
        "AgentClient.report",
        "Kube.pick",
        "DataPort.send",
    } <= CALLS.keys()


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("kind", FAMILIES, ids=lambda kind: kind.__name__)
async def test_a_trick_on_every_call_of(kind: type, trick: str, tmp_path: Path) -> None:
    """All calls of a client at once, since most tricks take their time."""
    tls = agents_tls(tmp_path) if kind is AgentClient else None
    with HostileServer(whole(b"{}")) as trap, HostileServer(TRICKS[trick], trap.url, tls) as server:
        peak, started_at = Peak(), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for call in calls_of(kind).values():
                group.create_task(one_call(kind, call, server, tmp_path))
        seconds, grown_mib = time.monotonic() - started_at, peak.mib
        assert server.requests, "nobody was asked"
        assert not trap.requests, "a redirect was followed"
    await asyncio.sleep(0.2)  # a TLS connection closes when the other end has
    assert seconds < SECONDS + SLACK_SECONDS
    assert grown_mib < PEAK_MIB


async def one_call(kind: type, call: Call, server: HostileServer, directory: Path) -> None:
    async with FAMILIES[kind](server, directory) as opened:
        try:
            await call(opened)
        except BackupError as error:
            assert all(each.isprintable() for each in error.message), repr(error.message)
            assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", error.reason)
            assert len(error.message) < 1000
            assert not any(secret in error.message for secret in SECRETS)


async def test_an_agent_that_answers_at_once_is_not_asked_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "BURST_TICKS", 5)
    report = NodeReport(operation_uid="u", session_id="s", node="weaviate-0", revision=1)
    asked = await followed(report.model_dump_json().encode(), tmp_path, seconds=2 * driving.PACE_SECONDS)
    assert 1 < asked <= 5 + 2 + 2


async def test_an_agent_whose_answers_are_of_no_use_is_left_to_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question renews it, and who counts as silent must become so."""
    monkeypatch.setattr(agent_links, "USELESS_SECONDS", 1.0)
    useless = b'{"revision": "of another version"}'
    assert 3 <= await followed(useless, tmp_path, seconds=8) <= 10
    assert await followed(useless, tmp_path, seconds=8, silence_seconds=0.5) > 12


async def test_an_unreadable_answer_to_an_order_is_no_refusal(tmp_path: Path) -> None:
    """The agent may be at work; what it says next tells."""
    for answer in (whole(b'{"revision": -1}'), whole(b"[" * 5000), TRICKS["endless body"]):
        with HostileServer(answer, tls=agents_tls(tmp_path)) as server:
            async with FAMILIES[AgentClient](server, tmp_path) as agent:
                for order in (agent.take(ARGUMENTS["command"]), agent.put_session(ARGUMENTS["order"])):
                    with pytest.raises(Transient):
                        await order
                with pytest.raises(BackupError):
                    await agent.report()
    refusal = json.dumps({"reason": "NodeMismatch", "message": "not this node"}).encode()
    with HostileServer(whole(refusal, status="422 Unprocessable"), tls=agents_tls(tmp_path)) as server:
        async with FAMILIES[AgentClient](server, tmp_path) as agent:
            with pytest.raises(Permanent, match="NodeMismatch"):
                await agent.take(ARGUMENTS["command"])
    await asyncio.sleep(0.2)  # a TLS connection closes when the other end has


async def followed(answer: bytes, directory: Path, *, seconds: float, silence_seconds: float = 60) -> int:
    """How often an agent is asked in that time that always says the same."""
    with HostileServer(whole(answer), tls=agents_tls(directory)) as server:
        links = AgentLinks(lambda: None, whose="a", silence_seconds=silence_seconds)
        name = server_name("pod-0", "uid")
        address = AgentAddress(pod_uid="p", host=HOST, server_name=name, port=server.port)
        try:
            await links.follow({"weaviate-0": address}, CERTIFICATES.client.context())
            await asyncio.sleep(seconds)
        finally:
            await links.close()
    await asyncio.sleep(0.2)  # a TLS connection closes when the other end has
    return len(server.requests)


async def test_a_listing_that_took_too_long_is_begun_again(tmp_path: Path) -> None:
    """The API server keeps the state of one for some minutes."""
    expired = json.dumps({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}).encode()
    with HostileServer(whole(expired, status="410 Gone")) as server:
        async with kube_of(server, tmp_path) as connected:
            with pytest.raises(Transient, match="too old"):
                await connected.pick(PODS, "a", lambda body: body)
