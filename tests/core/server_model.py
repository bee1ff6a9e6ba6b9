"""A small model of Weaviate's own engine and of a store worker, to explore method Server with.

One node coordinates. Its process may restart, be cut off and come back; a request may be lost, be answered, be answered
too late for whoever asked, or still be under way when somebody else asks again. Around it the operator may forget all
but its status, time may pass beyond every deadline, and somebody cancels.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple, TypeVar

from tests.core.backup_model import LONG_AGO, NO_COMMANDS, NOW, PLATFORM_S, REFUSED, UID

from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.backup_machine import BackupState
from weaviate_backup.core.orders import (
    ABSENT,
    STORE_WORKER,
    AcquireLease,
    AgentPhase,
    AgentPod,
    Command,
    EnsureAgents,
    Lease,
    PutSession,
    ReleaseLease,
    RemoveAgents,
    StorePlan,
    TakeStep,
    Unreachable,
)
from weaviate_backup.core.restore_machine import RestoreState
from weaviate_backup.core.server_following import ServerSight
from weaviate_backup.core.session import Audited, Failure, Inspected, NodeReport, Step, StepPhase, StepReport
from weaviate_backup.core.stepping import Agents

Model = TypeVar("Model")
State = TypeVar("State", BackupState, RestoreState)
COORDINATOR = "weaviate-0"
BUSY = Failure(reason="ServerBusy", message="another one is at work", transient=True)
AUDITED = Audited(
    server_version="1.39.1",
    nodes=("weaviate-0",),
    collections=("Article",),
    objects=3,
    bytes_stored=3,
    bytes_total=3,
    files=1,
    checksummed=True,
)


class Worker(NamedTuple):
    """The store worker. It has no volume: a new one knows nothing."""

    running: bool = False
    session: bool = False
    step: Step | None = None
    failed: Step | None = None
    done: frozenset[Step] = frozenset()


class Engine(NamedTuple):
    """`shown`: the status that a question gets. `owner`: the process that works on it. `underway`: requests not seen.

    `reply`: what this process of the operator was answered and has not looked at yet. `began`: ever, for us.
    """

    shown: WeaviateStatus | None = None
    process: int = 0
    owner: int | None = None
    reachable: bool = True
    underway: int | None = None
    canceling: bool = False
    reply: str = ""
    began: bool = False

    @property
    def at_work(self) -> bool:
        """A process that lives works on an operation that has not ended."""
        return self.owner is not None and self.owner == self.process


class Siege(NamedTuple):
    """From any moment on the platform refuses every command, or nothing of the operation can be looked at.

    `failed`, `troubled`: commands of the last tick that were refused, those to the worker apart.
    """

    kind: str = ""
    begun: bool = False
    failed: frozenset[type] = frozenset()
    troubled: bool = False

    @property
    def blinds(self) -> bool:
        return self.begun and self.kind != NO_COMMANDS

    def refuses(self, command: Command) -> bool:
        return self.begun and isinstance(command, PLATFORM_S) and not self.blinds

    def after(self, command: Command) -> "Siege":
        if isinstance(command, EnsureAgents):
            return self._replace(troubled=True)
        return self._replace(failed=self.failed | {type(command)})

    def forgotten(self) -> "Siege":
        return self._replace(failed=frozenset(), troubled=False)

    def turns(self) -> Iterator["Siege"]:
        if self.kind and not self.begun:
            yield self._replace(begun=True)
        if self != self.forgotten():
            yield self.forgotten()  # another process looks next


def see(engine: Engine) -> ServerSight | None:
    if not engine.reachable:
        return None
    refusal = {"refused": REFUSED, "busy": BUSY}.get(engine.reply)
    return ServerSight(
        node=COORDINATOR,
        process=str(engine.process),
        status=engine.shown,
        accepted=engine.reply == "accepted",
        refusal=refusal,
    )


def requests(engine: Engine, process: str, begun: Engine) -> Iterator[Engine]:
    """Every fate of a request to begin; `begun` is the engine after it did. A process that is gone is not asked."""
    yield engine
    if not engine.reachable or str(engine.process) != process:
        return
    if engine.at_work:
        yield engine._replace(reply="busy")
        return
    yield begun._replace(reply="accepted")
    yield begun  # the answer is lost
    yield engine._replace(reply="busy")
    if engine.underway is None:  # the same request a second time gets the same answer
        yield engine._replace(underway=engine.process)
        yield engine._replace(reply="refused")


def restarted(engine: Engine) -> Engine:
    return engine._replace(process=engine.process + 1, underway=None, canceling=False)


def agents(worker: Worker, inspected: Inspected | None = None, *, troubled: bool = False) -> Agents:
    pod = AgentPod(phase=AgentPhase.RUNNING, created_at=NOW) if worker.running else ABSENT
    report: NodeReport | Unreachable = Unreachable(reason="AgentUnreachable", message="no answer")
    if worker.running:
        steps = {step: StepReport(phase=StepPhase.DONE) for step in sorted(worker.done)}
        if worker.failed:
            steps[worker.failed] = StepReport(phase=StepPhase.FAILED, failure=REFUSED)
        if worker.step:
            steps[worker.step] = StepReport(phase=StepPhase.RUNNING)
        report = NodeReport(
            operation_uid=UID if worker.session else None,
            session_id="s",
            node=STORE_WORKER,
            revision=1,
            steps=steps,
            audited=AUDITED if Step.AUDIT in worker.done else None,
            inspected=inspected if Step.INSPECT in worker.done else None,
        )
    troubles = {STORE_WORKER: REFUSED} if troubled else {}
    return Agents(operation_uid=UID, pods={STORE_WORKER: pod}, reports={STORE_WORKER: report}, troubles=troubles)


def serve(worker: Worker, command: Command) -> Worker:
    match command:
        case RemoveAgents():
            return Worker()
        case EnsureAgents():
            return worker if worker.running else Worker(running=True)
        case PutSession() if worker.running:
            return worker._replace(session=True)
        case TakeStep(command=taken) if worker.session and worker.step is None and taken.step not in worker.done:
            return worker._replace(step=taken.step, failed=None)
        case _:
            return worker


def worker_turns(worker: Worker, *, may_succeed: bool) -> Iterator[Worker]:
    """It dies; its step ends well, if what it looks at is as it must be, or not."""
    if worker.running:
        yield Worker()
    if worker.step:
        ended = worker._replace(step=None)
        if may_succeed:
            yield ended._replace(done=worker.done | {worker.step})
        yield ended._replace(failed=worker.step)


def turns(
    looked: Model, commands: tuple[Command, ...], execute: Callable[[Model, Command], Iterator[Model]]
) -> Iterator[Model]:
    """The status is written, then any subset of the commands meets any of its fates."""
    for count in range(len(commands) + 1):
        for chosen in combinations(commands, count):
            todo = [looked]
            for command in chosen:
                todo = [after for before in todo for after in execute(before, command)]
            yield from todo


def lease_after(lease: Lease, command: Command) -> Lease:
    match command:
        case AcquireLease():
            return Lease.OURS
        case ReleaseLease():
            return Lease.FREE
        case _:
            return lease


def planned_after(planned: bool, command: Command) -> bool:
    match command:
        case StorePlan():
            return True
        case RemoveAgents():
            return False
        case _:
            return planned


def older(state: State) -> State:
    """As remembered a day ago."""
    nodes = tuple(
        replace(node, silent_since=LONG_AGO if node.silent_since else None, retry_at=None) for node in state.nodes
    )
    return replace(state, nodes=nodes, phase_since=LONG_AGO if state.phase_since else None)
