"""Every reachable state of a restore onto two nodes: nothing is written too early or twice, and none is a dead end."""

import gc
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import chain, combinations
from typing import NamedTuple

import pytest
from tests.core.backup_model import (
    LONG_AGO,
    NO_COMMANDS,
    NODES,
    NOW,
    OVER,
    PLATFORM_S,
    REFUSED,
    TO_COME,
    UID,
    UNSEEN,
)

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.orders import (
    ABSENT,
    AcquireLease,
    AgentPhase,
    AgentPod,
    Command,
    EnsureAgents,
    Lease,
    PlannedRestore,
    PutSession,
    ReleaseLease,
    RemoveAgents,
    StorePlan,
    TakeStep,
    Unreachable,
)
from weaviate_backup.core.restore_machine import (
    RestoreDecision,
    RestoreRequest,
    RestoreState,
    RestoreWorld,
    decide_restore,
)
from weaviate_backup.core.restore_plan import TargetFacts
from weaviate_backup.core.session import (
    Applied,
    BackupContents,
    Failure,
    Inspected,
    NodeReport,
    Step,
    StepPhase,
    StepReport,
)
from weaviate_backup.core.stepping import Agents

PLAN = PlannedRestore(
    nodes=NODES,
    applier="weaviate-0",
    server_version="1.39.1",
    started_at=NOW,
    stateful_set_uid="0b5f2c1e-0000-4000-8000-000000000001",
    backup_id="b",
    location=LocationSpec(),
)
CONTENTS = BackupContents(
    server_version="1.39.1",
    layout_version="2.1",
    status="SUCCESS",
    leader="weaviate-0",
    nodes=NODES,
    collections=("Article",),
    verifiable=True,
    bytes_total=2,
    sha256="judged",
)
INSPECTED = Inspected(contents=CONTENTS, bytes_required=1, bytes_free=9)
APPLIED = Applied(raft_index=7, collections=("Article",))
MATTERS = {
    RestorePhase.PENDING: frozenset[Step](),
    RestorePhase.VALIDATING: frozenset({Step.INSPECT}),
    RestorePhase.DOWNLOADING: frozenset({Step.DOWNLOAD}),
    RestorePhase.APPLYING: frozenset({Step.DOWNLOAD, Step.PLACE, Step.APPLY}),
    RestorePhase.VERIFYING: frozenset({Step.CONFIRM}),
}
"""Steps that decisions of a phase look at; in the others only the release is."""
UNANSWERED = Failure(reason="RaftOutcomeUnknown", message="no answer", transient=True)
LET_GO = (NodePhase.UNREACHABLE, NodePhase.PENDING)


class Agent(NamedTuple):
    """One agent. `downloaded` and `placed` are on its volume and outlive it."""

    pod: AgentPhase = AgentPhase.ABSENT
    reachable: bool = True
    session: bool = False
    running: Step | None = None
    failed: Step | None = None
    why: Failure = REFUSED
    done: frozenset[Step] = frozenset()
    downloaded: bool = False
    placed: bool = False
    keeping: bool = False
    """Its release was told to leave what is placed."""
    again: bool = False
    """This process comes after one that had begun to apply."""


class Model(NamedTuple):
    state: RestoreState = RestoreState()
    late: bool = False
    cancel: bool = False
    blocked: bool = False
    lease: Lease = Lease.FREE
    planned: bool = False
    agents: tuple[Agent, ...] = (Agent(), Agent())
    applied: int = 0
    in_log: bool = False
    """Raft was told and gave no answer: it may come to the command at any time, or never."""
    siege: str = ""
    besieged: bool = False
    failed: frozenset[type] = frozenset()
    troubled: frozenset[str] = frozenset()
    mishap: str = OVER

    @property
    def unseen(self) -> bool:
        return self.besieged and self.siege == UNSEEN

    def agent(self, name: str) -> Agent:
        return self.agents[NODES.index(name)]

    def with_agent(self, name: str, agent: Agent) -> "Model":
        agents = list(self.agents)
        agents[NODES.index(name)] = agent
        return self._replace(agents=tuple(agents))


