"""Who verifies whose upload, who commits, and what counts as verified.

An upload is verified by an agent that did not make it. From here on agents may be replaced: any that answers will do.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.orders import (
    ABSENT,
    LEASE_MARGIN_SECONDS,
    STORE_WORKER,
    AgentPhase,
    NodeState,
    PlannedBackup,
    conflict,
    seconds_since,
)
from weaviate_backup.core.session import Failure
from weaviate_backup.core.stepping import Agents

PATIENCE_SECONDS = 20
"""An agent that restarts is waited for this long before a store worker is made in its place."""


def remember_verified(
    nodes: Sequence[NodeState], *, plan: PlannedBackup, agents: Agents
) -> tuple[tuple[NodeState, ...], Failure | None]:
    """Verified is a node whose manifest another agent read back with the digest that the uploading one reported."""
    digests: dict[str, str] = {}
    for verifier in nodes:
        report = agents.report(verifier.name)
        for name, verified in (report.verified if report else {}).items():
            if name != verifier.name and name in plan.nodes:
                digests[name] = verified.manifest_sha256
    result = []
    for node in nodes:
        digest = digests.get(node.name)
        if digest is None or node.phase is NodePhase.VERIFIED:
            result.append(node)
        elif node.manifest_sha256 not in (None, digest):
            message = f"the stored manifest of {node.name} is not the one its agent wrote"
            return tuple(nodes), conflict("VerificationFailed", message)
        else:
            result.append(replace(node, phase=NodePhase.VERIFIED, manifest_sha256=digest, attempts=0, retry_at=None))
    return tuple(result), None


def verifier_of(name: str, nodes: Sequence[NodeState], agents: Agents, now: datetime) -> str:
    """The next agent in the ring that answers; a store worker when all the others are silent for some time."""
    ring = [node for node in nodes if node.name != STORE_WORKER]
    at = next(position for position, node in enumerate(ring) if node.name == name)
    others = (*ring[at + 1 :], *ring[:at])
    answering = [node.name for node in others if agents.report(node.name)]
    patient = [node.name for node in others if seconds_since(node.silent_since, now) <= PATIENCE_SECONDS]
    return next(iter((*answering, *patient)), STORE_WORKER)


def commit_candidates(plan: PlannedBackup, nodes: Sequence[NodeState]) -> tuple[str, ...]:
    """The leader, else any; of a signed backup only who has the key."""
    signers = signers_of(plan)
    names = (plan.leader, *(node.name for node in nodes if node.name != plan.leader))
    return tuple(name for name in names if not signers or name in signers)


def signers_of(plan: PlannedBackup) -> tuple[str, ...]:
    """Whose pods have the signing key: the leader's, which commits, and the worker's, which would in its place."""
    return (plan.leader, STORE_WORKER) if plan.location.signing else ()


def can_no_longer_commit(node: NodeState, agents: Agents, *, lease_seconds: int, now: datetime) -> bool:
    """Its process is known to be gone, or it was silent for so long that its lease ended it. That its pod is not there
    any more says nothing: a node that was lost goes on with it."""
    if agents.report(node.name):
        return False
    expired = seconds_since(node.silent_since, now) > lease_seconds + LEASE_MARGIN_SECONDS
    return agents.pods.get(node.name, ABSENT).phase is AgentPhase.ENDED or expired
