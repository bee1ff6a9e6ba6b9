"""Every fault of the way to a store, in every verb, for every kind: what passes is survived, what stays is named.

Whatever happens, nothing is called a success that is none, no object is half there, and no upload is left unfinished.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.storage.contract import MIB, blocks, read
from tests.storage.dialects import DIALECTS, Dialect, Verb
from tests.storage.faults import Answer, Fault, Flip, HangUp, Moment, Silence
from tests.storage.faulty_stores import READ_SECONDS, Trial

from weaviate_backup.errors import ObjectNotFound, Transient

SMALL = b"a document"
LARGE = b"".join(bytes([number]) * MIB for number in range(9))
SILENT_SECONDS = READ_SECONDS + 0.3
NOW = (("Retry-After", "0"),)
IN_A_MOMENT = (("Retry-After", "1"),)


LINE = frozenset({"StoreUnavailable"})


@dataclass(frozen=True)
class Case:
    """`reasons` are those that a fault which stays may be named by. `done`: the store does what it is asked.

    `documents`: only in verbs whose answer is never empty. `slow`: when it stays, all attempts take long.
    """

    name: str
    verbs: tuple[Verb, ...]
    fault: Callable[[Dialect], Fault]
    reasons: frozenset[str] = LINE
    done: bool = False
    documents: bool = False
    slow: bool = False


PUTS = (Verb.PUT, Verb.PART)
PARTS = (Verb.START, Verb.PART, Verb.COMPLETE)
WRITES = (Verb.PUT, *PARTS, Verb.DELETE)
READS = (Verb.READ, Verb.LIST)
ALL = (*WRITES, *READS)
THROTTLED = frozenset({"Throttled"})
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
    Case(
        "silence before the answer", (Verb.PUT, Verb.READ), lambda _: Silence(Moment.BEFORE, SILENT_SECONDS), slow=True
    ),
    Case("silence in the answer", (Verb.READ,), lambda _: Silence(Moment.RECEIVING, SILENT_SECONDS), slow=True),
    Case("reset while sending", PUTS, lambda _: HangUp(Moment.SENDING, 3)),
    Case("reset in the answer", READS, lambda _: HangUp(Moment.RECEIVING)),
    Case("truncated", READS, lambda _: HangUp(Moment.RECEIVING, reset=False)),
    Case("empty answer", ALL, lambda _: Answer(200), documents=True),
    Case("empty answer but done", PARTS[1:], lambda _: Answer(200, done=True), done=True, documents=True),
    Case("bit flipped while sending", PUTS, lambda _: Flip(Moment.SENDING, 4), LINE | {"ContentDiffers"}),
)
KINDS = tuple(DIALECTS)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every fault for every kind: in a verb or two that differ from kind to kind, with `--scenarios all` in all."""
    if "case" not in metafunc.fixturenames:
        return
    everything = metafunc.config.getoption("--scenarios") == "all"
    lasting = metafunc.function is test_what_stays_is_named
    chosen = [
        pytest.param(kind, case, verb, id=f"{kind}-{case.name}-{verb.value}")
        for kind in KINDS
        for case in CASES
        if everything or not (lasting and case.slow)
        for verb in verbs_of(kind, case)[: None if everything else 1 if lasting else 2]
    ]
    metafunc.parametrize(("shared", "case", "verb"), chosen, indirect=["shared"], scope="module")


def verbs_of(kind: str, case: Case) -> list[Verb]:
    dialect = DIALECTS[kind]
    allowed = dialect.verbs & dialect.documents if case.documents else dialect.verbs
    verbs = [verb for verb in case.verbs if verb in allowed]
    first = (CASES.index(case) + KINDS.index(kind)) % max(1, len(verbs))
    return verbs[first:] + verbs[:first]


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


def test_what_passes_is_survived(trial: Trial, case: Case, verb: Verb) -> None:
    key = prepare(trial, verb)
    trial.line.fail(trial.dialect.is_verb(verb), case.fault(trial.dialect), times=2)
    act(trial, verb, key)
    assert trial.line.used == (1 if case.done and verb is trial.dialect.last else 2)
    assert content_of(trial, key) == wanted(verb)
    assert trial.unfinished() == 0


def test_what_stays_is_named(trial: Trial, case: Case, verb: Verb) -> None:
    """But for an upload that was completed: its object is found, and is what it should be."""
    key = prepare(trial, verb)
    trial.line.fail(trial.dialect.is_verb(verb), case.fault(trial.dialect), times=None)
    if case.done and verb is trial.dialect.last:
        act(trial, verb, key)
        assert content_of(trial, key) == LARGE
    else:
        with pytest.raises(Transient) as caught:
            act(trial, verb, key)
        assert caught.value.reason in case.reasons | ({"DeleteIncomplete"} if verb is Verb.DELETE else set())
        assert not any(secret in str(caught.value) for secret in trial.secrets)
        assert content_of(trial, key) in ((SMALL, None) if verb is Verb.DELETE or case.done else (initial(verb),))
    assert trial.line.used > 0
    assert trial.unfinished() == 0


def initial(verb: Verb) -> bytes | None:
    return SMALL if verb in (*READS, Verb.DELETE) else None
