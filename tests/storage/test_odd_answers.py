"""A store that answers oddly: late, slowly, with wrong checksums, in pieces, or not what it did."""

import gc
import hashlib
import socket
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import urllib3.util.connection
from tests.storage.contract import MIB, blocks, read
from tests.storage.dialects import AZURE, S3, Verb
from tests.storage.faults import Answer, Drip, Edit, Fault, Flip, HangUp, Header, Moment, Silence
from tests.storage.faulty_stores import PATIENT, READ_SECONDS, SLOW_READ_SECONDS, TRIALS, Trial, nth

from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage import parts
from weaviate_backup.storage.patience import Patience

LARGE = b"".join(bytes([number]) * MIB for number in range(9))
PAGE = 40
SEND_BYTES = 128 << 10
MEMORY_BYTES = 160 * MIB
"""Four parts of 8 MiB in flight, the next, a few copies, and what the line itself holds."""


@pytest.fixture
def small_send_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loopback device the kernel takes some MiB at once, which hides how slow the other end is."""
    connect = urllib3.util.connection.create_connection

    def small(*arguments: Any, **options: Any) -> socket.socket:
        connected = connect(*arguments, **options)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        return connected

    monkeypatch.setattr(urllib3.util.connection, "create_connection", small)


def test_a_slow_line_is_waited_for(trial: Trial, small_send_buffers: None) -> None:
    """A part takes longer than the longest silence; not one request more than on a fast line."""
    sent, store = [], trial.open(PATIENT)
    for seconds in (0.0, SLOW_READ_SECONDS * 1.4):
        trial.line.heal()
        trial.line.fail(lambda _: True, Drip(seconds / 8), times=None)
        key = trial.key()
        store.put(key, lambda: blocks(LARGE, MIB), if_absent=True)
        assert read(trial.truth, key) == LARGE
        sent.append(len(trial.line.requests))
    assert sent[0] == sent[1]


@pytest.mark.parametrize(["shared"], [("s3",)], indirect=True)
def test_a_redirected_part_is_sent_whole(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore sends it again by itself when the store says that its bucket is in another region; we need not."""
    monkeypatch.setattr(parts, "PART_ATTEMPTS", 1)
    is_part, key = trial.dialect.is_verb(Verb.PART), trial.key()
    trial.line.fail(is_part, Answer(307, headers=(("x-amz-bucket-region", "us-east-1"),)))
    trial.open(Patience(attempts=1)).put(key, lambda: blocks(LARGE, MIB))
    assert read(trial.truth, key) == LARGE
    assert sum(map(is_part, trial.line.requests)) == 3


def test_an_object_is_read_from_a_slow_line(trial: Trial) -> None:
    key = trial.key()
    trial.truth.put(key, lambda: blocks(LARGE, MIB))
    trial.line.fail(lambda _: True, Drip(READ_SECONDS / 4), times=None)
    assert read(trial.store, key) == LARGE
    assert len(trial.line.requests) == 1


def test_an_answer_that_does_not_say_its_length_is_refused(trial: Trial) -> None:
    key = trial.key()
    trial.truth.put(key, lambda: blocks(LARGE, MIB))
    trial.line.fail(trial.dialect.is_verb(Verb.READ), Header("Content-Length", None), times=None)
    with pytest.raises(Transient, match="LengthUnknown"):
        read(trial.store, key)


def test_a_silence_shorter_than_patience_is_no_failure(trial: Trial) -> None:
    is_part, sent = trial.dialect.is_verb(Verb.PART), []
    for moments in ((), (Moment.SENDING, Moment.BEFORE)):
        trial.line.heal()
        for moment in moments:
            trial.line.fail(is_part, Silence(moment, SLOW_READ_SECONDS * 0.4))
        key = trial.key()
        trial.open(PATIENT).put(key, lambda: blocks(LARGE, MIB), if_absent=True)
        assert read(trial.truth, key) == LARGE
        sent.append(sum(map(is_part, trial.line.requests)))
    assert trial.line.used == min(2, sent[0])
    assert sent[0] == sent[1]


def test_a_silence_while_a_part_is_sent_is_survived(trial: Trial) -> None:
    key = trial.key()
    trial.line.fail(trial.dialect.is_verb(Verb.PART), Silence(Moment.SENDING, READ_SECONDS + 0.5, 65_536), times=2)
    trial.store.put(key, lambda: blocks(LARGE, MIB), if_absent=True)
    assert read(trial.truth, key) == LARGE
    assert trial.unfinished() == 0


