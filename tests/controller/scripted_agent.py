"""An agent that speaks the real contract over real TLS and does what a test says instead of moving bytes."""

import asyncio
import contextlib
import secrets
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from weaviate_backup.core.session import (
    AGENT_PORT,
    Audited,
    BackupContents,
    Committed,
    Failure,
    Frozen,
    Inspected,
    NodeReport,
    ProbeAction,
    Probed,
    Progress,
    SessionOrder,
    Step,
    StepCommand,
    StepPhase,
    StepReport,
    Surveyed,
    Tried,
    Uploaded,
    Verified,
)

DIGEST, SIGNER = "d" * 64, "5" * 64
"""Of the backup that these agents make, and of the key that signs it."""


@dataclass
class Script:
    """Shared by all agents of a test: what was ordered, which steps wait, which fail, what is stored."""

    orders: list[tuple[str, Step]] = field(default_factory=list)
    """Of operations; those of probes are in `probing`."""
    probing: list[tuple[str, Step]] = field(default_factory=list)
    sessions: list[SessionOrder] = field(default_factory=list)
    hold: set[Step] = field(default_factory=set)
    failures: dict[Step, list[Failure]] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)
    marker: bool = False
    contents: BackupContents | None = None
    """What an inspection finds in the store."""
    commands: list[StepCommand] = field(default_factory=list)
    """Of operations, in full."""
    probed: dict[ProbeAction, Failure] = field(default_factory=dict)
    """What a probe finds wrong."""
    apart: bool = False
    """The workers of a probe do not see each other's objects."""


