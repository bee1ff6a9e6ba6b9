"""Whose a place is: what is found there decides, whatever happens between two looks."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from weaviate_backup.errors import BackupError, ObjectExists, Permanent, Transient
from weaviate_backup.layout.claims import Claim, encode_claim
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo
from weaviate_backup.stored.claiming import ROUNDS, ClaimedPlace
from weaviate_backup.stored.storing import Document

ADDRESS = "s3://bucket/prod"
CLAIM, CHUNK, MARKER = "b/operation.json", "b/n/Article/chunk-1", "b/backup_config.json"
OURS = Claim(operation_uid="ours", backup_id="b", cluster="east", namespace="shop", name="nightly")
THEIRS = OURS.model_copy(update={"operation_uid": "theirs", "cluster": "west"})


class Eventful(FilesystemStore):
    """Remembers what it was asked to change; something may happen before each look at what lies there."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        super().__init__(root)
        self.done: list[tuple[str, str]] = []
        self.before_listing: Callable[[], object] = lambda: None
        self.before_put: Callable[[], object] = lambda: None
        self.failures: list[BackupError] = []
        self.deletes_although_it_fails = False

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.before_listing()
        return super().list(prefix)

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        self.before_put()
        assert if_absent, "a claim is written once"
        self.done.append(("put", key))
        return super().put(key, make_blocks, if_absent=if_absent, at_most_bytes=at_most_bytes)

    def delete(self, keys: Iterable[str]) -> None:
        wanted = tuple(keys)
        self.done += [("delete", key) for key in wanted]
        if self.failures:
            if self.deletes_although_it_fails:
                super().delete(wanted)
            raise self.failures.pop()
        super().delete(wanted)

    def holds(self, key: str, content: bytes = b"x") -> None:
        FilesystemStore.put(self, key, lambda: iter((content,)))

    def claimed_by(self, claim: Claim) -> None:
        self.holds(CLAIM, encode_claim(claim))

    def without(self, key: str) -> None:
        FilesystemStore.delete(self, [key])


@pytest.fixture
def store(tmp_path: Path) -> Eventful:
    return Eventful(tmp_path / "store")


@pytest.fixture
def place(store: Eventful) -> ClaimedPlace:
    return ClaimedPlace(store, OURS, ADDRESS)


def test_an_empty_place_is_ours_once_and_again(store: Eventful, place: ClaimedPlace) -> None:
    assert place.owner() is None
    place.take()
    place.take()
    assert place.owner() == OURS
    assert store.done == [("put", CLAIM)]


def test_what_a_claim_says_outlasts_this_version(store: Eventful, place: ClaimedPlace) -> None:
    """Other versions of ours read it, and so do people."""
    place.take()
    with store.open(CLAIM) as stream:
        assert json.loads(stream.read()) == {
            "kind": "claim",
            "format_version": 1,
            "operation_uid": "ours",
            "backup_id": "b",
            "cluster": "east",
            "namespace": "shop",
            "name": "nightly",
        }


def test_what_our_own_claim_covers_is_no_debris(store: Eventful, place: ClaimedPlace) -> None:
    store.claimed_by(OURS)
    store.holds(CHUNK)
    place.take()
    assert store.done == []


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        (
            False,
            "'b' at s3://bucket/prod is taken; choose another backupID, or .* has ended: shop/nightly of cluster west",
        ),
        (True, "backup 'b' exists already at s3://bucket/prod; choose another .* made by shop/nightly of cluster west"),
    ],
)
def test_anothers_place_is_refused_with_the_owner(
    store: Eventful, place: ClaimedPlace, marker: bool, said: str
) -> None:
    store.claimed_by(THEIRS)
    if marker:
        store.holds(MARKER)
    for act in (place.take, place.refuse_strangers):
        with pytest.raises(Permanent, match=f"BackupExists: {said}"):
            act()
    assert store.done == []
    assert place.owner() == THEIRS


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (CHUNK, "has objects under 'b', such as 'b/n/Article/chunk-1', of a backup that was never completed"),
        (MARKER, "backup 'b' exists already at s3://bucket/prod; choose another"),
    ],
)
def test_what_lies_there_unclaimed_is_anothers(store: Eventful, place: ClaimedPlace, key: str, said: str) -> None:
    store.holds(key)
    with pytest.raises(Permanent, match=rf"BackupExists: .*{said}"):
        place.take()
    assert store.done == []


def test_what_its_owner_takes_away_meanwhile_is_in_nobodys_way(store: Eventful, place: ClaimedPlace) -> None:
    """Its claim goes last: we looked just when it was gone, after we had seen one of its objects."""
    store.holds(CHUNK)
    looks = iter((lambda: None, lambda: store.without(CHUNK)))

    def look() -> None:
        next(looks, lambda: None)()

    store.before_listing = look
    place.take()
    assert place.owner() == OURS


def test_who_was_quicker_is_named(store: Eventful, place: ClaimedPlace) -> None:
    store.before_put = lambda: store.claimed_by(THEIRS)
    with pytest.raises(Permanent, match=r"BackupExists: .*cluster west"):
        place.take()
    assert place.owner() == THEIRS


