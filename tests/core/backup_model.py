"""A small model of two agents, a store worker, a bucket and the operator, to explore every order of events with.

The operator is the real machine. Around it everything may happen at any moment: a command is lost or executed, an
agent dies or restarts, is cut off and comes back, a step ends or fails, the operator forgets all but its status, time
passes beyond every deadline, somebody cancels. Times are kept as one of three instants (long ago, now, soon), so that
the number of states is finite.

A siege, when a model has one, begins at any moment and never ends: whatever is asked of the platform is refused for
good, and with `UNSEEN` nothing of the operation can be looked at. (That no agent can release is in `test_letting_go.py`
and in the model of a restore: here it is too many states.)

A model of mishaps has one of them at any moment before its end: another operation takes the Lease, the plan is lost, or
somebody writes another manifest over a node's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain, combinations
from typing import NamedTuple

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.backup_machine import (
    BackupDecision,
    BackupRequest,
    BackupState,
    BackupWorld,
    decide_backup,
)
from weaviate_backup.core.orders import (
    ABSENT,
    STORE_WORKER,
    AcquireLease,
    AgentPhase,
    AgentPod,
    Command,
    EnsureAgents,
    Lease,
    NodeState,
    PlannedBackup,
    PutSession,
    ReleaseLease,
    RemoveAgents,
    StorePlan,
    TakeStep,
    Unreachable,
)
from weaviate_backup.core.session import (
    Committed,
    Failure,
    NodeReport,
    Step,
    StepCommand,
    StepPhase,
    StepReport,
    Surveyed,
    Uploaded,
    Verified,
)
from weaviate_backup.core.stepping import Agents

NOW = datetime(2026, 11, 25, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
SOON = NOW + timedelta(seconds=30)
UID = "0b5f2c1e"
NODES = ("weaviate-0", "weaviate-1")
ALL = (*NODES, STORE_WORKER)
PLAN = PlannedBackup(
    nodes=NODES,
    leader="weaviate-0",
    collections=("Article",),
    server_version="1.39.1",
    started_at=NOW,
    stateful_set_uid="0b5f2c1e-0000-4000-8000-000000000001",
    location=LocationSpec(),
)
VERDICTS = frozenset({Step.VERIFY, Step.COMMIT})
ENDINGS = frozenset({Step.DISCARD, Step.RELEASE, Step.VACATE})
REFUSED = Failure(reason="Refused", message="no", transient=False)
NO_COMMANDS, UNSEEN = "no commands", "unseen"
TO_COME, OTHER_BYTES, OVER = "to come", "other bytes", ""
"""Of a mishap: what is still felt of it."""
PLATFORM_S = (AcquireLease, StorePlan, EnsureAgents, RemoveAgents, ReleaseLease)
"""What the platform can refuse."""


class Agent(NamedTuple):
    """One agent process and what its volume holds. `frozen`, `uploaded`: the journal on disk; they outlive the pod."""

    pod: AgentPhase = AgentPhase.ABSENT
    reachable: bool = True
    session: bool = False
    running: Step | None = None
    verifying: str | None = None
    failed: Step | None = None
    done: frozenset[Step] = frozenset()
    verified: frozenset[str] = frozenset()
    frozen: bool = False
    uploaded: bool = False


class Model(NamedTuple):
    """`failed`: refused in the last tick, `troubled`: agents likewise. `unconfirmed`: it ended without an answer.

    `mishap`: whether one is to come, or is felt; with other bytes, the manifest of the first node is another one.
    """

    state: BackupState = BackupState()
    created_at: datetime = NOW
    cancel: bool = False
    lease: Lease = Lease.FREE
    planned: bool = False
    agents: tuple[Agent, ...] = (Agent(), Agent(), Agent())
    stored: frozenset[str] = frozenset()
    marker: bool = False
    ever_frozen: frozenset[str] = frozenset()
    siege: str = ""
    besieged: bool = False
    failed: frozenset[type] = frozenset()
    troubled: frozenset[str] = frozenset()
    unconfirmed: bool = False
    mishap: str = OVER

    @property
    def unseen(self) -> bool:
        return self.besieged and self.siege == UNSEEN

    def agent(self, name: str) -> Agent:
        return self.agents[ALL.index(name)]

    def with_agent(self, name: str, agent: Agent) -> "Model":
        agents = list(self.agents)
        agents[ALL.index(name)] = agent
        return self._replace(agents=tuple(agents))


@dataclass(frozen=True)
class Tick:
    """What the operator did between two models, for the invariants that speak of decisions."""

    before: BackupState
    decision: BackupDecision


def decide(model: Model) -> BackupDecision:
    return _decide(
        model.state,
        model.created_at,
        model.cancel,
        model.lease,
        model.planned,
        model.agents,
        model.failed,
        model.troubled,
        model.unseen,
        model.mishap == OTHER_BYTES,
    )


def forget_decisions() -> None:
    """Of another plan."""
    _decide.cache_clear()


@cache
def _decide(  # noqa: PLR0917 (cached by position)
    state: BackupState,
    created_at: datetime,
    cancel: bool,
    lease: Lease,
    planned: bool,
    agents: tuple[Agent, ...],
    failed: frozenset[type],
    troubled: frozenset[str],
    unseen: bool,
    rewritten: bool,
) -> BackupDecision:
    seen = Agents(
        operation_uid=UID,
        pods={name: _pod(agent) for name, agent in zip(ALL, agents, strict=True)},
        reports={name: _report(name, agent, rewritten) for name, agent in zip(ALL, agents, strict=True)},
        troubles=dict.fromkeys(troubled, REFUSED),
    )
    remains = planned or any(agent.pod is not AgentPhase.ABSENT for agent in agents)
    world = BackupWorld(
        agents=seen,
        lease=lease,
        proposal=PLAN,
        plan=PLAN if planned else None,
        remains=remains,
        failed=dict.fromkeys(failed, REFUSED),
    )
    if unseen:
        nobody = Agents(operation_uid=UID, pods={}, reports={}, troubles={})
        world = BackupWorld(agents=nobody, lease=Lease.UNKNOWN, remains=remains, failed=world.failed, unseen=REFUSED)
    request = BackupRequest(uid=UID, created_at=created_at, timeout_seconds=3600, cancel=cancel)
    decision = decide_backup(request, state, world, NOW)
    return replace(decision, state=_settle_times(decision.state))


@cache
def _pod(agent: Agent) -> AgentPod:
    return ABSENT if agent.pod is AgentPhase.ABSENT else AgentPod(phase=agent.pod, created_at=NOW)


@cache
def _report(name: str, agent: Agent, rewritten: bool) -> NodeReport | Unreachable:
    if agent.pod is not AgentPhase.RUNNING or not agent.reachable:
        return Unreachable(reason="AgentUnreachable", message="no answer")
    steps = {step: StepReport(phase=StepPhase.DONE) for step in sorted(agent.done)}
    if agent.failed:
        steps[agent.failed] = StepReport(phase=StepPhase.FAILED, failure=REFUSED)
    if agent.running:
        steps[agent.running] = StepReport(phase=StepPhase.RUNNING)
    stored = {node: "another" if rewritten and node == NODES[0] else node for node in agent.verified}
    verified = {
        node: Verified(node=node, manifest_sha256=digest, objects=1, bytes_stored=1) for node, digest in stored.items()
    }
    committed = Committed(objects=2, bytes_stored=2, bytes_total=2, completed_at=NOW)
    return NodeReport(
        operation_uid=UID if agent.session else None,
        session_id="s",
        node=name,
        revision=1,
        steps=steps,
        verified=verified,
        surveyed=Surveyed(sha256="schema") if Step.FREEZE in agent.done | {agent.running} else None,
        uploaded=Uploaded(manifest_sha256=name, objects=1, bytes_stored=1) if Step.UPLOAD in agent.done else None,
        committed=committed if Step.COMMIT in agent.done else None,
    )


def _settle_times(state: BackupState) -> BackupState:
    nodes = tuple(
        replace(
            node,
            retry_at=SOON if node.retry_at and node.retry_at > NOW else node.retry_at,
            attempts=min(node.attempts, 2),
        )
        for node in state.nodes
    )
    return replace(state, nodes=nodes, message="")


def forget(model: Model) -> Model:
    """Drops what no decision looks at any more, so that states which behave alike are one."""
    state = _forget_in_state(model.state, besieged=model.besieged)
    phase = state.phase
    if phase is BackupPhase.FINALIZING:
        known = frozenset(node.name for node in state.nodes if node.phase is NodePhase.VERIFIED)
        agents = tuple(_forget_in_agent(agent, VERDICTS, known) for agent in model.agents)
        model = model._replace(agents=agents, ever_frozen=frozenset())
        return model._replace(state=state, cancel=model.cancel and state.committer is None)
    if phase is not BackupPhase.ABORTING and not phase.is_terminal:
        return model._replace(state=state)
    agents = tuple(_forget_in_agent(agent, ENDINGS, frozenset(NODES)) for agent in model.agents)
    if agents[2].running is not Step.COMMIT:
        idle = agents[2].pod if agents[2].pod is AgentPhase.ABSENT else AgentPhase.RUNNING
        agents = (*agents[:2], Agent(pod=idle))
    matters = model.marker or any(agent.running is Step.COMMIT for agent in agents)
    return model._replace(
        mishap=OVER,
        lease=Lease.FREE if model.lease is Lease.OTHERS else model.lease,
        planned=model.planned or phase is BackupPhase.ABORTING,
        state=state,
        agents=agents,
        cancel=False,
        created_at=NOW,
        unconfirmed=model.unconfirmed and matters,
        ever_frozen=frozenset(),
        stored=model.stored if matters else frozenset(),
    )


@cache
def _forget_in_agent(agent: Agent, steps: frozenset[Step], known: frozenset[str]) -> Agent:
    failed = agent.failed if agent.failed in steps else None
    return agent._replace(done=agent.done & steps, verified=agent.verified - known, failed=failed, uploaded=False)


@cache
def _forget_in_state(state: BackupState, *, besieged: bool) -> BackupState:
    over = state.phase is BackupPhase.ABORTING or state.phase.is_terminal
    nodes = tuple(_forget_node(node, over=over) for node in state.nodes)
    since = state.phase_since if state.phase is BackupPhase.PREPARING or (besieged and over) else NOW
    committer = None if over else state.committer
    return replace(state, nodes=nodes, phase_since=since, reason="", message="", committer=committer)


def _forget_node(node: NodeState, *, over: bool) -> NodeState:
    settled = node.phase in (NodePhase.RELEASED, NodePhase.UNREACHABLE, NodePhase.PENDING)
    if not over:
        return replace(node, reason="", message="")
    phase = node.phase if settled else NodePhase.STARTING
    silent = None if settled else node.silent_since
    return NodeState(name=node.name, phase=phase, session=node.session, silent_since=silent)


def operator_turns(model: Model) -> Iterator[tuple[Model, Tick]]:
    """The status is written, then any subset of the commands is executed; the others are lost or the operator dies."""
    decision = decide(model)
    tick = Tick(before=model.state, decision=decision)
    unconfirmed = model.unconfirmed or decision.state.reason == "CommitUnconfirmed"
    written = model._replace(state=decision.state, failed=frozenset(), troubled=frozenset(), unconfirmed=unconfirmed)
    for commands in _subsets(decision.commands):
        after = written
        for command in commands:
            after = execute(after, command)
        yield forget(after), tick


def _subsets(commands: tuple[Command, ...]) -> Iterator[tuple[Command, ...]]:
    return chain.from_iterable(combinations(commands, count) for count in range(len(commands) + 1))


def execute(model: Model, command: Command) -> Model:
    if not model.besieged or not isinstance(command, PLATFORM_S):
        return _carry_out(model, command)
    if isinstance(command, EnsureAgents):
        return model._replace(troubled=model.troubled | set(command.nodes))
    return model._replace(failed=model.failed | {type(command)})


def _carry_out(model: Model, command: Command) -> Model:  # noqa: PLR0911
    match command:
        case AcquireLease() if model.lease is Lease.FREE:
            return model._replace(lease=Lease.OURS)
        case ReleaseLease() if model.lease is Lease.OURS:
            return model._replace(lease=Lease.FREE)
        case StorePlan():
            return model._replace(planned=True)
        case RemoveAgents():
            for name in ALL:
                model = model.with_agent(name, _ended(model.agent(name), AgentPhase.ABSENT))
            return model._replace(planned=False)
        case EnsureAgents(nodes=names):
            for name in names:
                agent = model.agent(name)
                if agent.pod is not AgentPhase.RUNNING:
                    fresh = Agent(pod=AgentPhase.RUNNING, frozen=agent.frozen, uploaded=agent.uploaded)
                    model = model.with_agent(name, fresh)
            return model
        case PutSession(node=name):
            agent = model.agent(name)
            if agent.pod is AgentPhase.RUNNING and agent.reachable and not agent.session:
                known = ({Step.FREEZE} if agent.frozen else set()) | ({Step.UPLOAD} if agent.uploaded else set())
                agent = agent._replace(session=True, done=frozenset(known))
            return model.with_agent(name, agent)
        case TakeStep(node=name, command=step):
            return model.with_agent(name, _take(model.agent(name), step))
        case _:
            return model


def _take(agent: Agent, command: StepCommand) -> Agent:
    """Idempotent by step; letting go and discarding end whatever runs."""
    busy = agent.running is not None and command.step not in ENDINGS
    deaf = agent.pod is not AgentPhase.RUNNING or not agent.reachable or not agent.session
    out_of_order = command.step is Step.UPLOAD and Step.FREEZE not in agent.done
    if busy or deaf or out_of_order or command.step in agent.done - {Step.VERIFY}:
        return agent
    return agent._replace(
        running=command.step,
        verifying=command.verify_node,
        failed=None,
        done=agent.done - {Step.VERIFY},
    )


def _ended(agent: Agent, pod: AgentPhase) -> Agent:
    return Agent(pod=pod, frozen=agent.frozen, uploaded=agent.uploaded)


def world_turns(model: Model) -> Iterator[Model]:
    """All that can happen without the operator."""
    return map(forget, _world_turns(model))


def _world_turns(model: Model) -> Iterator[Model]:
    for name in ALL:
        agent = model.agent(name)
        if agent.pod is not AgentPhase.RUNNING:
            continue
        yield model.with_agent(name, _ended(agent, AgentPhase.ENDED))
        if name != STORE_WORKER:
            yield model.with_agent(name, agent._replace(reachable=not agent.reachable))
        if agent.running:
            yield from _steps_end(model, name, agent, agent.running)
    if not model.cancel and not model.state.phase.is_terminal:
        yield model._replace(cancel=True)
    if model.siege and not model.besieged:
        yield model._replace(besieged=True)
    if model.failed or model.troubled:
        yield model._replace(failed=frozenset(), troubled=frozenset())  # another process looks next
    if model.mishap == TO_COME:
        yield from _mishaps(model)
    yield _time_passes(model)


def _mishaps(model: Model) -> Iterator[Model]:
    """One of them at most, so that each is seen by itself."""
    if model.lease is Lease.OURS:
        yield model._replace(mishap=OVER, lease=Lease.OTHERS)
    if model.planned:
        yield model._replace(mishap=OVER, planned=False)
    if NODES[0] in model.stored and not model.marker:
        yield model._replace(mishap=OTHER_BYTES)


def _steps_end(model: Model, name: str, agent: Agent, step: Step) -> Iterator[Model]:
    done = agent._replace(running=None, verifying=None, done=agent.done | {step})
    refused = agent._replace(running=None, verifying=None, failed=step)
    if step is Step.FREEZE:
        frozen = model.with_agent(name, done._replace(frozen=True))
        yield frozen._replace(ever_frozen=model.ever_frozen | {name})
        yield model.with_agent(name, refused)
    elif step is Step.UPLOAD:
        yield model.with_agent(name, done._replace(uploaded=True))._replace(stored=model.stored | {name})
        yield model.with_agent(name, refused)
    elif step is Step.VERIFY:
        checked = agent.verifying or ""
        if checked in model.stored:
            yield model.with_agent(name, done._replace(verified=agent.verified | {checked}))
        else:
            yield model.with_agent(name, refused)
    elif step is Step.COMMIT:
        if model.marker or (set(NODES) <= model.stored and model.mishap != OTHER_BYTES):
            yield model._replace(marker=True)  # written, and not yet reported: it may die here
            yield model.with_agent(name, done)._replace(marker=True)
        if not model.marker:
            yield model.with_agent(name, refused)
    elif step is Step.DISCARD:
        left = model.stored if model.marker else model.stored - {name}
        yield model.with_agent(name, done._replace(uploaded=False))._replace(stored=left)
    elif step is Step.RELEASE:
        yield model.with_agent(name, done._replace(frozen=False, uploaded=False))


def _time_passes(model: Model) -> Model:
    """Beyond every deadline. An agent that nobody reached meanwhile has let the server go and ended; what it froze lies
    on the volume still."""
    for name in ALL:
        agent = model.agent(name)
        node = model.state.node(name)
        unasked = not agent.reachable or (node is not None and node.silent_since is not None)
        if agent.pod is AgentPhase.RUNNING and unasked:
            model = model.with_agent(name, _ended(agent, AgentPhase.ENDED))
    return model._replace(state=_older(model.state), created_at=LONG_AGO)


@cache
def _older(state: BackupState) -> BackupState:
    nodes = tuple(
        replace(node, silent_since=_past(node.silent_since), retry_at=_past(node.retry_at)) for node in state.nodes
    )
    return replace(state, nodes=nodes, phase_since=_past(state.phase_since))


def _past(moment: datetime | None) -> datetime | None:
    return None if moment is None else LONG_AGO
