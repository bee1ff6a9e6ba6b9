"""What is doubtful is refused, by name, and neither store is changed: one thing spoiled at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent.foreign_backup import COLLECTION, ForeignBackup, chain
from tests.stored.conftest import BIG, contents, copied, directory_store, flip
from tests.stored.own_backup import own_backup

from weaviate_backup.errors import Permanent
from weaviate_backup.stored.copying import carry_out, plan_copies
from weaviate_backup.stored.passage import Passage

MARKER = "backup_config.json"
CHUNK = f"n1/{COLLECTION}/chunk-3"
Spoil = Callable[[ForeignBackup], object]


def make(source: Path, *, own_manifests: bool) -> ForeignBackup:
    if own_manifests:
        return own_backup(source, "nightly", files=BIG)
    return ForeignBackup(source, "nightly", files=BIG).write()


def remove(*names: str) -> Spoil:
    return lambda backup: [backup.remove(name) for name in names]  # type: ignore[func-returns-value]


def put(name: str, content: bytes) -> Spoil:
    return lambda backup: backup.put_bytes(name, content)


def say(**changes: str) -> Spoil:
    """In the marker."""
    return lambda backup: backup.change(MARKER, lambda document: document.update(changes))


def flipped(name: str) -> Spoil:
    return lambda backup: flip(backup.root / backup.backup_id / name)


def unfinished(then: Spoil) -> Spoil:
    def spoil(backup: ForeignBackup) -> None:
        backup.remove(MARKER)
        then(backup)

    return spoil


def gone(backup: ForeignBackup) -> None:
    for key in contents(backup.root / backup.backup_id):
        backup.remove(key)


AT_THE_SOURCE: dict[str, tuple[Spoil, str]] = {
    "no marker": (remove(MARKER), "BackupIncomplete: .*never completed"),
    "not done": (say(status="TRANSFERRING"), "BackupNotSuccessful: .*TRANSFERRING"),
    "no descriptor": (remove("n0/backup.json"), "BackupIncomplete: nightly/n0/backup.json"),
    "no chunk": (remove(CHUNK), f"BackupIncomplete: .*{CHUNK}"),
    "an empty chunk": (put(CHUNK, b""), f"BackupIncomplete: .*{CHUNK}"),
    "another name": (say(id="b7"), "BackupIdMismatch: .*b7"),
    "nothing at all": (gone, "BackupNotFound: .*nightly"),
}
WITH_MANIFESTS: dict[str, tuple[Spoil, str]] = {
    "a short chunk": (put(CHUNK, b"x"), f"BackupIncomplete: .*{CHUNK} has 1 bytes"),
    "no node manifest": (remove("n1/manifest.json.zst"), "BackupDamaged: .*manifest.json.zst"),
    "no manifest": (remove("manifest.json"), "BackupDamaged: .*n0/manifest.json.zst is there"),
    "another node manifest": (put("n1/manifest.json.zst", b"x"), "BackupDamaged: .*manifest.json.zst"),
    "another descriptor": (flipped("n1/backup.json"), "BackupDamaged|HostileBackup"),
}
OTHERWISE_WITH_MANIFESTS = {
    "not done": f"BackupDamaged: .*{MARKER} is not the one that belongs to .*manifest.json",
    "no descriptor": "BackupDamaged: nightly/n0/backup.json",
    "another name": f"BackupDamaged: .*{MARKER} is not the one that belongs to .*manifest.json",
}
"""What manifests tell of damage that a server's backup could have been made with."""
AT_THE_TARGET: dict[str, tuple[Spoil, str]] = {
    "another backup": (say(startedAt="2026-05-07T10:00:00Z"), "BackupExists: .*backup_config.json differs"),
    "an object of another": (unfinished(put("n7/backup.json", b"x")), "BackupExists: .*n7"),
    "an object of another size": (unfinished(put("n1/backup.json", b"x")), "BackupExists: .*n1/backup.json"),
    "an object with other bytes": (unfinished(flipped(CHUNK)), f"BackupExists: .*{CHUNK}"),
    "a copy that lost an object": (remove(CHUNK), f"CopyDamaged: .*{CHUNK}"),
    "a copy with a flipped bit": (flipped(CHUNK), f"CopyDamaged: .*{CHUNK}"),
}


