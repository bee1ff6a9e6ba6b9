"""One session: takes steps, each a task of its own, and knows what is to be reported.

Idempotent as the contract says: a running or finished step is not started again, a failed one is. DISCARD, RELEASE and
VACATE end everything else first.

Two clocks run while nobody asks. At the end of the lease what holds the server ends, and so does a commit, in whose
place another may be ordered; other steps go on to their end, and then the process ends. What lies on the volume stays,
whatever the time: whoever comes back goes on from there, or a release is ordered, or the next operation sweeps it.
This file knows no step's content.
"""

import asyncio
import contextlib
import errno
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.workspace import Workspace, operation_directory
from weaviate_backup.beneath import Place, Root
from weaviate_backup.core.session import (
    Applied,
    Audited,
    BackupOrder,
    Committed,
    Confirmed,
    Failure,
    Frozen,
    Inspected,
    NodeReport,
    Probed,
    RestoreOrder,
    SessionOrder,
    Step,
    StepCommand,
    StepPhase,
    StepReport,
    Surveyed,
    Uploaded,
    Verified,
    Wire,
)
from weaviate_backup.errors import BackupError, Permanent, Transient, excerpt
from weaviate_backup.layout.plain_names import checked_name
from weaviate_backup.settings import AgentSettings
from weaviate_backup.stored.meter import Meter

TICK_SECONDS = 0.5
HEARTBEAT_TICKS = 40
LONGEST_POLL_SECONDS = 60.0
ENDING = frozenset({Step.DISCARD, Step.RELEASE, Step.VACATE})
ENDING_WITH_THE_LEASE = (Step.FREEZE, Step.COMMIT)
ALLOWED: dict[str, frozenset[Step]] = {
    "backup": frozenset({Step.FREEZE, Step.UPLOAD, Step.VERIFY, Step.COMMIT}) | ENDING,
    "restore": frozenset({Step.INSPECT, Step.DOWNLOAD, Step.PLACE, Step.APPLY, Step.CONFIRM, Step.RELEASE}),
    "store": frozenset({Step.PROBE, Step.MEET, Step.VERIFY, Step.COMMIT, Step.INSPECT, Step.VACANCY, Step.AUDIT})
    | ENDING,
}
NEEDS = {Step.UPLOAD: "frozen", Step.PLACE: "downloaded"}
"""Step -> the journal record without which it makes no sense."""
RESULTS: dict[type[Wire], str] = {
    Probed: "probed",
    Surveyed: "surveyed",
    Frozen: "frozen",
    Uploaded: "uploaded",
    Committed: "committed",
    Inspected: "inspected",
    Audited: "audited",
    Applied: "applied",
    Confirmed: "confirmed",
}

DISK_REASONS = {
    errno.ENOSPC: "DiskFull",
    errno.EDQUOT: "DiskFull",
    errno.EROFS: "DiskReadOnly",
    errno.EISDIR: "UnexpectedEntry",
    errno.EEXIST: "UnexpectedEntry",
    errno.ENOTDIR: "UnexpectedEntry",
    errno.ELOOP: "UnexpectedEntry",
}

StepFunction = Callable[[Workspace, StepCommand, Meter], Awaitable[Wire | None]]
log = logging.getLogger(__name__)


class OutOfOrder(Permanent):
    """A command that does not fit what was done so far, or another operation's."""


