"""A location works on every store that speaks most of S3: what is lacking is found out by its probe, once, and bytes
are as they were sent."""

import hashlib
import itertools
import logging
import re
import time
from collections.abc import Iterator

import pytest
from tests.s3_server import S3Server
from tests.storage.contract import MIB, blocks, read
from tests.storage.dialects import S3, Verb
from tests.storage.faults import Answer, Headers
from tests.storage.faulty_line import Line, faulty_line
from tests.storage.faulty_stores import PATIENT, unfinished_uploads
from tests.storage.modes import FORBIDDEN, MODES, carries_checksums, deletes_many, lists_uploads_by_key, said
from tests.storage.test_s3 import client_of

from weaviate_backup.agent.trials import Trial
from weaviate_backup.api.location import LocationSpec, S3Location
from weaviate_backup.core.session import ProbeAction
from weaviate_backup.errors import ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.parts import PartRules
from weaviate_backup.storage.retry import Retrying
from weaviate_backup.storage.s3 import S3Store

numbers = itertools.count()
LARGE = b"".join(hashlib.sha256(b"%d" % number).digest() * (MIB // 32) for number in range(19))
SMALL_PARTS = PartRules(
    first_bytes=5 * MIB, in_flight_bytes=20 * MIB, parts_per_size=2, most_parts=8, largest_bytes=64 * MIB
)
"""Of several sizes after 10 MiB, and used up after 120."""


@pytest.fixture
def line(s3_server: S3Server) -> Iterator[Line]:
    with faulty_line(s3_server.endpoint) as line:
        yield line


@pytest.fixture
def location(s3_server: S3Server, line: Line) -> S3Location:
    bucket = f"modes-{next(numbers)}"
    s3_server.make_bucket(bucket)
    return s3_server.location(bucket).model_copy(update={"endpoint": line.address})


def opened(location: S3Location, server: S3Server) -> Retrying:
    return open_store(LocationSpec(s3=location), credentials=server.credentials, patience=PATIENT)


def opened_with(rules: PartRules, location: S3Location, server: S3Server) -> Retrying:
    bare = S3Store(location, credentials=server.credentials, patience=PATIENT, rules=rules)
    return Retrying(bare, patience=PATIENT)


def probe(store: ObjectStore, location: S3Location) -> None:
    """As a location's worker does, on one store."""
    word = str(next(numbers))
    trial = Trial(store, LocationSpec(s3=location), prefix="p/", word=word, mark=word.encode(), patient=store)
    for action, attempt in trial.actions.items():
        try:
            attempt()
        except (Permanent, Transient) as error:
            raise AssertionError(f"{action.value}: {error}") from error
    assert set(trial.actions) == set(ProbeAction) - {ProbeAction.LOCK, ProbeAction.SHARE}


def work(store: ObjectStore) -> None:
    """A backup's life: written once, read back, deleted."""
    for key, content in (("small", b"a document"), ("large", LARGE)):
        store.put(key, lambda content=content: blocks(content, MIB), if_absent=True)  # type: ignore[misc]
        assert read(store, key) == content
        assert store.stat(key).size_bytes == len(content)
        with pytest.raises(ObjectExists):
            store.put(key, lambda: blocks(LARGE, MIB), if_absent=True)
        assert read(store, key) == content
    store.delete(["small", "large", "never there"])
    with pytest.raises(ObjectNotFound):
        store.stat("large")


@pytest.mark.parametrize("mode", MODES)
def test_a_location_works_in_every_mode(
    s3_server: S3Server, line: Line, location: S3Location, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(location, s3_server)
    MODES[mode](line)
    probe(store, location)
    refused, is_refusal = line.used, isinstance(line.rules[0].fault, Answer)
    notes = [each for each in caplog.records if each.levelno == logging.WARNING]
    work(store)
    assert unfinished_uploads(s3_server.endpoint, s3_server.credentials, location.bucket) == 0
    if is_refusal and mode != "parts of one size":
        assert line.used == refused, "what the probe found out is asked for again"
        assert [each for each in caplog.records if each.levelno == logging.WARNING] == notes
    assert len(notes) <= 3


def test_what_one_store_lacks_is_not_held_against_another(
    s3_server: S3Server, line: Line, location: S3Location
) -> None:
    first = opened(location, s3_server)
    MODES["checksums, 501"](line)
    MODES["deletion of many, 501"](line)
    work(first)
    line.heal()
    work(first)
    assert not any(carries_checksums(each) or deletes_many(each) for each in line.requests)
    line.heal()
    work(opened(location, s3_server))
    written = [each for each in line.requests if S3.verb(each) in (Verb.PUT, Verb.PART, Verb.START)]
    assert all(map(carries_checksums, written))
    assert any(map(deletes_many, line.requests))


def test_without_checksums_what_arrives_is_still_compared(
    s3_server: S3Server, line: Line, location: S3Location
) -> None:
    MODES["checksums, 501"](line)
    work(opened(location, s3_server))
    kept = [each for each in line.requests if S3.verb(each) in (Verb.PUT, Verb.PART) and not carries_checksums(each)]
    assert len(kept) >= 4
    assert all("content-md5" in each.headers for each in kept)


def test_a_refusal_for_another_reason_stays_what_it_is(s3_server: S3Server, line: Line, location: S3Location) -> None:
    store = opened(location, s3_server)
    line.fail(S3.is_verb(Verb.PUT), said(400, "InvalidStorageClass", "no such class"), times=None)
    with pytest.raises(Permanent, match="InvalidStorageClass"):
        store.put("k", lambda: blocks(b"1"))
    line.heal()
    store.put("k", lambda: blocks(b"1"))
    assert carries_checksums(line.requests[-1])
    line.heal()
    line.fail(deletes_many, S3.refuse(403, "AccessDenied"), times=None)
    with pytest.raises(Permanent, match="AccessDenied"):
        store.delete(["k"])
    assert len(line.requests) == 1


def test_the_true_obstacle_is_named(s3_server: S3Server, line: Line, location: S3Location) -> None:
    MODES["deletion of many, 501"](line)
    line.fail(lambda request: request.method == "DELETE", S3.refuse(403, "AccessDenied"), times=None)
    with pytest.raises(Permanent, match="AccessDenied"):
        opened(location, s3_server).delete(["a", "b"])


def test_a_part_that_the_store_has_otherwise_is_sent_again(
    s3_server: S3Server, line: Line, location: S3Location
) -> None:
    line.fail(S3.is_verb(Verb.PART), Headers({"x-amz-checksum-crc32": "AAAAAA=="}), times=2)
    store = opened(location, s3_server)
    store.put("large", lambda: blocks(LARGE, MIB))
    assert read(store, "large") == LARGE
    assert sum(map(S3.is_verb(Verb.PART), line.requests)) == 3 + 2
    line.fail(S3.is_verb(Verb.PART), Headers({"x-amz-checksum-crc32": "AAAAAA=="}), times=None)
    with pytest.raises(Transient, match="ContentDiffers"):
        S3Store(location, credentials=s3_server.credentials, patience=PATIENT).put("x", lambda: blocks(LARGE, MIB))


def test_checksums_that_are_refused_at_the_end_are_left_out(
    s3_server: S3Server, line: Line, location: S3Location
) -> None:
    """The real store then misses them, as it had kept them, so the refusal stays; another would take it."""
    wrong = "Checksum Type mismatch occurred, expected checksum Type: null, actual checksum Type: crc32"
    line.fail(S3.is_verb(Verb.COMPLETE), said(400, "InvalidRequest", wrong))
    with pytest.raises(Permanent, match="Checksum Type mismatch"):
        opened(location, s3_server).put("k", lambda: blocks(LARGE, MIB), if_absent=True)
    ends = [int(each.headers["content-length"]) for each in line.requests if S3.is_verb(Verb.COMPLETE)(each)]
    assert len(ends) == 2
    assert ends[0] - ends[1] == 3 * len("<ChecksumCRC32>AAAAAA==</ChecksumCRC32>")


def test_no_body_is_sent_in_chunks_of_a_protocol_that_few_know(
    s3_server: S3Server, line: Line, location: S3Location
) -> None:
    store = opened(location, s3_server)
    work(store)
    for each in line.requests:
        assert "x-amz-trailer" not in each.headers
        assert "aws-chunked" not in each.headers.get("content-encoding", "")
        assert each.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert "x-amz-checksum-mode" not in each.headers


def test_an_end_that_was_done_and_is_not_known_again(s3_server: S3Server, line: Line, location: S3Location) -> None:
    """As Ceph answers: 500 to an end that it did, and 500 to whatever comes after it."""
    line.fail(S3.is_verb(Verb.COMPLETE), S3.refuse(500, "InternalError", done=True))
    line.fail(S3.is_verb(Verb.ABORT), S3.refuse(500, "NoSuchUpload"), times=None)
    store = opened(location, s3_server)
    store.put("large", lambda: blocks(LARGE, MIB), if_absent=True)
    assert read(store, "large") == LARGE
    assert sum(map(S3.is_verb(Verb.START), line.requests)) == 1


# Parts


@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
def test_parts_are_of_one_size_where_a_store_wants_it(
    s3_server: S3Server, line: Line, location: S3Location, known: bool
) -> None:
    """A known size costs nothing; else one object is sent twice, and no other."""
    MODES["parts of one size"](line)
    content = bytes(range(256)) * (4096 * 27)
    store = opened_with(SMALL_PARTS, location, s3_server)
    for key in ("first", "second"):
        bound = len(content) + 1000 if known else None
        store.put(key, lambda: blocks(content, MIB), if_absent=True, at_most_bytes=bound)
        assert read(store, key) == content
    assert sum(map(S3.is_verb(Verb.START), line.requests)) == (2 if known else 3)
    assert line.used == (0 if known else 1)
    assert unfinished_uploads(s3_server.endpoint, s3_server.credentials, location.bucket) == 0


def test_where_parts_of_any_size_are_taken_they_grow(s3_server: S3Server, line: Line, location: S3Location) -> None:
    store = opened_with(SMALL_PARTS, location, s3_server)
    store.put("k", lambda: blocks(bytes(64 * MIB), MIB))
    assert sent_mib(line) == [5, 5, 10, 10, 20, 14]


@pytest.mark.parametrize("told", [None, 30 * MIB], ids=["unknown", "told too small"])
def test_an_object_that_is_larger_than_its_parts_reach_begins_again(
    s3_server: S3Server, line: Line, location: S3Location, told: int | None
) -> None:
    block = hashlib.sha256(b"x").digest() * (MIB // 32)
    store = opened_with(SMALL_PARTS, location, s3_server)
    store.put("k", lambda: iter([block] * 150), if_absent=True, at_most_bytes=told)
    assert store.stat("k").size_bytes == 150 * MIB
    with store.open("k") as stream:
        while piece := stream.read(MIB):
            assert piece == block
    assert sum(map(S3.is_verb(Verb.START), line.requests)) == 2
    assert unfinished_uploads(s3_server.endpoint, s3_server.credentials, location.bucket) == 0


def sent_mib(line: Line) -> list[int]:
    """Of the parts, by number."""
    found = {
        int(re.findall(r"partNumber=(\d+)", each.path)[0]): int(each.headers["content-length"]) // MIB
        for each in line.requests
        if S3.is_verb(Verb.PART)(each)
    }
    return [found[number] for number in sorted(found)]


# Unfinished uploads


@pytest.mark.parametrize("whole_bucket", [True, False], ids=["lists a bucket", "lists a key alone"])
def test_uploads_of_dead_processes_are_found_where_prefixes_are_not_listed(
    s3_server: S3Server, line: Line, location: S3Location, whole_bucket: bool
) -> None:
    client, bucket = client_of(s3_server), location.bucket
    for key in ("b/n1/c", "b/n1/c", "b/n1/d", "b/n10/c"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    if whole_bucket:
        by_prefix = lambda request: request.method == "GET" and "uploads" in request.path and "prefix=" in request.path  # noqa: E731
        line.fail(by_prefix, Answer(200, b"<ListMultipartUploadsResult></ListMultipartUploadsResult>"), times=None)
    else:
        lists_uploads_by_key(line)
    store = opened(location, s3_server)
    assert store.abort_unfinished("b/n1/") == (3 if whole_bucket else 0)
    for key in ("b/n1/c", "b/n1/c2", "b/n10/c"):
        store.put(key, lambda: blocks(LARGE, MIB))
    left = sorted(each["Key"] for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))
    assert left == (["b/n10/c"] if whole_bucket else ["b/n1/d", "b/n10/c"])


def test_a_store_that_lists_prefixes_is_not_asked_for_each_key(
    s3_server: S3Server, line: Line, location: S3Location
) -> None:
    store = opened(location, s3_server)
    assert store.abort_unfinished("b/") == 0
    for number in range(4):
        store.put(f"b/{number}", lambda: blocks(LARGE, MIB))
    assert sum("uploads" in each.path and each.method == "GET" for each in line.requests) == 3


# Addresses and regions


def test_the_refusal_of_paths_is_told_when_nobody_answers_by_host(
    s3_server: S3Server, line: Line, location: S3Location
) -> None:
    line.fail(lambda _: True, FORBIDDEN, times=None)
    nowhere = location.model_copy(
        update={"endpoint": f"localhost:{line.address.rpartition(':')[2]}", "force_path_style": False}
    )
    with pytest.raises(Permanent, match=r"EndpointWrong: .*SecondLevelDomainForbidden"):
        opened(nowhere, s3_server).check()


@pytest.mark.parametrize("region", [None, "eu-frankfurt-1"])
def test_a_signature_that_is_wrong_for_its_region_is_told_so(
    s3_server: S3Server, line: Line, location: S3Location, region: str | None
) -> None:
    words = "The region must be specified if this is not the home region for the tenancy."
    line.fail(lambda _: True, said(403, "SignatureDoesNotMatch", words), times=None)
    with pytest.raises(Permanent, match="RegionWrong") as caught:
        opened(location.model_copy(update={"region": region}), s3_server).check()
    assert words.rstrip(".") in caught.value.message
    assert f"spec.s3.region {region or 'us-east-1'!r}" in caught.value.message
    assert ("(none is set)" in caught.value.message) == (region is None)


def test_what_a_store_says_of_wrong_credentials_is_kept(s3_server: S3Server, line: Line, location: S3Location) -> None:
    line.fail(lambda _: True, said(403, "SignatureDoesNotMatch", "The key or the method is wrong."), times=None)
    with pytest.raises(Permanent, match=r"InvalidCredentials: .*The key or the method is wrong; .*spec\.s3\.region"):
        opened(location, s3_server).check()


def test_a_refusal_of_many_words_is_read_as_far_as_anybody_would(
    s3_server: S3Server, line: Line, location: S3Location
) -> None:
    """What the words of a refusal are searched for takes no time that they could stretch."""
    line.fail(S3.is_verb(Verb.COMPLETE), said(500, "InternalError", "part same " * 300_000), times=None)
    store = S3Store(location, credentials=s3_server.credentials, patience=PATIENT, rules=SMALL_PARTS)
    started = time.monotonic()
    with pytest.raises(Transient, match="StoreUnavailable"):
        store.put("k", lambda: blocks(bytes(24 * MIB), MIB))
    assert time.monotonic() - started < 30