@pytest.mark.parametrize(
    ("case", "own_manifests"),
    [(case, own) for case in AT_THE_SOURCE for own in (True, False)] + [(case, True) for case in WITH_MANIFESTS],
)
def test_what_is_not_whole_is_not_copied(tmp_path: Path, case: str, own_manifests: bool) -> None:
    spoil, said = (AT_THE_SOURCE | WITH_MANIFESTS)[case]
    said = OTHERWISE_WITH_MANIFESTS.get(case, said) if own_manifests else said
    backup = make(tmp_path / "source", own_manifests=own_manifests)
    spoil(backup)
    with pytest.raises(Permanent, match=said) as caught:
        copied(backup.root, tmp_path / "target")
    assert caught.value.__notes__ == ["at the source"]
    assert contents(tmp_path / "target") == {}


@pytest.mark.parametrize("own_manifests", [True, False], ids=["own", "stock"])
@pytest.mark.parametrize("case", AT_THE_TARGET)
def test_nothing_else_at_the_target_is_touched(tmp_path: Path, case: str, own_manifests: bool) -> None:
    source, target = make(tmp_path / "source", own_manifests=own_manifests).root, tmp_path / "target"
    copied(source, target)
    spoil, said = AT_THE_TARGET[case]
    spoil(ForeignBackup(target, "nightly"))
    spoilt = contents(target)
    with pytest.raises(Permanent, match=said):
        copied(source, target)
    assert contents(target) == spoilt


def test_a_source_that_becomes_another_backup_is_not_completed(tmp_path: Path) -> None:
    backup = make(tmp_path / "source", own_manifests=False)
    passage = Passage(directory_store(backup.root), directory_store(tmp_path / "target"))
    plan = plan_copies(passage, "nightly")
    say(startedAt="2026-05-07T10:00:00Z")(backup)
    with pytest.raises(Permanent, match="SourceChanged"):
        carry_out(passage, plan)
    assert f"nightly/{MARKER}" not in contents(tmp_path / "target")


def test_objects_that_vanish_or_grow_meanwhile_are_named(tmp_path: Path) -> None:
    backup = make(tmp_path / "source", own_manifests=False)
    passage = Passage(directory_store(backup.root), directory_store(tmp_path / "target"))
    plan = plan_copies(passage, "nightly")
    backup.remove(CHUNK)
    with pytest.raises(Permanent, match=f"SourceChanged: nightly/{CHUNK} vanished"):
        carry_out(passage, plan)
    backup.put_bytes(CHUNK, b"more")
    again = Passage(passage.source, passage.target)
    with pytest.raises(Permanent, match=f"SourceChanged: nightly/{CHUNK} has 4 bytes now"):
        carry_out(again, plan)
    assert f"nightly/{CHUNK}" not in contents(tmp_path / "target")


def test_an_incremental_backup_is_copied_with_what_it_builds_on_or_not_at_all(tmp_path: Path) -> None:
    source = chain(tmp_path / "source")
    passage = Passage(directory_store(source.root), directory_store(tmp_path / "target"))
    planned = [(each.source.backup_id, each.source.base_id) for each in plan_copies(passage, "b3")]
    assert planned == [("b1", None), ("b2", "b1"), ("b3", "b2")]
    with pytest.raises(Permanent, match="BasesNeeded: backup 'b3' holds only what changed since b2, b1; copy those"):
        plan_copies(passage, "b3", with_bases=False)
    (alone,) = plan_copies(passage, "b1", with_bases=False)
    assert alone.source.backup_id == "b1"