def test_an_object_is_read_on_over_many_broken_lines(trial: Trial) -> None:
    key = trial.key()
    trial.truth.put(key, lambda: blocks(LARGE, MIB))
    for number in range(6):
        fault = HangUp(Moment.RECEIVING, 700_000, reset=bool(number % 2))
        trial.line.fail(trial.dialect.is_verb(Verb.READ), fault)
    assert read(trial.store, key) == LARGE
    assert trial.line.used == 6


def test_a_bit_flipped_on_the_way_back_is_never_read_without_notice(trial: Trial) -> None:
    """The hash that whoever reads has tells; a whole object is not taken for good by its length."""
    key = trial.key()
    trial.truth.put(key, lambda: blocks(LARGE, MIB))
    trial.line.fail(trial.dialect.is_verb(Verb.READ), Flip(Moment.RECEIVING, 1_000_000))
    try:
        found = read(trial.store, key)
    except BackupError as error:
        assert error.reason == "BackupDamaged"
    else:
        assert hashlib.sha256(found).digest() != hashlib.sha256(LARGE).digest()


@pytest.mark.parametrize("verb", [Verb.READ, Verb.STAT])
def test_an_object_not_found_right_after_it_was_put_is_not_found(trial: Trial, verb: Verb) -> None:
    key = trial.key()
    trial.store.put(key, lambda: blocks(b"1"))
    trial.line.fail(trial.dialect.is_verb(verb), trial.dialect.refuse(404, "NoSuchKey"))
    with pytest.raises(ObjectNotFound):
        read(trial.store, key) if verb is Verb.READ else trial.store.stat(key)
    assert read(trial.store, key) == b"1"


def test_a_conflict_of_writers_is_asked_again_and_a_condition_that_fails_is_final(trial: Trial) -> None:
    key = trial.key()
    trial.line.fail(trial.dialect.is_verb(Verb.PUT), trial.dialect.refuse(*trial.dialect.conflict))
    trial.store.put(key, lambda: blocks(b"1"), if_absent=True)
    assert read(trial.truth, key) == b"1"
    with pytest.raises(ObjectExists):
        trial.store.put(key, lambda: blocks(b"1"), if_absent=True)


def test_an_object_of_somebody_else_is_no_success_of_a_repeated_put(trial: Trial) -> None:
    """The first attempt fails, and before the second another writer's object is there."""
    for content in (b"another", b"mine and more", b"min", b"other mine"):
        key = trial.key()
        attempts = iter((lambda: None, lambda key=key, content=content: trial.truth.put(key, lambda: iter((content,)))))

        def make(attempts: Iterator[object] = attempts) -> Iterator[bytes]:
            act = next(attempts, None)
            if callable(act):
                act()
            yield b"mine"

        trial.line.fail(trial.dialect.is_verb(Verb.PUT), HangUp(Moment.BEFORE))
        with pytest.raises(ObjectExists):
            trial.store.put(key, make, if_absent=True)
        assert read(trial.truth, key) == content


def test_what_could_not_be_deleted_is_tried_again(trial: Trial) -> None:
    edit = trial.dialect.left_out
    fault = Edit(edit) if edit else trial.dialect.refuse(503, "ServiceUnavailable")
    keys = [trial.key() for _ in range(3)]
    for key in keys:
        trial.truth.put(key, lambda: iter((b"1",)))
    trial.line.fail(trial.dialect.is_verb(Verb.DELETE), fault)
    trial.store.delete(keys)
    assert trial.line.used == 1
    assert not {each.key for each in trial.truth.list("")} & set(keys)
    trial.line.fail(trial.dialect.is_verb(Verb.DELETE), fault, times=None)
    with pytest.raises(Transient, match=r"DeleteIncomplete|StoreUnavailable"):
        trial.store.delete(keys)


def test_a_deletion_that_is_forbidden_is_final(trial: Trial) -> None:
    key = trial.key()
    trial.truth.put(key, lambda: iter((b"1",)))
    trial.line.fail(trial.dialect.is_verb(Verb.DELETE), trial.dialect.refuse(403, "AccessDenied"), times=None)
    with pytest.raises(Permanent, match=r"AccessDenied|DeleteIncomplete"):
        trial.store.delete([key])
    assert trial.line.used == (
        2 if trial.dialect is AZURE else 1
    )  # Azure refuses some a batch alone: one is tried singly
    assert read(trial.truth, key) == b"1"


def test_a_listing_that_breaks_on_its_second_page_gives_every_object_once(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in TRIALS:
        monkeypatch.setattr(f"weaviate_backup.storage.{kind}.LIST_PAGE", PAGE)
    keys = [f"pages/{number:05}" for number in range(2 * PAGE + 5)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: trial.truth.put(key, lambda: iter((b"1",))), keys))
    pages: tuple[tuple[Moment, bool], ...] = (
        (Moment.BEFORE, True),
        (Moment.RECEIVING, True),
        (Moment.RECEIVING, False),
    )
    for moment, reset in pages:
        trial.line.fail(lambda request: trial.dialect.second_page in request.path, HangUp(moment, reset=reset))
    assert sorted(each.key for each in trial.store.list("pages/")) == keys
    assert trial.line.used == 3
    trial.truth.delete(keys)


