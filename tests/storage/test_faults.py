"""Every fault of the way to a store, in every verb, for every kind: what passes is survived, what stays is named.

Whatever happens, nothing is called a success that is none, no object is half there, and no upload is left unfinished.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.storage.contract import MIB, blocks, read
from tests.storage.dialects import Dialect, Verb
from tests.storage.faults import Answer, Fault, Flip, HangUp, Moment, Silence
from tests.storage.faulty_stores import READ_SECONDS, Trial

from weaviate_backup.errors import ObjectNotFound, Transient

SMALL = b"a document"
LARGE = b"".join(bytes([number]) * MIB for number in range(9))
SILENT_SECONDS = READ_SECONDS + 0.3
NOW = (("Retry-After", "0"),)
IN_A_MOMENT = (("Retry-After", "1"),)


@dataclass(frozen=True)
class Case:
    """`reasons` are those that a fault which stays may be named by. `done`: the store does what it is asked."""

    name: str
    verbs: tuple[Verb, ...]
    fault: Callable[[Dialect], Fault]
    reasons: frozenset[str] = frozenset({"StoreUnavailable"})
    done: bool = False


PUTS = (Verb.PUT, Verb.PART)
PARTS = (Verb.START, Verb.PART, Verb.COMPLETE)
WRITES = (Verb.PUT, *PARTS, Verb.DELETE)
READS = (Verb.READ, Verb.LIST)
ALL = (*WRITES, *READS)
THROTTLED = frozenset({"Throttled"})
EXPIRED = frozenset({"ExpiredToken"})
CASES = (
    Case("reset before", ALL, lambda _: HangUp(Moment.BEFORE)),
    Case("ended before", ALL, lambda _: HangUp(Moment.BEFORE, reset=False)),
    Case("answer lost", WRITES, lambda _: HangUp(Moment.DONE), done=True),
    Case("500 but done", WRITES, lambda way: way.refuse(500, "InternalError", done=True), done=True),
    Case("500", ALL, lambda way: way.refuse(500, "InternalError")),
    Case("503", ALL, lambda way: way.refuse(503, "ServiceUnavailable")),
    Case("throttled", ALL, lambda way: way.refuse(*way.throttled), THROTTLED),
    Case("throttled, Retry-After", (Verb.PUT,), lambda way: way.refuse(*way.throttled, headers=NOW), THROTTLED),
    Case("429", ALL, lambda way: way.refuse(429, "TooManyRequests"), THROTTLED),
    Case("429, Retry-After", (Verb.PUT,), lambda way: way.refuse(429, "TooManyRequests", headers=NOW), THROTTLED),
    Case("expired token", ALL, lambda way: way.refuse(*way.expired), EXPIRED),
    Case("silence before the answer", (Verb.PUT, Verb.READ), lambda _: Silence(Moment.BEFORE, SILENT_SECONDS)),
    Case("silence in the answer", (Verb.READ,), lambda _: Silence(Moment.RECEIVING, SILENT_SECONDS)),
    Case("reset while sending", PUTS, lambda _: HangUp(Moment.SENDING, 3)),
    Case("reset in the answer", READS, lambda _: HangUp(Moment.RECEIVING)),
    Case("truncated", READS, lambda _: HangUp(Moment.RECEIVING, reset=False)),
    Case("empty answer", (Verb.START, Verb.COMPLETE, Verb.DELETE, Verb.LIST), lambda _: Answer(200)),
    Case("empty answer but done", PARTS[2:], lambda _: Answer(200, done=True), done=True),
    Case("bit flipped while sending", PUTS, lambda _: Flip(Moment.SENDING, 4)),
)
MATRIX = [pytest.param(case, verb, id=f"{case.name}-{verb.value}") for case in CASES for verb in case.verbs]


def act(trial: Trial, verb: Verb, key: str) -> None:
    """Do what sends that verb, and check what it says it did."""
    if verb is Verb.PUT:
        assert trial.store.put(key, lambda: iter((SMALL,)), if_absent=True).size_bytes == len(SMALL)
    elif verb in PARTS:
        assert trial.store.put(key, lambda: blocks(LARGE, MIB), if_absent=True).size_bytes == len(LARGE)
    elif verb is Verb.READ:
        assert read(trial.store, key) == SMALL
    elif verb is Verb.LIST:
        assert [each.key for each in trial.store.list(key)] == [key]
    else:
        trial.store.delete([key, f"{key}-and-another"])


def prepare(trial: Trial, verb: Verb) -> str:
    key = trial.key()
    if verb in (*READS, Verb.DELETE):
        trial.truth.put(key, lambda: iter((SMALL,)))
    return key


def content_of(trial: Trial, key: str) -> bytes | None:
    try:
        return read(trial.truth, key)
    except ObjectNotFound:
        return None


def wanted(verb: Verb) -> bytes | None:
    """What must be there when it says that it is done."""
    return None if verb is Verb.DELETE else LARGE if verb in PARTS else SMALL


@pytest.mark.parametrize(("case", "verb"), MATRIX)
def test_what_passes_is_survived(trial: Trial, case: Case, verb: Verb) -> None:
    key = prepare(trial, verb)
    trial.line.fail(trial.dialect.is_verb(verb), case.fault(trial.dialect), times=2)
    act(trial, verb, key)
    assert trial.line.used == (1 if case.done and verb is Verb.COMPLETE else 2)
    assert content_of(trial, key) == wanted(verb)
    assert trial.unfinished() == 0


@pytest.mark.parametrize(("case", "verb"), MATRIX)
def test_what_stays_is_named(trial: Trial, case: Case, verb: Verb) -> None:
    """But for an upload that was completed: its object is found, and is what it should be."""
    key = prepare(trial, verb)
    trial.line.fail(trial.dialect.is_verb(verb), case.fault(trial.dialect), times=None)
    if case.done and verb is Verb.COMPLETE:
        act(trial, verb, key)
        assert content_of(trial, key) == LARGE
    else:
        with pytest.raises(Transient) as caught:
            act(trial, verb, key)
        assert caught.value.reason in case.reasons
        assert not any(secret in str(caught.value) for secret in trial.credentials.values())
        assert content_of(trial, key) in ((SMALL, None) if verb is Verb.DELETE or case.done else (initial(verb),))
    assert trial.line.used > 0
    assert trial.unfinished() == 0


def initial(verb: Verb) -> bytes | None:
    return SMALL if verb in (*READS, Verb.DELETE) else None