@cache
def decide(model: Model) -> RestoreDecision:
    seen = Agents(
        operation_uid=UID,
        pods={name: _pod(agent) for name, agent in zip(NODES, model.agents, strict=True)},
        reports={name: _report(name, agent) for name, agent in zip(NODES, model.agents, strict=True)},
        troubles=dict.fromkeys(model.troubled, REFUSED),
    )
    remains = model.planned or any(agent.pod is not AgentPhase.ABSENT for agent in model.agents)
    world = RestoreWorld(
        agents=seen,
        lease=model.lease,
        proposal=PLAN,
        plan=PLAN if model.planned else None,
        target=TargetFacts(
            nodes=dict.fromkeys(NODES, True),
            version="1.39.1",
            collections=("Article",) if model.blocked else (),
        ),
        remains=remains,
        failed=dict.fromkeys(model.failed, REFUSED),
    )
    if model.unseen:
        nobody = Agents(operation_uid=UID, pods={}, reports={}, troubles={})
        world = RestoreWorld(agents=nobody, lease=Lease.UNKNOWN, remains=remains, failed=world.failed, unseen=REFUSED)
    created = LONG_AGO if model.late else NOW
    request = RestoreRequest(uid=UID, created_at=created, timeout_seconds=3600, cancel=model.cancel)
    decision = decide_restore(request, model.state, world, NOW)
    state = decision.state
    tried = state.applier if state.phase is RestorePhase.APPLYING else None
    nodes = tuple(
        replace(node, attempts=min(node.attempts, 1) if node.name == tried else 0, reason="", message="")
        for node in state.nodes
    )
    since = state.phase_since if model.besieged and state.phase not in MATTERS else NOW
    settled = replace(state, nodes=nodes, verdict=None, applied=None, phase_since=since, reason="", message="")
    return replace(decision, state=settled)


@cache
def _pod(agent: Agent) -> AgentPod:
    return ABSENT if agent.pod is AgentPhase.ABSENT else AgentPod(phase=agent.pod, created_at=NOW)


@cache
def _report(name: str, agent: Agent) -> NodeReport | Unreachable:
    if agent.pod is not AgentPhase.RUNNING or not agent.reachable:
        return Unreachable(reason="AgentUnreachable", message="no answer")
    steps = {step: StepReport(phase=StepPhase.DONE) for step in sorted(agent.done)}
    if agent.failed:
        steps[agent.failed] = StepReport(phase=StepPhase.FAILED, failure=agent.why)
    if agent.running:
        steps[agent.running] = StepReport(phase=StepPhase.RUNNING)
    return NodeReport(
        operation_uid=UID if agent.session else None,
        session_id="again" if agent.again else "s",
        node=name,
        revision=1,
        steps=steps,
        inspected=INSPECTED if Step.INSPECT in agent.done else None,
        applied=APPLIED if Step.APPLY in agent.done else None,
    )


def operator_turns(model: Model) -> Iterator[Model]:
    decision = decide(model)
    written = model._replace(state=decision.state, failed=frozenset(), troubled=frozenset())
    commands = decision.commands
    for chosen in chain.from_iterable(combinations(commands, count) for count in range(len(commands) + 1)):
        after = written
        for command in chosen:
            after = execute(after, command)
        yield after


def execute(model: Model, command: Command) -> Model:
    if not model.besieged or not isinstance(command, PLATFORM_S):
        return carry_out(model, command)
    if isinstance(command, EnsureAgents):
        return model._replace(troubled=model.troubled | set(command.nodes))
    return model._replace(failed=model.failed | {type(command)})


def carry_out(model: Model, command: Command) -> Model:
    match command:
        case AcquireLease() if model.lease is Lease.FREE:
            model = model._replace(lease=Lease.OURS)
        case ReleaseLease() if model.lease is Lease.OURS:
            model = model._replace(lease=Lease.FREE)
        case StorePlan():
            model = model._replace(planned=True)
        case RemoveAgents():
            for name in NODES:
                model = _end(model, name, AgentPhase.ABSENT)
            model = model._replace(planned=False)
        case EnsureAgents(nodes=names):
            for name in names:
                if model.agent(name).pod is not AgentPhase.RUNNING:
                    model = _end(model, name, AgentPhase.RUNNING)
        case PutSession(node=name):
            agent = model.agent(name)
            if agent.pod is AgentPhase.RUNNING and agent.reachable and not agent.session:
                known = ({Step.DOWNLOAD} if agent.downloaded else set()) | ({Step.PLACE} if agent.placed else set())
                model = model.with_agent(name, agent._replace(session=True, done=frozenset(known)))
        case TakeStep(node=name, command=step):
            before = model.agent(name)
            after = _take(before, step.step, keeping=step.keep_placed)
            model = _applying_ends(model, before, after).with_agent(name, after)
        case _:
            pass
    return model