class Runner:
    """The state of this process. All methods run in the event loop."""

    def __init__(
        self,
        settings: AgentSettings,
        steps: Mapping[Step, StepFunction],
        *,
        let_go: Callable[[Workspace], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._steps = steps
        self._let_go = let_go
        self._workspace: Workspace | None = None
        self._report = NodeReport(operation_uid=None, session_id=secrets.token_hex(8), node=settings.node, revision=1)
        self._changed = asyncio.Event()
        self._tasks: dict[Step, asyncio.Task[None]] = {}
        self._meters: dict[Step, Meter] = {}
        self._ending = False
        self._asked_at = asyncio.get_running_loop().time()
        self._polls = 0
        """Questions that wait for an answer now."""
        self.ended = asyncio.Event()

    # What is asked

    def put_session(self, order: SessionOrder) -> NodeReport:
        """Begin, or learn that it has begun. Steps that begin later ask Weaviate where this order says it is."""
        self._asked()
        for field, ours, theirs in (
            ("operation", self._settings.operation_uid, order.operation_uid),
            ("node", self._settings.node, order.node),
        ):
            if ours != theirs:
                raise OutOfOrder("SessionConflict", f"this agent serves {field} {ours}, not {theirs}")
        check_names(order)
        if self._workspace is None:
            journal = Journal(self._journal_path(order))
            if journal.last("session") is None:
                journal.append("session", order=order.model_dump(mode="json"))
            self._workspace = Workspace(self._settings, order, journal)
            log.info("session of operation %s on %s: %s", order.operation_uid, order.node, order.work.kind)
            self._update({"operation_uid": order.operation_uid})
        elif order.weaviate != self._workspace.order.weaviate:
            moved = self._workspace.order.model_copy(update={"weaviate": order.weaviate})
            self._workspace = replace(self._workspace, order=moved)
            log.info("the Weaviate of %s is at %s now", order.node, order.weaviate)
        return self._report

    def take(self, command: StepCommand) -> NodeReport:
        """Start the step unless it runs or is done."""
        self._asked()
        check_names(command)
        workspace = self._admit(command)
        if not self._is_needless(command):
            meter = self._meters[command.step] = Meter(lambda result: self._update(self._results(result)))
            if command.step in ENDING:
                self._ending = True
            self._set_step(command.step, StepReport(phase=StepPhase.RUNNING))
            self._tasks[command.step] = asyncio.create_task(self._run(workspace, command, meter))
        return self._report

    async def report(self, *, after: int | None, wait_seconds: float) -> NodeReport:
        """What is known, at once or as soon as it differs from revision `after`."""
        self._asked()
        if after is not None and wait_seconds > 0:
            self._polls += 1
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait_seconds, LONGEST_POLL_SECONDS)):
                        while self._report.revision == after:
                            await self._changed.wait()
            finally:
                self._polls -= 1
                self._asked()
        return self._report

    # What goes on by itself

    async def watch(self) -> None:
        """Tell of progress, keep the journal fresh; end when nobody asks and nothing is under way."""
        held, ticks = True, 0
        try:
            while held or self._is_busy():
                await asyncio.sleep(TICK_SECONDS)
                self._tell_progress()
                ticks += 1
                if self._workspace is not None and ticks % HEARTBEAT_TICKS == 0:
                    with contextlib.suppress(OSError):  # of a volume that takes nothing now; the steps say so
                        self._workspace.journal.show_life()
                if not self._lease_is_over():
                    held = True
                elif held:
                    log.warning("nobody asked for %d s: letting the server go", self._lease_seconds())
                    await self._let_go_by_itself()
                    held = False
        finally:
            self.ended.set()

    async def close(self) -> None:
        """The process ends, the operation does not: what is on the volume stays for the next agent."""
        await self._stop(tuple(self._tasks))
        if self._workspace is not None:
            self._workspace.journal.close()

    async def _run(self, workspace: Workspace, command: StepCommand, meter: Meter) -> None:
        step = command.step
        log.info("%s %s", step, command.verify_node or "begins")
        try:
            if step in ENDING:
                await self._stop([other for other in self._tasks if other is not step])
            result = await self._steps[step](workspace, command, meter)
        except asyncio.CancelledError:
            self._fail(step, Failure(reason="StepCanceled", message=f"{step} was told to stop", transient=True))
            raise
        except BackupError as error:
            self._fail(step, failure_of(error))
        except OSError as error:
            self._fail(step, disk_failure(error))
        except Exception as error:
            log.exception("%s broke", step)
            said = f"{type(error).__name__}: {excerpt(str(error))}"
            self._fail(step, Failure(reason="InternalError", message=said, transient=False))
        else:
            log.info("%s is done", step)
            changes = self._results(result)
            self._set_step(step, StepReport(phase=StepPhase.DONE, progress=meter.snapshot()), **changes)

    def _fail(self, step: Step, failure: Failure) -> None:
        log.warning("%s failed: %s: %s", step, failure.reason, failure.message)
        progress = self._meters[step].snapshot()
        self._set_step(step, StepReport(phase=StepPhase.FAILED, failure=failure, progress=progress))

    async def _stop(self, steps: Iterable[Step]) -> None:
        """End these steps and wait until none of their threads is at work."""
        running = [(step, task) for step in steps if (task := self._tasks.get(step)) is not None and not task.done()]
        for step, task in running:
            self._meters[step].stop()
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)

    def _is_busy(self) -> bool:
        return any(not task.done() for task in self._tasks.values())

    async def _let_go_by_itself(self) -> None:
        await self._stop(ENDING_WITH_THE_LEASE)
        if self._workspace is None:
            return
        try:
            await self._let_go(self._workspace)
        except Exception as error:  # noqa: BLE001 (what is under way goes on, whatever that was)
            log.warning("the server was not let go of at the end of the lease: %s", error)

    def _tell_progress(self) -> None:
        for step, meter in list(self._meters.items()):
            known = self._report.steps.get(step)
            progress = meter.snapshot()
            if known is not None and known.phase is StepPhase.RUNNING and known.progress != progress:
                self._set_step(step, known.model_copy(update={"progress": progress}))

    # What is known

    def _admit(self, command: StepCommand) -> Workspace:
        workspace = self._workspace
        if workspace is None:
            raise OutOfOrder("OutOfOrder", f"{command.step} came before a session")
        if command.operation_uid != workspace.uid:
            raise OutOfOrder("SessionConflict", f"this agent serves operation {workspace.uid}")
        if command.step not in ALLOWED[workspace.order.work.kind]:
            raise OutOfOrder("OutOfOrder", f"{command.step} is no step of a {workspace.order.work.kind} session")
        if self._ending and command.step not in ENDING:
            raise OutOfOrder("OutOfOrder", f"{command.step} came after the operation was told to end")
        needed = NEEDS.get(command.step)
        if needed and workspace.journal.last(needed) is None:
            raise OutOfOrder("OutOfOrder", f"{command.step} came before this node was {needed}")
        return workspace

    def _is_needless(self, command: StepCommand) -> bool:
        known = self._report.steps.get(command.step)
        if known is None or known.phase is StepPhase.FAILED:
            return False
        if known.phase is StepPhase.RUNNING:
            return True
        return command.step is not Step.VERIFY or command.verify_node in self._report.verified

    def _results(self, result: Wire | None) -> dict[str, object]:
        if isinstance(result, Verified):
            return {"verified": {**self._report.verified, result.node: result}}
        return {} if result is None else {RESULTS[type(result)]: result}

    def _set_step(self, step: Step, known: StepReport, **changes: object) -> None:
        self._update({"steps": {**self._report.steps, step: known}, **changes})

    def _update(self, changes: dict[str, object]) -> None:
        self._report = self._report.model_copy(update={**changes, "revision": self._report.revision + 1})
        self._changed.set()
        self._changed = asyncio.Event()

    # The lease

    def _asked(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()

    def _lease_seconds(self) -> int:
        return self._workspace.order.lease_seconds if self._workspace else self._settings.lease_seconds

    def _lease_is_over(self) -> bool:
        return not self._polls and asyncio.get_running_loop().time() - self._asked_at > self._lease_seconds()

    def _journal_path(self, order: SessionOrder) -> Place | None:
        if self._settings.data_path is None or order.weaviate is None:
            return None
        return operation_directory(Root(self._settings.data_path).place, order.operation_uid) / JOURNAL


def check_names(asked: SessionOrder | StepCommand) -> None:
    """What becomes part of paths and keys, whoever told it to the operator. `UnsafeName` before anything is done."""
    nodes: list[str | None]
    if isinstance(asked, StepCommand):
        nodes, collections = [asked.verify_node, *asked.verified], asked.collections
    else:
        work = asked.work
        nodes = [asked.node, *(work.nodes if isinstance(work, BackupOrder) else ())]
        nodes += [work.source_node] if isinstance(work, RestoreOrder) else []
        collections = work.collections if isinstance(work, BackupOrder) else ()
    for node in filter(None, nodes):
        checked_name(node, what="a node")
    for collection in collections:
        checked_name(collection, what="a collection")


def failure_of(error: BackupError) -> Failure:
    return Failure(reason=error.reason, message=sendable(error.message), transient=isinstance(error, Transient))


def disk_failure(error: OSError) -> Failure:
    """What the volume said. A full disk may be emptied, so such a failure may pass; that a file is where a directory
    belongs, or the other way round, is nobody's passing state."""
    reason = DISK_REASONS.get(error.errno or 0, "DiskFailure")
    where = f" at {error.filename}" if error.filename else ""
    message = sendable(f"{excerpt(error.strerror or str(error))}{where}")
    return Failure(reason=reason, message=message, transient=reason != "UnexpectedEntry")


def sendable(text: str) -> str:
    """Names on a volume need not be text, reports must be."""
    return text.encode(errors="replace").decode()
