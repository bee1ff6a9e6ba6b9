"""Brings a set of agents through a chain of steps, whatever happens to them in between.

For every node it asks one question, what is missing now, and orders only that: a pod, a session, the first step of
the chain that is not done. An agent that restarted has another session and may have forgotten steps; they are ordered
again, and its journal makes that cheap. Failures that may pass are retried with back-off, and with the address that
Weaviate has by then. The caller owns deadlines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.orders import (
    ABSENT,
    AGENT_LOST_SECONDS,
    AGENT_START_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    WATCH_SECONDS,
    AgentPhase,
    AgentPod,
    Command,
    EnsureAgents,
    NodeState,
    PutSession,
    Reports,
    TakeStep,
    Unreachable,
    conflict,
    retry_time,
    seconds_since,
)
from weaviate_backup.core.session import Failure, NodeReport, Step, StepCommand, StepPhase

Chain = tuple[StepCommand, ...]
LONGEST_PAUSE = timedelta(seconds=LONGEST_BACKOFF_SECONDS)


@dataclass(frozen=True)
class Agents:
    """What is seen of the agents in this tick. `troubles`: commands to a node that failed for good in the last one."""

    operation_uid: str
    pods: Mapping[str, AgentPod]
    reports: Reports
    troubles: Mapping[str, Failure]

    def report(self, node: str) -> NodeReport | None:
        """Of an agent that answers and has this operation's session."""
        report = self.reports.get(node)
        return report if isinstance(report, NodeReport) and report.operation_uid == self.operation_uid else None

    def gone(self, node: str) -> bool:
        """No process of this agent can be alive any more."""
        return self.pods.get(node, ABSENT).phase in (AgentPhase.ABSENT, AgentPhase.ENDED)

    def barred(self, node: str) -> Failure | None:
        """Why no process of this agent is there, nor can be."""
        return self.troubles.get(node) if self.gone(node) else None


@dataclass(frozen=True)
class Advance:
    """`done`: every node reached the end of its chain. `failure`: the first one that cannot be cured, and where."""

    nodes: tuple[NodeState, ...]
    commands: tuple[Command, ...]
    done: bool
    failure: tuple[str, Failure] | None
    look_again_seconds: float


def finished(report: NodeReport, command: StepCommand) -> bool:
    """The step is done; for a verification, that of this very node."""
    if command.step is Step.VERIFY:
        return command.verify_node in report.verified
    step = report.steps.get(command.step)
    return step is not None and step.phase is StepPhase.DONE


def observe(nodes: Sequence[NodeState], agents: Agents, now: datetime) -> tuple[NodeState, ...]:
    """Remembers who answers: sessions, silences, and that an agent may be given orders from now on."""
    return tuple(_observe(node, agents, now) for node in nodes)


def _observe(node: NodeState, agents: Agents, now: datetime) -> NodeState:
    report = agents.reports.get(node.name)
    if not isinstance(report, NodeReport):
        if node.phase is NodePhase.PENDING:
            return node
        return replace(node, silent_since=node.silent_since or now)
    phase = NodePhase.STARTING if node.phase is NodePhase.PENDING else node.phase
    restarted = report.session_id != node.session
    retry_at = None if restarted else node.retry_at
    return replace(node, phase=phase, session=report.session_id, silent_since=None, retry_at=retry_at)


def advance(
    nodes: Sequence[NodeState],
    *,
    chains: Mapping[str, Chain],
    remembered: Sequence[NodeState],
    agents: Agents,
    now: datetime,
    reached: Callable[[NodeState, NodeReport], NodeState] = lambda node, _: node,
) -> Advance:
    """One tick. `remembered` is the state as stored before this tick: no order goes to a node not Starting in it.

    `reached` lets the caller remember results of a node whose chain is done.
    """
    started = {node.name for node in remembered if node.phase is not NodePhase.PENDING}
    result: dict[str, NodeState] = {node.name: node for node in nodes}
    commands: list[Command] = []
    missing: list[str] = []
    failure: tuple[str, Failure] | None = None
    done, look_again = True, WATCH_SECONDS
    for name, chain in chains.items():
        node = result[name]
        report = agents.reports.get(name)
        if isinstance(report, NodeReport) and report.operation_uid == agents.operation_uid:
            pending = next((command for command in chain if not finished(report, command)), None)
            if pending is None or finished(report, chain[-1]):
                result[name] = replace(reached(node, report), attempts=0, retry_at=None, reason="", message="")
                continue
            done = False
            result[name], command, problem = _order(node, report, pending, now)
            if command and name in started:
                commands.append(command)
            if result[name].retry_at:
                look_again = min(look_again, max(0.5, -seconds_since(result[name].retry_at, now)))
        else:
            done = False
            problem = _find_trouble(node, report, agents, now)
            if agents.gone(name):
                missing.append(name)
            elif isinstance(report, NodeReport) and report.operation_uid is None and name in started:
                commands.append(PutSession(node=name))
            if name not in started and isinstance(report, NodeReport):
                look_again = 0.0
        problem = problem or agents.troubles.get(name)
        if problem and failure is None:
            failure = (name, problem)
    if missing:
        commands.insert(0, EnsureAgents(nodes=tuple(missing)))
    return Advance(
        nodes=tuple(result[node.name] for node in nodes),
        commands=tuple(commands),
        done=done,
        failure=failure,
        look_again_seconds=look_again,
    )


def _order(
    node: NodeState, report: NodeReport, command: StepCommand, now: datetime
) -> tuple[NodeState, Command | None, Failure | None]:
    step = report.steps.get(command.step)
    if step is None or step.phase is StepPhase.DONE:  # a verification of another node may be the one that is done
        return node, TakeStep(node=node.name, command=command), None
    if step.phase is StepPhase.RUNNING:
        return replace(node, reason="", message=""), None, None
    cause = step.failure or Failure(reason="StepFailed", message=f"{command.step} failed", transient=True)
    if not cause.transient:
        return replace(node, reason=cause.reason, message=cause.message), None, cause
    if node.retry_at is None:
        attempts = node.attempts + 1
        retry = retry_time(attempts, now)
        changed = replace(node, attempts=attempts, retry_at=retry, reason=cause.reason, message=cause.message)
        return changed, PutSession(node.name, renewed=True), None  # its Weaviate may have another address by now
    if now < node.retry_at <= now + LONGEST_PAUSE:  # one that is further off was set by a clock that was put back since
        return node, None, None
    return replace(node, retry_at=None), TakeStep(node=node.name, command=command), None


def _find_trouble(
    node: NodeState, report: NodeReport | Unreachable | None, agents: Agents, now: datetime
) -> Failure | None:
    """What is beyond waiting: a pod that never starts, an agent silent for long, an agent of another operation."""
    pod = agents.pods.get(node.name, ABSENT)
    if isinstance(report, NodeReport):
        if report.operation_uid is None:
            return None
        return conflict("AgentForeign", f"the agent on {node.name} works for operation {report.operation_uid}")
    if node.phase is NodePhase.PENDING:
        if pod.phase is AgentPhase.STARTING and seconds_since(pod.created_at, now) > AGENT_START_SECONDS:
            why = f"{pod.reason}: {pod.message}" if pod.reason else "no reason is given"
            return conflict("AgentNotStarted", f"the agent pod for {node.name} does not start ({why})")
        return None
    if seconds_since(node.silent_since, now) > AGENT_LOST_SECONDS:
        detail = report.message if isinstance(report, Unreachable) else pod.message or "its pod is gone"
        return conflict("AgentUnreachable", f"the agent on {node.name} has not answered for 10 minutes: {detail}")
    return None
