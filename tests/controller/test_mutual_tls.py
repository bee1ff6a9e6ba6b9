"""Operator and agents know each other by certificates that were made for one operation, and by nothing else."""

import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from tests.ports import HOST

from weaviate_backup.agent import app
from weaviate_backup.agent_client import AgentClient, ClientIdentity
from weaviate_backup.controller.certificates import OperationCertificates, issue, server_name
from weaviate_backup.core.session import NodeReport
from weaviate_backup.errors import Transient

UID = "0b5f2c1e"
PODS = {"weaviate-0": "wvb-0b5f2c1e-0", "weaviate-1": "wvb-0b5f2c1e-1"}
NAME = server_name(PODS["weaviate-0"], UID)
REPORT = NodeReport(operation_uid=UID, session_id="s", node="weaviate-0", revision=1)


def issued(uid: str = UID) -> OperationCertificates:
    return issue(uid, PODS, now=datetime.now(UTC), valid_seconds=600)


OURS, OTHERS = issued(), issued()
"""Of the same operation by name; the second by somebody else, or by an operator that began anew."""


def shown(made: OperationCertificates, node: str) -> ssl.SSLContext:
    """An agent's own certificate in the operator's place."""
    leaf = made.agents[node]
    return replace(made.client, certificate_pem=leaf.certificate_pem, key_pem=leaf.key_pem).context()


def without_certificate() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=OURS.ca_pem.decode())


def older() -> ssl.SSLContext:
    context = OURS.client.context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def of_others_and_our_authority() -> ssl.SSLContext:
    """It believes the agent, as whoever reads the authority's certificate may."""
    return ClientIdentity(OURS.ca_pem, OTHERS.client.certificate_pem, OTHERS.client.key_pem).context()


STRANGERS: dict[str, Callable[[], ssl.SSLContext]] = {
    "another operation's operator": of_others_and_our_authority,
    "another agent of the operation": lambda: shown(OURS, "weaviate-1"),
    "the agent itself": lambda: shown(OURS, "weaviate-0"),
    "nobody": without_certificate,
    "an older protocol": older,
}


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[tuple[int, list[str]]]:
    """The agent's own front with one route, and what was asked behind it."""
    leaf, asked = OURS.agents["weaviate-0"], []
    for name, content in (("tls.crt", leaf.certificate_pem), ("tls.key", leaf.key_pem), ("ca.crt", OURS.ca_pem)):
        (tmp_path / name).write_bytes(content)

    async def report(request: web.Request) -> web.Response:
        asked.append(request.path)
        return app.answer(REPORT)

    front = web.Application(middlewares=[app.errors_as_json, app.operator_only])
    front.router.add_get("/v1/report", report)
    runner = web.AppRunner(front)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0, ssl_context=app.server_context(tmp_path))
    await site.start()
    yield runner.addresses[0][1], asked
    await runner.cleanup()


async def told(port: int, tls: ssl.SSLContext, name: str = NAME) -> NodeReport:
    async with AgentClient(host=HOST, server_name=name, tls=tls, port=port) as client:
        return await client.report()


async def test_the_operator_of_the_operation_is_heard(agent: tuple[int, list[str]]) -> None:
    port, asked = agent
    assert await told(port, OURS.client.context()) == REPORT
    assert asked == ["/v1/report"]


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_nobody_else_is_heard(agent: tuple[int, list[str]], stranger: str) -> None:
    port, asked = agent
    with pytest.raises(Transient, match="AgentUnreachable"):
        await told(port, STRANGERS[stranger]())
    assert not asked


@pytest.mark.parametrize(
    ("made", "name"),
    [(OTHERS, NAME), (OURS, server_name(PODS["weaviate-1"], UID)), (OURS, server_name(PODS["weaviate-0"], "another"))],
    ids=["of another authority", "in another agent's place", "in another operation's place"],
)
async def test_no_agent_is_believed(agent: tuple[int, list[str]], made: OperationCertificates, name: str) -> None:
    port, asked = agent
    with pytest.raises(Transient, match="AgentUnreachable"):
        await told(port, made.client.context(), name)
    assert not asked
