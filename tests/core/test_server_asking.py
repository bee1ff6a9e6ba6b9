"""Method Server: a request that may have been lost is made again, and of the process that is there now."""

from datetime import timedelta

import pytest
from tests.core.backup_model import NOW, PLAN, REFUSED, UID
from tests.core.server_model import BUSY, COORDINATOR
from tests.core.test_exploration_restore import PLAN as RESTORE_PLAN

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.backup_machine import BackupDecision, BackupRequest, BackupState, BackupWorld, decide_backup
from weaviate_backup.core.orders import CallServer, Lease, ServerRun, ServerVerb
from weaviate_backup.core.restore_machine import (
    RestoreDecision,
    RestoreRequest,
    RestoreState,
    RestoreWorld,
    decide_restore,
)
from weaviate_backup.core.server_backup import BY_SERVER
from weaviate_backup.core.server_following import Recovered, ServerSight
from weaviate_backup.core.server_restore import BY_SERVER as RESTORE_BY_SERVER
from weaviate_backup.core.session import Failure
from weaviate_backup.core.stepping import Agents

NOBODY = Agents(operation_uid=UID, pods={}, reports={}, troubles={})
ASKED, NEXT = ServerRun(COORDINATOR, "pod/0"), ServerRun(COORDINATOR, "pod/1")
Decision = BackupDecision | RestoreDecision
of_both = pytest.mark.parametrize("verb", [ServerVerb.CREATE, ServerVerb.RESTORE])


def decide(
    verb: ServerVerb,
    process: str,
    *,
    refusal: Failure | None = None,
    status: WeaviateStatus | None = None,
    accepted: bool = False,
    present: frozenset[str] = frozenset(),
) -> Decision:
    """One tick of an operation that remembers it was going to ask `pod/0`."""
    sight = ServerSight(node=COORDINATOR, process=process, status=status, accepted=accepted, refusal=refusal)
    now = NOW + timedelta(seconds=1)
    if verb is ServerVerb.CREATE:
        state = BackupState(phase=BackupPhase.PREPARING, phase_since=NOW, server=ASKED)
        world = BackupWorld(agents=NOBODY, lease=Lease.OURS, plan=PLAN, server=sight)
        return decide_backup(BackupRequest(uid=UID, created_at=NOW, timeout_seconds=60), state, world, now, BY_SERVER)
    kept = RestoreState(phase=RestorePhase.DOWNLOADING, phase_since=NOW, server=ASKED, collections=("Article",))
    missing = tuple({"Article"} - present)
    recovered = Recovered(missing=missing, unready=(), present=present)
    seen = RestoreWorld(agents=NOBODY, lease=Lease.OURS, plan=RESTORE_PLAN, server=sight, recovered=recovered)
    request = RestoreRequest(uid=UID, created_at=NOW, timeout_seconds=60)
    return decide_restore(request, kept, seen, now, RESTORE_BY_SERVER)


def request_of(decision: Decision) -> CallServer | None:
    return next((each for each in decision.commands if isinstance(each, CallServer)), None)


@of_both
def test_while_nothing_shows_the_same_process_is_asked_again(verb: ServerVerb) -> None:
    assert request_of(decide(verb, "pod/0")) == CallServer(verb=verb, run=ASKED, collections=("Article",))


@of_both
@pytest.mark.parametrize("refusal", [None, BUSY])
def test_what_a_dead_process_was_asked_the_next_one_is_asked(verb: ServerVerb, refusal: Failure | None) -> None:
    """Remembered before it is asked. A request to a process that is gone is never sent, so nothing would ever begin."""
    decision = decide(verb, "pod/1", refusal=refusal)
    assert decision.state.server == NEXT
    assert not decision.commands, "the status says first whom it is going to ask"
    assert decision.look_again_seconds == 0


@of_both
def test_what_shows_at_the_next_process_was_begun_and_is_not_asked_for_twice(verb: ServerVerb) -> None:
    decision = decide(verb, "pod/1", status=WeaviateStatus.STARTED)
    assert decision.state.server == ServerRun(COORDINATOR, "pod/0", accepted=True)
    assert request_of(decision) is None


@of_both
def test_a_refusal_ends_it_and_one_that_passes_is_told_meanwhile(verb: ServerVerb) -> None:
    busy = decide(verb, "pod/0", refusal=BUSY)
    assert (busy.state.reason, busy.state.outcome) == (BUSY.reason, None)
    assert request_of(busy) is not None
    refused = decide(verb, "pod/0", refusal=REFUSED)
    assert (refused.state.phase.value, refused.state.reason) == ("Aborting", REFUSED.reason)
    assert refused.state.server is None, "the server never began, so nothing of it is waited for"


def test_a_collection_that_is_there_before_the_restore_shows_is_not_ours() -> None:
    decision = decide(ServerVerb.RESTORE, "pod/0", present=frozenset({"Article"}))
    assert (decision.state.phase, decision.state.reason) == (RestorePhase.ABORTING, "CollectionExists")
    assert request_of(decision) is None
