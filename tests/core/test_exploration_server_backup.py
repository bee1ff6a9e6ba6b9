"""Every reachable state of a backup by method Server: nothing breaks an invariant, and none is a dead end."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from tests.core.backup_model import LONG_AGO, NOW, PLAN, UID
from tests.core.exploration import explore
from tests.core.server_model import (
    Engine,
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


@cache
def decide(model: Model) -> BackupDecision:
    world = BackupWorld(
        agents=agents(model.worker),
        lease=model.lease,
        proposal=PLAN,
        plan=PLAN if model.planned else None,
        remains=model.planned or model.worker.running,
        server=see(model.engine),
    )
    created = LONG_AGO if model.late else NOW
    request = BackupRequest(uid=UID, created_at=created, timeout_seconds=3600, cancel=model.cancel)
    decision = decide_backup(request, model.state, world, NOW, BY_SERVER)
    nodes = tuple(replace(node, attempts=0, retry_at=None) for node in decision.state.nodes)
    return replace(decision, state=replace(decision.state, nodes=nodes, audited=None, message=""))


def successors(model: Model) -> Iterator[Model]:
    decision = decide(model)
    looked = model._replace(state=decision.state, engine=model.engine._replace(reply=""))
    yield from turns(looked, decision.commands, execute)
    yield from world_turns(model)


def execute(model: Model, command: Command) -> Iterator[Model]:
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


def test_no_order_of_events_breaks_an_invariant_or_ends_nowhere() -> None:
    foreign = Engine(shown=WeaviateStatus.STARTED, owner=0)
    starts = (Model(), Model(foreign=True, engine=foreign), Model(free=False))
    seen, ended = explore(starts, successors, check, is_end=lambda model: model.state.cleaned_up)
    phases = {model.state.phase for model in ended}
    assert phases == {BackupPhase.COMPLETED, BackupPhase.FAILED, BackupPhase.CANCELED}
    assert all(model.lease is Lease.FREE for model in ended)
    assert len(seen) > 5_000, "the model became trivial"
