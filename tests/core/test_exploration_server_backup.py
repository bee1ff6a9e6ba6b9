"""Every reachable state of a backup by method Server: nothing breaks an invariant, and none is a dead end."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pytest
from tests.core.backup_model import LONG_AGO, NO_COMMANDS, NOW, PLAN, REFUSED, UID, UNSEEN
from tests.core.exploration import explore
from tests.core.server_model import (
    Engine,
    Siege,
    Worker,
    agents,
    lease_after,
    older,
    planned_after,
    requests,
    restarted,
    see,
    serve,
    turns,
    worker_turns,
)

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.backup_machine import (
    BackupDecision,
    BackupRequest,
    BackupState,
    BackupWorld,
    decide_backup,
)
from weaviate_backup.core.orders import CallServer, Command, Lease, ServerVerb
from weaviate_backup.core.server_backup import BY_SERVER
from weaviate_backup.core.session import Step

UNSUCCESSFUL = (BackupPhase.FAILED, BackupPhase.CANCELED)


class Model(NamedTuple):
    """`foreign`: somebody else's backup has the identifier. `free`: the worker finds nothing in the store."""

    state: BackupState = BackupState()
    late: bool = False
    cancel: bool = False
    lease: Lease = Lease.FREE
    planned: bool = False
    worker: Worker = Worker()
    engine: Engine = Engine()
    foreign: bool = False
    free: bool = True
    siege: Siege = Siege()


@cache
def decide(model: Model) -> BackupDecision:
    world = BackupWorld(
        agents=agents(Worker() if model.siege.blinds else model.worker, troubled=model.siege.troubled),
        lease=model.lease,
        proposal=PLAN,
        plan=PLAN if model.planned and not model.siege.blinds else None,
        remains=model.planned or model.worker.running,
        server=None if model.siege.blinds else see(model.engine),
        failed=dict.fromkeys(model.siege.failed, REFUSED),
        unseen=REFUSED if model.siege.blinds else None,
    )
    created = LONG_AGO if model.late else NOW
    request = BackupRequest(uid=UID, created_at=created, timeout_seconds=3600, cancel=model.cancel)
    decision = decide_backup(request, model.state, world, NOW, BY_SERVER)
    nodes = tuple(replace(node, attempts=0, retry_at=None) for node in decision.state.nodes)
    return replace(decision, state=replace(decision.state, nodes=nodes, audited=None, message=""))


def successors(model: Model) -> Iterator[Model]:
    decision = decide(model)
    siege = model.siege.forgotten()
    looked = model._replace(state=decision.state, engine=model.engine._replace(reply=""), siege=siege)
    yield from turns(looked, decision.commands, execute)
    yield from world_turns(model)


def execute(model: Model, command: Command) -> Iterator[Model]:
    if model.siege.refuses(command):
        yield model._replace(siege=model.siege.after(command))
        return
    match command:
        case CallServer(verb=ServerVerb.CREATE, run=run):
            for engine in requests(model.engine, run.process, begun(model.engine)):
                yield model._replace(engine=engine)
        case CallServer(verb=ServerVerb.CANCEL):
            if model.engine.at_work and model.engine.reachable:
                yield model._replace(engine=model.engine._replace(canceling=True))
            yield model
        case _:
            yield model._replace(
                lease=lease_after(model.lease, command),
                planned=planned_after(model.planned, command),
                worker=serve(model.worker, command),
            )


def begun(engine: Engine) -> Engine:
    """A server never begins a second one of an identifier."""
    if engine.shown is not None:
        return engine._replace(underway=None)
    return engine._replace(shown=WeaviateStatus.STARTED, owner=engine.process, underway=None, began=True)


def world_turns(model: Model) -> Iterator[Model]:
    engine = model.engine
    whole = engine.shown is WeaviateStatus.SUCCESS
    for worker in worker_turns(model.worker, may_succeed=whole if model.worker.step is Step.AUDIT else model.free):
        yield model._replace(worker=worker)
    for changed in engine_turns(engine):
        yield model._replace(engine=changed)
    if not model.cancel and not model.state.phase.is_terminal:
        yield model._replace(cancel=True)
    for siege in model.siege.turns():
        yield model._replace(siege=siege)
    yield time_passes(model)


def engine_turns(engine: Engine) -> Iterator[Engine]:
    yield engine._replace(reachable=not engine.reachable)
    if engine.reply:
        yield engine._replace(reply="")  # whoever was answered died
    if engine.underway is not None:
        yield begun(engine)
        yield engine._replace(underway=None)
    if engine.at_work:
        over = engine._replace(owner=None, canceling=False)
        yield over._replace(shown=WeaviateStatus.SUCCESS)
        yield over._replace(shown=WeaviateStatus.FAILED)
        yield over._replace(shown=WeaviateStatus.CANCELED)
    if engine.process < 2:
        yield restarted(engine)
        if engine.owner is not None:  # with the module's own bucket and path the new process finds it and says so
            yield restarted(engine)._replace(owner=None, shown=WeaviateStatus.CANCELED)


def time_passes(model: Model) -> Model:
    """Beyond every deadline; a request is no longer under way by then."""
    engine = model.engine if model.engine.underway is None else begun(model.engine)
    return model._replace(state=older(model.state), engine=engine, late=True)


def check(model: Model) -> None:
    decision = decide(model)
    before, after = model.state, decision.state
    if before.phase.is_terminal:
        assert after.phase is before.phase, "a terminal phase never changes"
    if after.phase is not before.phase:
        assert not decision.commands, "status first, command next tick"
    elif (model.siege.failed or model.siege.troubled or model.siege.blinds) and not after.cleaned_up:
        assert (decision.look_again_seconds or 0) >= 1 or after != before, "it is looked at again without a pause"
    if after.server is not None and after.server.accepted:
        assert model.engine.began, "taken for begun, and never was"
    for command in decision.commands:
        if isinstance(command, CallServer):
            assert not model.foreign, "what is not ours is neither asked for nor canceled"
            assert model.free
            assert before.server == command.run, "remembered before it is asked for"
    if after.phase is BackupPhase.COMPLETED is not before.phase:
        assert model.engine.shown is WeaviateStatus.SUCCESS
        assert Step.AUDIT in model.worker.done
    if after.phase in UNSUCCESSFUL and before.phase is BackupPhase.ABORTING and not model.foreign:
        at_work = model.engine.at_work or model.engine.underway is not None
        unknown = at_work or (not model.engine.reachable and before.server is not None)
        assert not unknown or before.phase_since == LONG_AGO, "it ends while the server may be at work"
        if after.phase is BackupPhase.CANCELED:
            assert not at_work, "what was not stopped is not called canceled"
    if model.foreign or not model.free:
        assert after.phase not in (BackupPhase.UPLOADING, BackupPhase.FINALIZING, BackupPhase.COMPLETED)


@pytest.mark.parametrize("kind", ["", NO_COMMANDS, UNSEEN])
def test_no_order_of_events_breaks_an_invariant_or_ends_nowhere(kind: str) -> None:
    foreign, siege = Engine(shown=WeaviateStatus.STARTED, owner=0), Siege(kind)
    starts = [Model(siege=siege), Model(foreign=True, engine=foreign, siege=siege), Model(free=False, siege=siege)]
    seen, ended = explore(starts, successors, check, is_end=lambda model: model.state.cleaned_up)
    phases = {model.state.phase for model in ended}
    assert phases == {BackupPhase.COMPLETED, BackupPhase.FAILED, BackupPhase.CANCELED}
    assert all(model.lease is Lease.FREE for model in ended if not model.siege.begun)
    assert len(seen) > 5_000, "the model became trivial"
