"""A real agent process and a client that speaks mutual TLS to it, as the operator does.

Certificates are made per directory by a throw-away authority. `AgentProcess` starts, kills and restarts the program on
one port; `Agent.step` sends a command and waits for its end by long polls.
"""

import asyncio
import datetime
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.ports import free_port

from weaviate_backup.core.session import NodeReport, SessionOrder, Step, StepCommand, StepPhase, StepReport

SERVER_NAME = "agent.wvb.internal"
START_SECONDS = 60
USING = (Step.DOWNLOAD, Step.APPLY, Step.CONFIRM)
PROGRAM = (sys.executable, "-c", "from weaviate_backup.cli import main; main()", "agent")


class Authority:
    """Signs certificates; each name gets a directory with ca.crt, tls.crt and tls.key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = (
            self._builder(self._name, self._key.public_key()).add_extension(constraints, critical=True)
        ).sign(self._key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def issue(self, common_name: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        names = x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)])
        certificate = self._builder(subject, key.public_key()).add_extension(names, critical=False)
        directory = self._directory / common_name
        directory.mkdir(parents=True, exist_ok=True)
        pem = serialization.Encoding.PEM
        (directory / "ca.crt").write_bytes(self._certificate.public_bytes(pem))
        (directory / "tls.crt").write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(pem))
        (directory / "tls.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return directory


class Refused(Exception):
    """An answer that is no report."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


class Agent:
    """One agent process and a session with it."""

    def __init__(
        self, directory: Path, *, order: SessionOrder, data_path: Path | None, credentials: dict[str, str] | None = None
    ) -> None:
        self.order = order
        self.log_path = directory / f"agent-{order.node}.log"
        self._authority = Authority(directory / "certificates")
        self._operator = self._authority.issue("operator")
        secret = directory / "credentials"
        secret.mkdir(parents=True, exist_ok=True)
        for name, value in (credentials or {}).items():
            (secret / name).write_text(value)
        self.port = free_port()
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "WVB_OPERATION_UID": order.operation_uid,
            "WVB_NODE": order.node,
            "WVB_PORT": str(self.port),
            "WVB_DATA_PATH": str(data_path) if data_path else "",
            "WVB_TLS_DIRECTORY": str(self._authority.issue("agent")),
            "WVB_CREDENTIALS_DIRECTORY": str(secret),
            "WVB_CA_DIRECTORY": str(directory / "no-ca"),
            "WVB_CLUSTER_DIRECTORY": str(directory / "cluster"),
            "WVB_SIGNING_DIRECTORY": str(directory / "signing"),
            "WVB_FILESYSTEM_ROOT": str(directory / "store"),
            "WVB_LEASE_SECONDS": str(order.lease_seconds),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.session_id = ""
        self.backup_sha256 = ""
        """Of the backup that this agent, or another one before, inspected; what uses the backup is told it."""
        self._session: aiohttp.ClientSession | None = None

    def client(self, name: str | None = "operator") -> aiohttp.ClientSession:
        context = ssl.create_default_context(cafile=str(self._operator / "ca.crt"))
        if name is not None:
            directory = self._authority.issue(name)
            context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))

    async def start(self) -> None:
        """Start the process and put the session; a restarted one gets the same order."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 (it only starts)
                PROGRAM, env=self.environment, stdout=log, stderr=log
            )
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            try:
                await self.put_session()
                return
            except aiohttp.ClientConnectorError:
                if self.process.poll() is not None or asyncio.get_running_loop().time() > deadline:
                    raise RuntimeError(self.log_path.read_text()[-2000:]) from None
                await asyncio.sleep(0.05)

    async def put_session(self, order: SessionOrder | None = None) -> NodeReport:
        report = await self.call("PUT", "/v1/session", body=(order or self.order).model_dump_json())
        self.session_id = report.session_id
        return report

    async def take(self, step: Step, **fields: Any) -> NodeReport:
        if step in USING and self.backup_sha256:
            fields = {"backup_sha256": self.backup_sha256, **fields}
        command = StepCommand(operation_uid=self.order.operation_uid, step=step, **fields)
        return await self.call("POST", "/v1/steps", body=command.model_dump_json())

    async def report(self, *, after: int | None = None, wait_seconds: float = 0) -> NodeReport:
        query = {"wait_seconds": str(wait_seconds)} | ({} if after is None else {"after": str(after)})
        return await self.call("GET", "/v1/report", query=query)

    async def ended(self, step: Step, *, timeout_seconds: float = 300) -> NodeReport:
        """The report once the step does not run any more."""
        async with asyncio.timeout(timeout_seconds):
            report = await self.report()
            while report.steps[step].phase is StepPhase.RUNNING:
                report = await self.report(after=report.revision, wait_seconds=20)
            if step is Step.INSPECT and report.inspected is not None:
                self.backup_sha256 = report.inspected.contents.sha256
            return report

    async def step(self, step: Step, **fields: Any) -> NodeReport:
        """Take a step and wait until it is done. Fails with the step's failure."""
        await self.take(step, **fields)
        report = await self.ended(step)
        assert report.steps[step].phase is StepPhase.DONE, report.steps[step].failure
        return report

    async def failure(self, step: Step, **fields: Any) -> StepReport:
        """Take a step that must fail."""
        await self.take(step, **fields)
        known = (await self.ended(step)).steps[step]
        assert known.phase is StepPhase.FAILED
        return known

    async def call(
        self, method: str, path: str, *, body: str | None = None, query: dict[str, str] | None = None
    ) -> NodeReport:
        if self._session is None:
            self._session = self.client()
        url = f"https://127.0.0.1:{self.port}{path}"
        async with self._session.request(method, url, data=body, params=query, server_hostname=SERVER_NAME) as response:
            text = await response.text()
            if response.status != 200:
                said = await response.json()
                raise Refused(response.status, said["reason"], said["message"])
            return NodeReport.model_validate_json(text)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(self.process.wait, 15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@asynccontextmanager
async def agent_process(
    directory: Path, *, order: SessionOrder, data_path: Path | None, credentials: dict[str, str] | None = None
) -> AsyncIterator[Agent]:
    """A running agent with its session; gone afterwards, its log shown when the test fails."""
    agent = Agent(directory, order=order, data_path=data_path, credentials=credentials)
    try:
        await agent.start()
        yield agent
    finally:
        await agent.stop()
        if agent.log_path.exists():
            print(agent.log_path.read_text()[-6000:])