def test_a_claim_that_another_agent_of_ours_put_is_ours(store: Eventful, place: ClaimedPlace) -> None:
    store.before_put = lambda: store.claimed_by(OURS)
    place.take()
    assert place.owner() == OURS


def test_a_claim_that_comes_and_goes_is_not_waited_for_for_ever(store: Eventful, place: ClaimedPlace) -> None:
    def come() -> None:
        store.claimed_by(THEIRS)

    store.before_put = come
    store.before_listing = lambda: store.without(CLAIM)
    with pytest.raises(Transient, match=f"ClaimUnsettled: {CLAIM} at {ADDRESS} comes and goes"):
        place.take()
    assert store.done == [("put", CLAIM)] * ROUNDS


@pytest.mark.parametrize(
    "content",
    [b"{}", b"[]", b"\xff", b"", encode_claim(OURS.model_copy(update={"backup_id": "c"}))],
    ids=["none", "a list", "no text", "empty", "of another identifier"],
)
def test_a_claim_that_says_nothing_of_ours_is_somebodys(store: Eventful, place: ClaimedPlace, content: bytes) -> None:
    store.holds(CLAIM, content)
    for act in (place.take, place.refuse_strangers, place.leave):
        with pytest.raises(Permanent, match=f"BackupExists: {CLAIM} at {ADDRESS} is no claim of this identifier"):
            act()
    assert store.done == []


def test_a_place_that_lost_its_claim_is_nobodys_to_write_to(store: Eventful, place: ClaimedPlace) -> None:
    store.holds(CHUNK)
    for act in (
        place.refuse_strangers,
        lambda: place.delete([CHUNK]),
        lambda: place.replace(CHUNK, lambda: iter((b"y",))),
        lambda: place.put_exactly(CHUNK, Document.of(b"y")),
    ):
        with pytest.raises(Permanent, match=f"ClaimLost: {CLAIM} is gone from {ADDRESS}"):
            act()
    assert ("delete", CHUNK) not in store.done


def test_nothing_to_delete_is_not_even_looked_at(store: Eventful, place: ClaimedPlace) -> None:
    place.delete([])
    assert store.done == []


def test_what_an_earlier_attempt_left_is_replaced(store: Eventful, place: ClaimedPlace) -> None:
    place.take()
    store.holds(CHUNK)
    place.replace(CHUNK, lambda: iter((b"new",)))
    assert store.done[1:] == [("delete", CHUNK), ("put", CHUNK)]
    with store.open(CHUNK) as stream:
        assert stream.read() == b"new"


def test_somebody_who_is_quicker_than_a_replacement_is_not_written_over(store: Eventful, place: ClaimedPlace) -> None:
    place.take()
    store.before_put = lambda: store.holds(CHUNK)
    with pytest.raises(ObjectExists):
        place.replace(CHUNK, lambda: iter((b"new",)))


# Leaving it


def test_a_place_that_is_empty_is_left(store: Eventful, place: ClaimedPlace) -> None:
    place.take()
    place.leave()
    place.leave()
    assert store.done == [("put", CLAIM), ("delete", CLAIM)]
    assert list(store.list("b/")) == []


@pytest.mark.parametrize("whose", [OURS, THEIRS])
def test_debris_keeps_the_name_of_its_owner(store: Eventful, place: ClaimedPlace, whose: Claim) -> None:
    store.claimed_by(whose)
    if whose is OURS:
        store.holds(CHUNK)
    place.leave()
    assert store.done == []
    assert place.owner() == whose


def test_a_claim_is_taken_away_again_when_the_answer_fails(store: Eventful, place: ClaimedPlace) -> None:
    place.take()
    store.failures = [Transient("StoreUnavailable", "not now")] * (ROUNDS - 1)
    place.leave()
    assert store.done == [("put", CLAIM)] + [("delete", CLAIM)] * ROUNDS
    assert place.owner() is None


def test_a_store_that_never_answers_keeps_the_claim(store: Eventful, place: ClaimedPlace) -> None:
    place.take()
    store.failures = [Transient("StoreUnavailable", "not now")] * ROUNDS
    with pytest.raises(Transient, match="StoreUnavailable: not now"):
        place.leave()
    assert place.owner() == OURS


def test_what_was_deleted_without_an_answer_may_be_anothers_by_now(store: Eventful, place: ClaimedPlace) -> None:
    place.take()
    store.failures, store.deletes_although_it_fails = [Transient("StoreUnavailable", "not now")], True
    looks = iter((lambda: None, lambda: store.claimed_by(THEIRS)))
    original = store.open

    def looked_at(key: str, **more: int) -> object:
        if key == CLAIM:
            next(looks, lambda: None)()
        return original(key, **more)

    store.open = looked_at  # type: ignore[method-assign, assignment]
    place.leave()
    assert place.owner() == THEIRS
    assert store.done == [("put", CLAIM), ("delete", CLAIM)]