def _take(agent: Agent, step: Step, *, keeping: bool) -> Agent:
    deaf = agent.pod is not AgentPhase.RUNNING or not agent.reachable or not agent.session
    busy = agent.running is not None and step is not Step.RELEASE
    if deaf or busy or step in agent.done or (step is Step.PLACE and Step.DOWNLOAD not in agent.done):
        return agent
    return agent._replace(running=step, failed=None, keeping=keeping)


def _end(model: Model, name: str, pod: AgentPhase) -> Model:
    """Of a process; what is on the volume stays."""
    agent = model.agent(name)
    ended = Agent(
        pod=pod,
        downloaded=agent.downloaded,
        placed=agent.placed,
        keeping=agent.keeping,
        again=agent.again or Step.APPLY in (agent.running, agent.failed),
    )
    return _applying_ends(model, agent, ended).with_agent(name, ended)


def _applying_ends(model: Model, before: Agent, after: Agent) -> Model:
    """Nobody saw an answer of raft's to whoever does not apply any more."""
    lost = before.running is Step.APPLY is not after.running and not model.applied
    return model._replace(in_log=model.in_log or lost)


def world_turns(model: Model) -> Iterator[Model]:
    for name in NODES:
        agent = model.agent(name)
        if agent.pod is not AgentPhase.RUNNING:
            continue
        yield _end(model, name, AgentPhase.ENDED)
        yield model.with_agent(name, agent._replace(reachable=not agent.reachable))
        if agent.running:
            yield from _steps_end(model, name, agent, agent.running)
    if model.in_log:
        assert all(agent.placed for agent in model.agents), "raft takes what is not there any more"
        yield model._replace(in_log=False, applied=1)
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


def _steps_end(model: Model, name: str, agent: Agent, step: Step) -> Iterator[Model]:
    done = agent._replace(running=None, done=agent.done | {step})
    refused = model.with_agent(name, agent._replace(running=None, failed=step, why=REFUSED))
    if step is Step.DOWNLOAD:
        yield model.with_agent(name, done._replace(downloaded=True))
        yield refused
    elif step is Step.PLACE:
        yield model.with_agent(name, done._replace(placed=True))
        yield refused
    elif step is Step.APPLY:
        if not model.applied:
            yield model._replace(applied=1, in_log=False)  # raft took it, and the agent may die before it says so
            yield refused
            unanswered = agent._replace(running=None, failed=step, why=UNANSWERED)
            yield model._replace(in_log=True).with_agent(name, unanswered)
        else:
            yield model.with_agent(name, done)  # it finds the collections there
    elif step is Step.RELEASE and model.besieged and not model.unseen:
        yield refused
    elif step is Step.RELEASE and agent.keeping:
        yield model.with_agent(name, done._replace(downloaded=agent.placed and agent.downloaded))
    elif step is Step.RELEASE:
        applying = any(other.running is Step.APPLY for other in model.agents)
        may_be_taken = applying or model.in_log
        assert not (agent.placed and may_be_taken), "taken back while raft may be about to take it"
        yield model.with_agent(name, done._replace(downloaded=False, placed=False))
    else:
        yield model.with_agent(name, done)
        yield refused


def _time_passes(model: Model) -> Model:
    remembered = {node.name: node for node in model.state.nodes}
    for name in NODES:
        agent, node = model.agent(name), remembered.get(name)
        unasked = not agent.reachable or (node is not None and node.silent_since is not None)
        if agent.pod is AgentPhase.RUNNING and unasked and agent.running is not Step.APPLY:
            model = _end(model, name, AgentPhase.ENDED)  # at its end; what was done stays
    nodes = tuple(
        replace(node, silent_since=LONG_AGO if node.silent_since else None, retry_at=None) for node in model.state.nodes
    )
    since = LONG_AGO if model.besieged and model.state.phase_since else model.state.phase_since
    return model._replace(state=replace(model.state, nodes=nodes, phase_since=since), late=True)