def in_the_middle(trial: Trial) -> list[tuple[int, Fault]]:
    """With how many parts later; a store that streams an object has one part, which is sent again."""
    silence = Silence(Moment.SENDING, SLOW_READ_SECONDS + 0.5, MIB)
    if trial.dialect.last is Verb.PART:
        return [(1, HangUp(Moment.SENDING, 150 * MIB)), (1, HangUp(Moment.SENDING, 200 * MIB)), (1, silence)]
    return [(2, HangUp(Moment.DONE)), (7, HangUp(Moment.DONE)), (3, silence), (4, HangUp(Moment.DONE))]


def test_memory_stays_flat_through_silences_and_broken_lines(trial: Trial) -> None:
    size_mib = 320
    block = hashlib.sha256(b"x").digest() * (MIB // 32)
    key = trial.key()
    parts, faults = trial.dialect.is_verb(Verb.PART), in_the_middle(trial)
    for number, fault in faults:
        trial.line.fail(nth(parts, number), fault)
    store = trial.open(PATIENT)
    gc.collect()
    tracemalloc.start()
    try:
        store.put(key, lambda: (block for _ in range(size_mib)), if_absent=True)
        put_peak = tracemalloc.get_traced_memory()[1]
        assert trial.line.used == len(faults)
        tracemalloc.reset_peak()
        trial.line.fail(trial.dialect.is_verb(Verb.READ), HangUp(Moment.RECEIVING, 20 * MIB), times=4)
        with store.open(key) as stream:
            count = 0
            while piece := stream.read(MIB):
                assert piece == block
                count += 1
        assert count == size_mib
        assert max(put_peak, tracemalloc.get_traced_memory()[1]) < MEMORY_BYTES
    finally:
        tracemalloc.stop()
        trial.truth.delete([key])
    assert trial.unfinished() == 0


@pytest.mark.parametrize(["shared"], [("s3",), ("gcs",)], indirect=True)
def test_a_wrong_checksum_in_an_answer_is_no_success(trial: Trial) -> None:
    """The store refuses to put together what it does not know, or we do; the upload starts again from zero."""
    key = trial.key()
    fault = trial.dialect.wrong_checksum
    assert fault is not None
    trial.line.fail(trial.dialect.is_verb(Verb.PART), fault)
    trial.store.put(key, lambda: blocks(LARGE, MIB), if_absent=True)
    assert trial.line.used == 1
    assert read(trial.truth, key) == LARGE
    assert trial.unfinished() == 0


@pytest.mark.parametrize(["shared"], [("s3",)], indirect=True)
@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
def test_a_completion_that_says_200_with_an_error_inside(trial: Trial, done: bool) -> None:
    key = trial.key()
    error = trial.dialect.refuse(200, "InternalError", done=done)
    trial.line.fail(trial.dialect.is_verb(Verb.COMPLETE), error)
    trial.store.put(key, lambda: blocks(LARGE, MIB), if_absent=True)
    assert trial.line.used == 1
    assert read(trial.truth, key) == LARGE
    assert trial.unfinished() == 0


@pytest.mark.parametrize("verb", [Verb.PUT, Verb.PART, Verb.READ, Verb.LIST])
def test_a_token_that_runs_out_in_the_middle(trial: Trial, verb: Verb) -> None:
    """S3 says that it ran out, and it is waited for another; elsewhere the SDK gets one itself, and if that is refused,
    too, the credentials are named."""
    key = trial.key()
    trial.truth.put(key, lambda: blocks(b"1"))
    trial.line.fail(trial.dialect.is_verb(verb), trial.dialect.refuse(*trial.dialect.expired), times=None)

    def act() -> None:
        if verb is Verb.READ:
            read(trial.store, key)
        elif verb is Verb.LIST:
            list(trial.store.list(key))
        else:
            trial.store.put(f"{key}-new", lambda: blocks(LARGE if verb is Verb.PART else b"1", MIB))

    with pytest.raises(BackupError, match=r"ExpiredToken|InvalidCredentials") as caught:
        act()
    is_last = isinstance(caught.value, Permanent)
    assert is_last == (trial.dialect is not S3)
    assert not any(secret in str(caught.value) for secret in trial.secrets)
    assert trial.unfinished() == 0
    trial.line.heal()
    trial.line.fail(
        trial.dialect.is_verb(verb), trial.dialect.refuse(*trial.dialect.expired), times=0 if is_last else 2
    )
    act()
