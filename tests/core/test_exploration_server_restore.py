"""Every reachable state of a restore by method Server: what cannot be stopped is not called canceled."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pytest
from tests.core.backup_model import LONG_AGO, NO_COMMANDS, NODES, NOW, REFUSED, UID, UNSEEN
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
from tests.core.test_exploration_restore import INSPECTED, PLAN

from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.orders import CallServer, Command, Lease, ServerVerb
from weaviate_backup.core.restore_machine import (
    RestoreDecision,
    RestoreRequest,
    RestoreState,
    RestoreWorld,
    decide_restore,
)
from weaviate_backup.core.restore_plan import TargetFacts
from weaviate_backup.core.server_following import Recovered
from weaviate_backup.core.server_restore import BY_SERVER

COLLECTIONS = ("Article", "Note")
CONTENTS = INSPECTED.contents.model_copy(update={"collections": COLLECTIONS})
INSPECTED_BOTH = INSPECTED.model_copy(update={"contents": CONTENTS, "bytes_required": 0, "bytes_free": 0})


class Model(NamedTuple):
    """`there`: how many of the two collections are in the schema. `version`: of the server."""

    version: str
    state: RestoreState = RestoreState()
    late: bool = False
    cancel: bool = False
    lease: Lease = Lease.FREE
    planned: bool = False
    worker: Worker = Worker()
    engine: Engine = Engine()
    there: int = 0
    siege: Siege = Siege()

    @property
    def cancelable(self) -> bool:
        return self.version != "1.35.2"


@cache
def decide(model: Model) -> RestoreDecision:
    plan = PLAN.model_copy(update={"server_version": model.version})
    contents = CONTENTS.model_copy(update={"server_version": model.version})
    inspected = INSPECTED_BOTH.model_copy(update={"contents": contents})
    there, missing = COLLECTIONS[: model.there], COLLECTIONS[model.there :]
    recovered = Recovered(frozenset(there), missing) if model.engine.reachable else None
    target = TargetFacts(nodes=dict.fromkeys(NODES, True), version=model.version, collections=there)
    world = RestoreWorld(
        agents=agents(Worker() if model.siege.blinds else model.worker, inspected, troubled=model.siege.troubled),
        lease=model.lease,
        proposal=plan,
        plan=plan if model.planned and not model.siege.blinds else None,
        target=target if model.engine.reachable else None,
        remains=model.planned or model.worker.running,
        server=None if model.siege.blinds else see(model.engine),
        recovered=None if model.siege.blinds else recovered,
        failed=dict.fromkeys(model.siege.failed, REFUSED),
        unseen=REFUSED if model.siege.blinds else None,
    )
    created = LONG_AGO if model.late else NOW
    request = RestoreRequest(uid=UID, created_at=created, timeout_seconds=3600, cancel=model.cancel)
    decision = decide_restore(request, model.state, world, NOW, BY_SERVER)
    nodes = tuple(replace(node, attempts=0, retry_at=None, reason="", message="") for node in decision.state.nodes)
    state = replace(decision.state, nodes=nodes, verdict=None, message="")
    return replace(decision, state=replace(state, reason=state.reason if state.outcome else ""))


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
        case CallServer(verb=ServerVerb.RESTORE, run=run):
            for engine in requests(model.engine, run.process, begun(model.engine)):
                yield model._replace(engine=engine)
        case CallServer(verb=ServerVerb.CANCEL_RESTORE):
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
    if engine.at_work:
        return engine._replace(underway=None)
    return engine._replace(shown=WeaviateStatus.TRANSFERRING, owner=engine.process, underway=None, began=True)


def world_turns(model: Model) -> Iterator[Model]:
    engine = model.engine
    for worker in worker_turns(model.worker, may_succeed=True):
        yield model._replace(worker=worker)
    yield model._replace(engine=engine._replace(reachable=not engine.reachable))
    if engine.reply:
        yield model._replace(engine=engine._replace(reply=""))  # whoever was answered died
    if engine.underway is not None:
        yield model._replace(engine=begun(engine))
        yield model._replace(engine=engine._replace(underway=None))
    if engine.at_work:
        yield from engine_works(model)
    if engine.process < 2:
        yield model._replace(engine=restarted(engine))
    if not model.cancel and not model.state.phase.is_terminal:
        yield model._replace(cancel=True)
    for siege in model.siege.turns():
        yield model._replace(siege=siege)
    yield time_passes(model)


def engine_works(model: Model) -> Iterator[Model]:
    """Every class is a change of its own; a cancel is heard before the first one, if the version knows it."""
    engine = model.engine
    over = engine._replace(owner=None, canceling=False)
    yield model._replace(engine=over._replace(shown=WeaviateStatus.FAILED))
    if engine.shown is WeaviateStatus.TRANSFERRING:
        if engine.canceling and model.cancelable:
            yield model._replace(engine=over._replace(shown=WeaviateStatus.CANCELED))
        elif model.there == 0:
            yield model._replace(engine=engine._replace(shown=WeaviateStatus.FINALIZING))
    elif engine.shown is WeaviateStatus.FINALIZING:
        if model.there < len(COLLECTIONS):
            yield model._replace(there=model.there + 1)
        else:
            yield model._replace(engine=over._replace(shown=WeaviateStatus.SUCCESS))


def time_passes(model: Model) -> Model:
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
            assert before.server == command.run, "remembered before it is asked for"
            if command.verb is ServerVerb.RESTORE:
                assert not model.there, "asked to restore what is there already"
            else:
                assert model.cancelable
    if after.phase is RestorePhase.COMPLETED is not before.phase:
        assert model.engine.shown is WeaviateStatus.SUCCESS
        assert model.there == len(COLLECTIONS)
    if after.phase is RestorePhase.CANCELED is not before.phase:
        assert not model.there, "canceled, yet the schema was changed"
        assert not model.engine.at_work, "what was not stopped is not called canceled"


EARLIER = (None, WeaviateStatus.SUCCESS, WeaviateStatus.FAILED, WeaviateStatus.CANCELED)
"""What the server still says of an earlier restore of the same backup."""


@pytest.mark.parametrize(
    ("version", "kind"), [("1.39.1", ""), ("1.35.2", ""), ("1.39.1", NO_COMMANDS), ("1.39.1", UNSEEN)]
)
def test_no_order_of_events_breaks_an_invariant_or_ends_nowhere(version: str, kind: str) -> None:
    starts = [Model(version, engine=Engine(shown=shown), siege=Siege(kind)) for shown in EARLIER]
    seen, ended = explore(starts, successors, check, is_end=lambda model: model.state.cleaned_up)
    phases = {model.state.phase for model in ended}
    assert phases == {RestorePhase.COMPLETED, RestorePhase.FAILED, RestorePhase.CANCELED}
    assert all(model.lease is Lease.FREE for model in ended if not model.siege.begun)
    assert len(seen) > 5_000, "the model became trivial"
