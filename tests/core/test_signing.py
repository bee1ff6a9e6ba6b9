"""Who may have the signing key, who commits with it, and what a location that wants signatures cannot have."""

from dataclasses import replace

import pytest
from tests.core.backup_model import LONG_AGO, NODES, NOW, UID
from tests.core.backup_model import PLAN as UNSIGNED

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.backup_machine import BackupDecision, BackupRequest, BackupState, BackupWorld, decide_backup
from weaviate_backup.core.orders import (
    ABSENT,
    STORE_WORKER,
    AgentPhase,
    AgentPod,
    EnsureAgents,
    Lease,
    NodeState,
    TakeStep,
    Unreachable,
)
from weaviate_backup.core.session import NodeReport, Step
from weaviate_backup.core.signing import (
    refuse_bad_keys,
    refuse_unheld_restore,
    refuse_unsigned_backup,
    warn_of_unsigned,
)
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.verification import commit_candidates, signers_of

KEY = {"keySecretRef": {"name": "signer", "key": "pem"}}
TRUST = {"publicKeys": ["A" * 43 + "="]}
PLAN = UNSIGNED.model_copy(update={"location": LocationSpec.model_validate({"signing": KEY})})
VERIFIED = tuple(NodeState(name=name, phase=NodePhase.VERIFIED, manifest_sha256=name, session="s") for name in NODES)


def location(**changes: object) -> LocationSpec:
    return LocationSpec.model_validate({"s3": {"bucket": "backups"}, **changes})


def test_only_the_leader_and_its_replacement_have_the_key() -> None:
    nodes = (*VERIFIED, NodeState(name=STORE_WORKER))
    assert signers_of(PLAN) == commit_candidates(PLAN, nodes) == (PLAN.leader, STORE_WORKER)
    assert signers_of(UNSIGNED) == ()
    assert commit_candidates(UNSIGNED, nodes) == (*NODES, STORE_WORKER)


def decided(state: BackupState, answering: tuple[str, ...]) -> BackupDecision:
    """One tick of Finalizing, when everything is verified."""
    running = AgentPod(phase=AgentPhase.RUNNING, created_at=NOW)
    silent = Unreachable(reason="AgentUnreachable", message="no answer")
    names = (*NODES, STORE_WORKER)
    agents = Agents(
        operation_uid=UID,
        pods={name: running if name in answering else ABSENT for name in names},
        reports={
            name: NodeReport(operation_uid=UID, session_id="s", node=name, revision=1) if name in answering else silent
            for name in names
        },
        troubles={},
    )
    world = BackupWorld(agents=agents, lease=Lease.OURS, plan=PLAN, remains=True)
    request = BackupRequest(uid=UID, created_at=NOW, timeout_seconds=3600)
    return decide_backup(request, state, world, NOW)


FINALIZING = BackupState(phase=BackupPhase.FINALIZING, phase_since=NOW, nodes=VERIFIED, wrote=True)


def test_the_leader_commits() -> None:
    decision = decided(FINALIZING, NODES)
    assert decision.state.committer == PLAN.leader
    (command,) = decided(decision.state, NODES).commands
    assert isinstance(command, TakeStep)
    assert (command.node, command.command.step) == (PLAN.leader, Step.COMMIT)


def test_a_lost_leader_is_replaced_by_who_may_have_the_key_and_by_no_other() -> None:
    lost = replace(VERIFIED[0], silent_since=LONG_AGO)
    state = replace(FINALIZING, nodes=(lost, *VERIFIED[1:]), committer=PLAN.leader)
    first = decided(state, ("weaviate-1",))
    assert first.state.committer == PLAN.leader, "no other agent is told, however well it answers"
    (command,) = first.commands
    assert isinstance(command, EnsureAgents)
    assert set(command.nodes) == {PLAN.leader, STORE_WORKER}
    assert decided(first.state, ("weaviate-1", STORE_WORKER)).state.committer == STORE_WORKER


@pytest.mark.parametrize(
    ("spec", "by_server", "refused", "warned"),
    [
        (location(), True, [], []),
        (location(signing=KEY), False, [], []),
        (location(signing=KEY), True, [], ["NotSigned"]),
        (location(verify=TRUST), False, [], []),
        (location(verify={**TRUST, "requireSigned": True}), False, ["SigningKeyMissing"], []),
        (location(verify={**TRUST, "requireSigned": True}), True, ["SignatureImpossible"], []),
        (location(verify={**TRUST, "requireSigned": True}, signing=KEY), False, [], []),
        (location(verify={**TRUST, "requireSigned": True}, signing=KEY), True, ["SignatureImpossible"], ["NotSigned"]),
    ],
)
def test_a_backup_that_its_location_would_not_restore_is_refused(
    spec: LocationSpec, by_server: bool, refused: list[str], warned: list[str]
) -> None:
    assert [each.reason for each in refuse_unsigned_backup(spec, by_server=by_server)] == refused
    assert [each.reason for each in warn_of_unsigned(spec, by_server=by_server)] == warned


def test_weaviates_own_restore_cannot_be_held_to_signatures() -> None:
    assert refuse_unheld_restore(location(verify=TRUST)) == ()
    (refusal,) = refuse_unheld_restore(location(verify={**TRUST, "requireSigned": True}))
    assert (refusal.reason, refusal.transient) == ("SignatureNotHeld", False)


def test_a_public_key_that_is_none_is_named() -> None:
    assert refuse_bad_keys(location(verify=TRUST)) == ()
    (refusal,) = refuse_bad_keys(location(verify={"publicKeys": [*TRUST["publicKeys"], "AAAA"]}))
    assert refusal.reason == "PublicKeyInvalid"
    assert "spec.verify.publicKeys[1]" in refusal.message
