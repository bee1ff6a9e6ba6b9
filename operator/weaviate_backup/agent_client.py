"""The operator's side of the session contract (`core.session`): HTTPS with mutual TLS to one agent.

The agent is reached by its pod's address; what proves it is a certificate of the operation's own authority with the
name expected of that pod. No retries here: the operator looks again anyway.
"""

import json
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from pydantic import ValidationError

from weaviate_backup.core.session import AGENT_PORT, NodeReport, SessionOrder, StepCommand
from weaviate_backup.errors import Permanent, Transient, excerpt

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
"""For a command; an agent answers at once and works on after its answer."""


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
    """One agent. Use as an asynchronous context manager, or call `close`."""

    def __init__(self, *, host: str, server_name: str, tls: ssl.SSLContext, port: int = AGENT_PORT) -> None:
        address = f"[{host}]" if ":" in host else host
        self._url = f"https://{address}:{port}"
        self._server_name = server_name
        self._tls = tls
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
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls))
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS + wait_seconds, sock_connect=CONNECT_SECONDS)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                method,
                self._url + path,
                params=query,
                data=body,
                headers=headers,
                timeout=timeout,
                server_hostname=self._server_name,
                allow_redirects=False,
            ) as response:
                status, text = response.status, await response.text()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            detail = excerpt(str(error)) or type(error).__name__
            raise Transient("AgentUnreachable", f"{method} {path} at {self._url}: {detail}") from error
        if status >= 300:
            raise _failure(status, text)
        try:
            return NodeReport.model_validate_json(text)
        except ValidationError as error:
            raise Permanent("AgentIncompatible", f"{self._url}: its report cannot be read: {error.title}") from error


def _failure(status: int, text: str) -> Transient | Permanent:
    said = _object(text)
    reason, message = str(said.get("reason") or "AgentRefused"), excerpt(str(said.get("message") or text))
    if status == 409 and reason != "SessionConflict":
        return Transient(reason, message)  # a step before it is missing: looking again finds that out
    return Transient(reason, message) if status in (429, 503) else Permanent(reason, message)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