def forget(model: Model) -> Model:
    """Drops what no decision looks at any more, so that states which behave alike are one."""
    phase = model.state.phase
    over = MATTERS.get(phase, frozenset({Step.RELEASE}))
    agents = tuple(
        agent._replace(
            done=agent.done & over,
            failed=agent.failed if agent.failed in over else None,
            why=agent.why if agent.failed in over else REFUSED,
            again=agent.again and phase is RestorePhase.APPLYING,
            keeping=agent.keeping and agent.placed,
        )
        for agent in model.agents
    )
    if phase in MATTERS:
        return model._replace(agents=agents, cancel=model.cancel and phase.is_cancelable)
    return model._replace(
        agents=agents,
        cancel=False,
        late=False,
        mishap=OVER,
        lease=Lease.FREE if model.lease is Lease.OTHERS else model.lease,
        planned=model.planned or phase is RestorePhase.ABORTING,
        state=_forget_in_state(model.state),
    )


@cache
def _forget_in_state(state: RestoreState) -> RestoreState:
    applier = state.applier if state.phase is RestorePhase.ABORTING else None
    return replace(state, applier=applier, collections=(), backup_sha256="")


def check_tick(model: Model) -> None:
    decision = decide(model)
    before, after = model.state, decision.state
    if before.phase.is_terminal:
        assert after.phase is before.phase, "a terminal phase never changes"
    if after.phase is not before.phase:
        assert not decision.commands, "status first, command next tick"
    elif (model.failed or model.troubled or model.unseen) and not after.cleaned_up:
        assert after != before or (decision.look_again_seconds or 0) >= 1, "it is looked at again without a pause"
    if after.phase is RestorePhase.COMPLETED is not before.phase:
        assert model.applied == 1
    for command in decision.commands:
        step = command.command.step if isinstance(command, TakeStep) else None
        if step in (Step.DOWNLOAD, Step.PLACE, Step.APPLY):
            assert not model.blocked, "the plan has not passed"
        if isinstance(command, TakeStep) and step in (Step.DOWNLOAD, Step.APPLY, Step.CONFIRM):
            assert command.command.backup_sha256 == "judged", "nothing but what was judged is used"
        if step is Step.PLACE:
            assert before.phase is RestorePhase.APPLYING
            assert before.applier is None, "nothing is placed once somebody may have been told to apply"
        if step is Step.APPLY:
            assert isinstance(command, TakeStep)
            assert before.applier == command.node, "remembered before it is told, and never another one"


def check_model(model: Model) -> None:
    phase = model.state.phase
    if model.blocked:
        assert not any(agent.downloaded or agent.placed for agent in model.agents)
        assert not model.applied
        assert not model.in_log
    if phase is RestorePhase.CANCELED:
        assert not model.applied and not model.in_log, "from Applying on a restore cannot be canceled"
    if phase in (RestorePhase.FAILED, RestorePhase.CANCELED) or model.state.cleaned_up:
        for node, agent in zip(model.state.nodes, model.agents, strict=False):
            held = agent.downloaded or agent.placed
            kept = agent.keeping and agent.placed
            assert not held or kept or node.phase in LET_GO, f"{phase}, yet {node.name} holds files"


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "siege", ["", NO_COMMANDS, UNSEEN], ids=["a mishap comes", "then all commands are refused", "then nothing is seen"]
)
def test_no_order_of_events_breaks_an_invariant_or_ends_nowhere(siege: str) -> None:
    mishap = OVER if siege else TO_COME
    starts = [Model(siege=siege, mishap=mishap), Model(siege=siege, blocked=True)]
    seen, todo = set(starts), deque(starts)
    predecessors: dict[Model, list[Model]] = {}
    while todo:
        model = todo.popleft()
        check_tick(model)
        for after in {forget(each) for each in chain(world_turns(model), operator_turns(model))}:
            predecessors.setdefault(after, []).append(model)
            if after not in seen:
                check_model(after)
                seen.add(after)
                todo.append(after)
    ended = [model for model in seen if model.state.cleaned_up]
    assert {model.state.phase for model in ended} == {
        RestorePhase.COMPLETED,
        RestorePhase.FAILED,
        RestorePhase.CANCELED,
    }
    can_end, todo = set(ended), deque(ended)
    while todo:
        for model in predecessors.get(todo.popleft(), ()):
            if model not in can_end:
                can_end.add(model)
                todo.append(model)
    stuck = seen - can_end
    assert not stuck, f"{len(stuck)} of {len(seen)} states have no way to an end, such as {next(iter(stuck))}"
    assert len(seen) > 10_000, "the model became trivial"
