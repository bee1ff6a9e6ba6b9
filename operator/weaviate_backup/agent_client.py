"""The operator's side of the session contract (`core.session`): HTTPS with mutual TLS to one agent.

The agent is reached by its pod's address; what proves it is a certificate of the operation's own authority with the
name expected of that pod. No retries here: the operator looks again anyway.
"""

import re
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from pydantic import ValidationError

from weaviate_backup.answers import REPORT, Answer, ask, open_session, parse, too_large
from weaviate_backup.core.session import AGENT_PORT, NodeReport, SessionOrder, StepCommand
from weaviate_backup.errors import Permanent, Transient, excerpt
from weaviate_backup.layout.json_bounds import BeyondBounds

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
"""For a command; an agent answers at once and works on after its answer."""
REASON = r"[A-Z][A-Za-z0-9]{0,63}"
"""One CamelCase word: it becomes the reason of a condition."""


class AgentRefusal(Permanent):
    """The agent's own word that it does not do what it was asked for."""


@dataclass(frozen=True)
class ClientIdentity:
    """PEM of the operation's authority and of the operator's own certificate in it. Never printed."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return "ClientIdentity(…)"

    def context(self) -> ssl.SSLContext:
        """TLS 1.3, their authority only, our certificate shown."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self.ca_pem.decode())
        with tempfile.TemporaryDirectory() as directory:  # the ssl module reads a key from files only
            certificate, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
            certificate.write_bytes(self.certificate_pem)
            key.touch(mode=0o600)
            key.write_bytes(self.key_pem)
            context.load_cert_chain(certificate, key)
        return context


class AgentClient:
    """One agent. Use as an asynchronous context manager, or call `close`. `whose`: its owner, by whom answers take
    turns."""

    def __init__(
        self, *, host: str, server_name: str, tls: ssl.SSLContext, port: int = AGENT_PORT, whose: str = ""
    ) -> None:
        address = f"[{host}]" if ":" in host else host
        self._url = f"https://{address}:{port}"
        self._server_name = server_name
        self._tls = tls
        self._whose = whose
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def put_session(self, order: SessionOrder) -> NodeReport:
        return await self._call("PUT", "/v1/session", body=order.model_dump_json())

    async def take(self, command: StepCommand) -> NodeReport:
        return await self._call("POST", "/v1/steps", body=command.model_dump_json())

    async def report(self, *, after: int | None = None, wait_seconds: float = 0.0) -> NodeReport:
        """With `after`, answers once the revision differs from it, at the latest after `wait_seconds`."""
        query = {} if after is None else {"after": str(after), "wait_seconds": f"{wait_seconds:g}"}
        return await self._call("GET", "/v1/report", query=query, wait_seconds=wait_seconds)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: str | None = None,
        query: dict[str, str] | None = None,
        wait_seconds: float = 0.0,
    ) -> NodeReport:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            self._session = open_session(timeout=timeout, connector=aiohttp.TCPConnector(ssl=self._tls))
        what = f"{method} {path} at {self._url}"

        def take(answer: Answer) -> NodeReport:
            if not answer.is_good:
                raise _failure(answer, what)
            try:
                REPORT.refuse_beyond(answer.body)
                return NodeReport.model_validate_json(answer.body)
            except ValidationError as error:
                message = f"{self._url}: its report cannot be read: {error.title}"
                raise Permanent("AgentIncompatible", message) from error
            except BeyondBounds as error:
                raise too_large(what, str(error)) from error

        try:
            return await ask(
                self._session, method, self._url + path, take, what=what, limit_bytes=REPORT.size_bytes,
                total_seconds=ANSWER_SECONDS + wait_seconds, whose=self._whose, params=query, data=body,
                headers={"Content-Type": "application/json"}, server_hostname=self._server_name,
            )  # fmt: skip
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Transient("AgentUnreachable", f"{what}: {excerpt(str(error)) or type(error).__name__}") from error
        except Permanent as error:
            if method == "GET" or isinstance(error, AgentRefusal):
                raise
            message = f"{error.message}; whether the agent took the order, its report will tell"
            raise Transient(error.reason, message) from error


def _failure(answer: Answer, what: str) -> Transient | AgentRefusal:
    said = _object(answer, what)
    reason = str(said.get("reason") or "")
    if re.fullmatch(REASON, reason) is None:
        reason = "AgentRefused"
    message = excerpt(str(said.get("message") or answer.text))
    if answer.status == 409 and reason != "SessionConflict":
        return Transient(reason, message)  # a step before it is missing: looking again finds that out
    return Transient(reason, message) if answer.status in (429, 503) else AgentRefusal(reason, message)


def _object(answer: Answer, what: str) -> dict[str, Any]:
    try:
        value = parse(answer.body, REPORT, what=what)
    except Permanent:
        return {}
    return value if isinstance(value, dict) else {}
