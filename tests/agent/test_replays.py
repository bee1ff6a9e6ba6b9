"""Late writes of a restore: whoever may end it replays them, and what was begun is never passed over."""

from pathlib import Path

import pytest
from tests.agent.foreign_backup import COLLECTION
from tests.agent.taken_restore import Taken

from weaviate_backup.agent import release as releasing
from weaviate_backup.agent.workspace import LATE
from weaviate_backup.core.session import Confirmed
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate.late_writes import Begun


@pytest.fixture
def taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Both of its tenants were written to while they were cut."""
    taken = Taken(tmp_path, late=("s0", "s1"))
    taken.seen_by(monkeypatch)
    return taken


def late_of(taken: Taken, shard: str) -> Path:
    return Path(str(taken.workspace.directory)) / LATE / COLLECTION / shard


def left(confirmed: Confirmed) -> tuple[int, tuple[str, ...]]:
    return confirmed.late_writes_left, confirmed.late_writes_left_names


def half_replayed(taken: Taken, shard: str, *, then: str) -> None:
    """The replay died behind its deletions."""
    taken.failures = {shard: Transient("ReplayFailed", "POST: 422: tenant not active")}
    with pytest.raises(Transient, match="ReplayFailed"):
        taken.confirm()
    taken.failures = {}
    taken.replayed.clear()
    taken.begun.clear()
    taken.physical[shard]["status"] = then


# While it is confirmed


def test_they_are_replayed_once(taken: Taken) -> None:
    for _ in range(2):
        assert left(taken.confirm()) == (0, ())
        taken.reopen()
    taken.release()
    assert taken.replayed == ["s0", "s1"]


def test_what_one_shard_refuses_keeps_no_other_from_its_own(taken: Taken) -> None:
    half_replayed(taken, "s0", then="HOT")
    assert [record["shard"] for record in taken.workspace.journal.of("replayed")] == ["s1"]
    taken.reopen()
    taken.confirm()
    assert (taken.replayed, taken.begun) == (["s0"], [Begun(8, 2)]), "it goes on where it stopped"


def test_a_server_that_does_not_answer_is_not_asked_for_each_shard(taken: Taken) -> None:
    taken.failures = {"s0": Transient("ServerUnavailable", "no")}
    with pytest.raises(Transient, match="ServerUnavailable"):
        taken.confirm()
    assert taken.replayed == ["s0"]


@pytest.mark.parametrize("status", ["COLD", "FREEZING"])
def test_what_was_begun_is_waited_for_while_its_tenant_sleeps(taken: Taken, status: str) -> None:
    half_replayed(taken, "s1", then=status)
    for _ in range(2):
        with pytest.raises(Transient, match=f"ReplayPending: late writes of {COLLECTION}/s1 .* activate the tenant"):
            taken.confirm()
        taken.reopen()
    taken.physical["s1"]["status"] = "HOT"
    assert left(taken.confirm()) == (0, ())
    assert taken.replayed == ["s1"]


@pytest.mark.parametrize("then", ["deleted", "offloaded"])
def test_what_was_begun_ends_with_its_tenant(taken: Taken, then: str) -> None:
    half_replayed(taken, "s1", then="FROZEN")
    if then == "deleted":
        del taken.physical["s1"]
        taken.lose("s1")
    assert left(taken.confirm()) == ((0, ()) if then == "deleted" else (1, (f"{COLLECTION}/s1",)))
    assert taken.replayed == []


def test_what_was_never_begun_is_told_of_when_its_tenant_sleeps(taken: Taken) -> None:
    taken.physical["s1"]["status"] = "COLD"
    assert left(taken.confirm()) == (1, (f"{COLLECTION}/s1",))
    assert taken.replayed == ["s0"]


def test_so_many_are_named(taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weaviate_backup.agent.confirm.LEFT_NAMES", 1)
    for shard in taken.physical.values():
        shard["status"] = "COLD"
    assert left(taken.confirm()) == (2, (f"{COLLECTION}/s0",))


def test_what_was_begun_and_is_gone_proves_nothing(taken: Taken) -> None:
    half_replayed(taken, "s1", then="HOT")
    late_of(taken, "s1").unlink()
    with pytest.raises(Permanent, match=f"LateWritesLost: the late writes of {COLLECTION}/s1 are gone"):
        taken.confirm()


def test_what_cannot_be_read_is_never_begun(taken: Taken) -> None:
    late_of(taken, "s1").write_bytes(b"no late writes")
    with pytest.raises(Permanent, match="DamagedLateWrites"):
        taken.confirm()
    assert taken.replayed == ["s0"]
    taken.release()
    assert not Path(str(taken.workspace.directory)).exists(), "it would lie there for ever"


def test_what_was_begun_comes_first(taken: Taken) -> None:
    taken.physical["s0"]["status"] = "COLD"
    half_replayed(taken, "s1", then="HOT")
    taken.physical["s0"]["status"] = "HOT"
    taken.confirm()
    assert taken.replayed == ["s1", "s0"]


# When it ends before


def test_a_restore_that_ends_before_replays_what_is_pending(taken: Taken) -> None:
    taken.release()
    assert taken.replayed == ["s0", "s1"]
    assert not Path(str(taken.workspace.directory)).exists()


def test_what_sleeps_and_was_never_begun_keeps_nobody_from_letting_go(
    taken: Taken, caplog: pytest.LogCaptureFixture
) -> None:
    taken.physical["s0"]["status"] = "COLD"
    taken.release()
    assert taken.replayed == ["s1"]
    assert f"{COLLECTION}/s0 is not active: its late writes are not replayed" in caplog.text
    assert not Path(str(taken.workspace.directory)).exists()


def test_what_was_begun_stays_with_its_journal_while_its_tenant_sleeps(taken: Taken) -> None:
    half_replayed(taken, "s1", then="COLD")
    with pytest.raises(Transient, match="ReplayPending"):
        taken.release()
    assert late_of(taken, "s1").exists()
    taken.release(keep_placed=True)  # as it does for what was placed
    assert late_of(taken, "s1").exists()
    taken.physical["s1"]["status"] = "HOT"
    taken.release()
    assert taken.replayed == ["s1"]


@pytest.mark.parametrize("gone", ["the collection", "the tenant", "its directory"])
def test_what_is_gone_is_not_written_to(taken: Taken, gone: str) -> None:
    if gone == "the collection":
        taken.state.clear()
    elif gone == "the tenant":
        del taken.physical["s1"]
    else:
        taken.lose("s1")
        (taken.data / "article" / "s1").mkdir()
    taken.release()
    assert taken.replayed == ([] if gone == "the collection" else ["s0"])


def test_a_release_replays_for_so_long_and_goes_on_when_it_is_told_again(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(releasing, "REPLAY_SECONDS", -1.0)
        with pytest.raises(Transient, match="ReplayPending: late writes of 2 shards are still to be replayed"):
            taken.release()
    assert taken.replayed == []
    taken.release()
    assert taken.replayed == ["s0", "s1"]
