"""Every reachable state of a backup with two nodes: no order of events breaks an invariant, and none is a dead end."""

import gc
from collections import deque
from collections.abc import Iterator

import pytest
from tests.core import backup_model
from tests.core.backup_model import (
    ALL,
    LONG_AGO,
    NO_COMMANDS,
    NODES,
    PLAN,
    TO_COME,
    UNSEEN,
    Model,
    Tick,
    operator_turns,
    world_turns,
)

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.orders import STORE_WORKER, Lease, PlannedBackup, TakeStep
from weaviate_backup.core.session import Step

SIGNING = {"signing": {"keySecretRef": {"name": "signer", "key": "pem"}}}
SIGNED = PLAN.model_copy(update={"location": LocationSpec.model_validate(SIGNING)})
LET_GO = (NodePhase.UNREACHABLE, NodePhase.PENDING)


def check_tick(model: Model, tick: Tick) -> None:
    before, after = tick.before, tick.decision.state
    if before.phase.is_terminal:
        assert after.phase is before.phase, "a terminal phase never changes"
    if after.phase is not before.phase:
        assert not tick.decision.commands, "status first, command next tick"
    elif (model.failed or model.troubled or model.unseen) and not after.cleaned_up:
        changed = after != before
        assert changed or (tick.decision.look_again_seconds or 0) >= 1, "it is looked at again without a pause"
    if after.reason == "CommitUnconfirmed" != before.reason:
        assert before.committer
        lost = not model.planned or model.troubled
        assert model.created_at == LONG_AGO or lost, "somebody may still be asked"
    if after.phase is BackupPhase.COMPLETED is not before.phase:
        assert all(node.phase is NodePhase.VERIFIED for node in before.nodes if node.name in NODES)
    for node in after.nodes:
        assert node.phase is not NodePhase.VERIFIED or node.manifest_sha256 == node.name, "another agent's bytes"
    for command in tick.decision.commands:
        if isinstance(command, TakeStep) and command.command.step is Step.UPLOAD:
            assert model.ever_frozen == set(NODES), "no upload before every node has frozen"
        if isinstance(command, TakeStep) and command.command.step is Step.COMMIT:
            assert after.committer == command.node == before.committer
            signed = backup_model.PLAN is SIGNED
            assert not signed or command.node in (SIGNED.leader, STORE_WORKER), "it has no key to sign with"


def check_model(model: Model) -> None:
    phase = model.state.phase
    if model.unconfirmed:
        assert phase in (BackupPhase.ABORTING, BackupPhase.FAILED), f"it may be committed, yet {phase}"
    elif model.marker:
        assert phase in (BackupPhase.FINALIZING, BackupPhase.COMPLETED), f"committed, yet {phase}"
    assert not model.marker or model.stored == set(NODES), "committed, yet objects are missing"
    if phase is BackupPhase.COMPLETED:
        assert model.marker
    if phase in (BackupPhase.FAILED, BackupPhase.CANCELED) or (model.state.cleaned_up and not model.unseen):
        for node in model.state.nodes:
            held = node.name in NODES and model.agents[ALL.index(node.name)].frozen
            assert not held or node.phase in LET_GO, f"{phase}, yet {node.name} holds its frozen set"


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Tens of thousands of states without a cycle among them: looking for garbage would take a third of the time."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("plan", "siege"),
    [(PLAN, ""), (SIGNED, ""), (PLAN, NO_COMMANDS), (PLAN, UNSEEN)],
    ids=["anybody commits, a mishap comes", "signers commit", "then all commands are refused", "then nothing is seen"],
)
def test_no_order_of_events_breaks_an_invariant_or_ends_nowhere(
    plan: PlannedBackup, siege: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_model, "PLAN", plan)
    backup_model.forget_decisions()
    start = Model(siege=siege, mishap=TO_COME if plan is PLAN and not siege else "")
    seen, todo = {start}, deque([start])
    predecessors: dict[Model, list[Model]] = {}
    while todo:
        model = todo.popleft()
        successors = set(world_turns(model))
        for after, tick in operator_turns(model):
            check_tick(model, tick)
            successors.add(after)
        for after in successors:
            predecessors.setdefault(after, []).append(model)
            if after not in seen:
                check_model(after)
                seen.add(after)
                todo.append(after)
    ended = [model for model in seen if model.state.cleaned_up]
    assert {model.state.phase for model in ended} == {
        BackupPhase.COMPLETED,
        BackupPhase.FAILED,
        BackupPhase.CANCELED,
    }
    assert all(model.lease is not Lease.OURS for model in ended if not model.besieged)
    can_end, todo = set(ended), deque(ended)
    while todo:
        for model in predecessors.get(todo.popleft(), ()):
            if model not in can_end:
                can_end.add(model)
                todo.append(model)
    stuck = seen - can_end
    assert not stuck, f"{len(stuck)} of {len(seen)} states have no way to an end, such as {next(iter(stuck))}"
    assert len(seen) > 20_000, "the model became trivial"