class ScriptedAgent:
    """One process. `frozen` nodes stand for the journal on the volume: they outlive it."""

    def __init__(self, node: str, script: Script) -> None:
        self._node = node
        self._probing = False
        self._script = script
        self._changed = asyncio.Condition()
        self._report = NodeReport(operation_uid=None, session_id=secrets.token_hex(4), node=node, revision=1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, certificates: Mapping[str, bytes]) -> None:
        context = server_context(certificates)
        app = web.Application()
        app.add_routes(
            [
                web.put("/v1/session", self._put_session),
                web.post("/v1/steps", self._take),
                web.get("/v1/report", self._get_report),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, AGENT_PORT, ssl_context=context).start()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner:
            await self._runner.cleanup()

    async def _put_session(self, request: web.Request) -> web.Response:
        order = SessionOrder.model_validate_json(await request.text())
        self._probing = order.backup_id.startswith("wvb-probe")
        if not self._probing:
            self._script.sessions.append(order)
        if self._report.operation_uid is None:
            done = StepReport(phase=StepPhase.DONE)
            known = {Step.FREEZE: done} if self._node in self._script.frozen else {}
            found: dict[str, object] = {"frozen": _FROZEN, "surveyed": _SURVEYED} if known else {}
            await self._update(operation_uid=order.operation_uid, steps=known, **found)
        return self._answer()

    async def _take(self, request: web.Request) -> web.Response:
        command = StepCommand.model_validate_json(await request.text())
        (self._script.probing if self._probing else self._script.orders).append((self._node, command.step))
        if not self._probing:
            self._script.commands.append(command)
        known = self._report.steps.get(command.step)
        if known is None or known.phase is StepPhase.FAILED or command.step is Step.VERIFY:
            if command.step in (Step.DISCARD, Step.RELEASE, Step.VACATE):
                for task in self._tasks:
                    task.cancel()
            early: dict[str, object] = {"surveyed": _SURVEYED} if command.step is Step.FREEZE else {}
            await self._set_step(command.step, StepReport(phase=StepPhase.RUNNING, progress=_MOVED), **early)
            task = asyncio.create_task(self._work(command))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._answer()

    async def _get_report(self, request: web.Request) -> web.Response:
        after = int(request.query.get("after", "-1"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(request.query.get("wait_seconds", "0"))), self._changed:
                await self._changed.wait_for(lambda: self._report.revision != after)
        return self._answer()

    async def _work(self, command: StepCommand) -> None:
        step, script = command.step, self._script
        while step in script.hold:  # noqa: ASYNC110 (a test clears it from outside)
            await asyncio.sleep(0.02)
        failures = script.failures.get(step)
        if failures:
            await self._set_step(step, StepReport(phase=StepPhase.FAILED, failure=failures.pop(0)))
            return
        results: dict[str, object] = {}
        if step is Step.FREEZE:
            script.frozen.add(self._node)
            results = {"frozen": _FROZEN}
        elif step is Step.UPLOAD:
            script.stored.add(self._node)
            results = {"uploaded": Uploaded(manifest_sha256=self._node, objects=2, bytes_stored=5)}
        elif step is Step.VERIFY:
            node = command.verify_node or ""
            assert node in script.stored
            checked = Verified(node=node, manifest_sha256=node, objects=2, bytes_stored=5)
            results = {"verified": {**self._report.verified, node: checked}}
        elif step is Step.COMMIT:
            assert set(command.verified) == script.stored
            script.marker = True
            results = {
                "committed": Committed(
                    objects=3,
                    bytes_stored=5,
                    bytes_total=10,
                    completed_at=datetime.now(UTC),
                    backup_sha256=DIGEST,
                    signed_by=SIGNER,
                )
            }
        elif step is Step.DISCARD and not script.marker:
            script.stored.discard(self._node)
        elif step is Step.RELEASE:
            script.frozen.discard(self._node)
        elif step is Step.INSPECT and script.contents is not None:
            results = {"inspected": Inspected(contents=script.contents, bytes_required=1, bytes_free=9)}
        elif step is Step.AUDIT:
            results = {"audited": _AUDITED.model_copy(update={"collections": command.collections})}
        elif step is Step.PROBE:
            tried = tuple(
                Tried(action=each, failure=script.probed.get(each))
                for each in ProbeAction
                if each is not ProbeAction.SHARE
            )
            results = {"probed": Probed(tried=tried, identity="access key te…", clock_skew_seconds=0.0)}
        elif step is Step.MEET and script.apart:
            failure = Failure(reason="LocationNotShared", message="it is not there", transient=False)
            await self._set_step(step, StepReport(phase=StepPhase.FAILED, failure=failure))
            return
        done = StepReport(phase=StepPhase.DONE, progress=_MOVED)
        await self._update(steps={**self._report.steps, step: done}, **results)

    async def _set_step(self, step: Step, report: StepReport, **changes: object) -> None:
        await self._update(steps={**self._report.steps, step: report}, **changes)

    async def _update(self, **changes: object) -> None:
        async with self._changed:
            self._report = self._report.model_copy(update={**changes, "revision": self._report.revision + 1})
            self._changed.notify_all()

    def _answer(self) -> web.Response:
        return web.Response(text=self._report.model_dump_json(), content_type="application/json")


def server_context(certificates: Mapping[str, bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificates["ca.crt"].decode())
    with tempfile.TemporaryDirectory() as directory:
        chain, key = Path(directory, "crt"), Path(directory, "key")
        chain.write_bytes(certificates["tls.crt"])
        key.write_bytes(certificates["tls.key"])
        context.load_cert_chain(chain, key)
    return context


_MOVED = Progress(bytes_total=10, bytes_done=10, bytes_stored=5, files_total=2, files_done=2)
_SURVEYED = Surveyed(sha256="schema")
_FROZEN = Frozen(
    collections=("Article",), shards=1, bytes_total=10, files_total=2, longest_halt_seconds=0.1, tenants_active=0
)
_AUDITED = Audited(
    server_version="1.39.1",
    nodes=("weaviate-0",),
    collections=(),
    objects=3,
    bytes_stored=5,
    bytes_total=10,
    files=2,
    checksummed=True,
)
