"""What was judged is what is used: a backup that changes before, between or after the steps of a restore is refused.

The agent's own steps on backups of ours and of servers in a directory; only the calls to a Weaviate are left out.
"""

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent.foreign_backup import ForeignBackup, Json, chain
from tests.agent.small_restore import (
    CHUNK,
    REASONS,
    Restore,
    Spoil,
    flipped,
    gone,
    made_anew,
    ours,
    refused,
    stock,
    swapped,
)

from weaviate_backup.core.orders import BackupPin
from weaviate_backup.errors import Permanent

DOCUMENTS = ("backup_config.json", "manifest.json", "n0/manifest.json.zst", "n0/backup.json")
SPOILT: dict[str, Spoil] = {
    **{f"{key} flipped": flipped(key) for key in DOCUMENTS},
    **{f"{key} gone": gone(key) for key in DOCUMENTS},
    **{f"{key} swapped": swapped(key) for key in DOCUMENTS},
    "manifests gone": gone("manifest.json", "n0/manifest.json.zst", "n1/manifest.json.zst"),
    "made anew": made_anew,
}
CHUNKS: dict[str, Spoil] = {
    "chunk flipped": flipped(CHUNK),
    "chunk gone": gone(CHUNK),
    "chunk swapped": swapped(CHUNK),
}


def pinned(backup: ForeignBackup, directory: Path) -> BackupPin:
    (directory / "before").mkdir()
    return BackupPin(
        said_by="spec.source.backupSHA256", sha256=Restore(directory / "before", backup).judge().backup_sha256
    )


@pytest.mark.parametrize("case", SPOILT)
def test_a_pinned_backup_that_was_changed_is_refused_before_anything(tmp_path: Path, case: str) -> None:
    backup = ours(tmp_path)
    pin = pinned(backup, tmp_path)
    restore = Restore(tmp_path, backup)
    assert restore.judge(pin).refusals == ()
    SPOILT[case](backup)
    try:
        verdict = restore.judge(pin)
    except Permanent as error:
        assert error.reason in REASONS
    else:
        assert {refusal.reason for refusal in verdict.refusals} & REASONS
    assert not restore.brought


@pytest.mark.parametrize("case", SPOILT | CHUNKS)
def test_a_change_between_plan_and_download_is_refused(tmp_path: Path, case: str) -> None:
    backup = ours(tmp_path)
    restore = Restore(tmp_path, backup)
    assert restore.judge().refusals == ()
    (SPOILT | CHUNKS)[case](backup)
    reason = refused(restore.download)
    if case in SPOILT:
        assert not restore.brought
    if case == "made anew":
        assert reason == "BackupChanged"
    assert restore.workspace.journal.last("downloaded") is None


@pytest.mark.parametrize("case", SPOILT)
def test_a_change_between_download_and_apply_is_refused(tmp_path: Path, case: str) -> None:
    backup = ours(tmp_path)
    restore = Restore(tmp_path, backup)
    restore.judge()
    restore.download()
    assert restore.brought
    restore.read_to_apply()
    SPOILT[case](backup)
    reason = refused(restore.read_to_apply)
    if case == "made anew":
        assert reason == "BackupChanged"


STOCK_DOCUMENTS = ("backup_config.json", "n0/backup.json", "n1/backup.json")
STOCK_SPOILT: dict[str, Spoil] = {
    **{f"{key} gone": gone(key) for key in STOCK_DOCUMENTS},
    **{f"{key} swapped": swapped(key) for key in STOCK_DOCUMENTS},
    "a setting added": lambda backup: backup.change("n1/backup.json", lambda it: it.update(userBackups="e30=")),
    "another leader": lambda backup: backup.change("backup_config.json", lambda it: it.update(leader="n1")),
}


@pytest.mark.parametrize("case", STOCK_SPOILT)
@pytest.mark.parametrize("after", ["plan", "download"])
def test_a_servers_backup_is_held_to_what_was_judged_of_it(tmp_path: Path, case: str, after: str) -> None:
    backup = stock(tmp_path)
    restore = Restore(tmp_path, backup)
    verdict = restore.judge()
    assert verdict.refusals == ()
    assert [warning.reason for warning in verdict.warnings] == ["NotVerifiable"]
    if after == "download":
        restore.download()
        restore.read_to_apply()
    STOCK_SPOILT[case](backup)
    refused(restore.read_to_apply if after == "download" else restore.download)
    assert bool(restore.brought) == (after == "download")


def test_a_chain_of_a_server_is_held_to_its_bases_too(tmp_path: Path) -> None:
    backup = chain(tmp_path / "store")
    restore = Restore(tmp_path, backup)
    assert restore.judge().refusals == ()
    assert backup.base is not None
    backup.base.change("n0/backup.json", lambda it: it.update(serverVersion="1.39.0"))
    assert refused(restore.download) == "BackupChanged"


def test_the_digest_of_ours_is_that_of_its_manifest_and_goes_with_a_copy(tmp_path: Path) -> None:
    backup = ours(tmp_path)
    content = (backup.root / "nightly" / "manifest.json").read_bytes()
    restore = Restore(tmp_path, backup)
    assert restore.judge().backup_sha256 == hashlib.sha256(content).hexdigest()


def test_no_byte_of_the_marker_may_change(tmp_path: Path) -> None:
    """Its manifest vouches for the whole, not only for what a restore takes from it."""
    backup = ours(tmp_path)
    backup.change("backup_config.json", lambda it: it.update(startedAt="2026-05-01T10:00:01Z"))
    with pytest.raises(Permanent, match=r"BackupDamaged: .*backup_config\.json is not the one"):
        Restore(tmp_path, backup).judge()


def test_older_manifests_vouch_for_the_marker_by_what_they_say(tmp_path: Path) -> None:
    """Their writer did not hash the marker, but all that a restore takes from it stands in the manifest, too."""
    backup = ours(tmp_path)
    backup.change("manifest.json", lambda it: it.pop("marker"))
    restore = Restore(tmp_path, backup)
    assert restore.judge().refusals == ()
    backup.change("backup_config.json", lambda it: it.update(leader="n1"))
    with pytest.raises(Permanent, match=r"BackupDamaged: .*backup_config\.json is not the one"):
        restore.judge()


@pytest.mark.parametrize("left", ["n0/manifest.json.zst", "n1/manifest.json.zst"])
def test_a_backup_that_lost_its_manifest_is_no_servers_backup(tmp_path: Path, left: str) -> None:
    backup = ours(tmp_path)
    gone(*{"manifest.json", "n0/manifest.json.zst", "n1/manifest.json.zst"} - {left})(backup)
    with pytest.raises(Permanent, match=rf"BackupDamaged: .*manifest\.json is gone, but nightly/{left} is there"):
        Restore(tmp_path, backup).judge()


def test_without_a_digest_nothing_is_used(tmp_path: Path) -> None:
    restore = Restore(tmp_path, ours(tmp_path))
    for work in (restore.download, restore.read_to_apply):
        with pytest.raises(Permanent, match=r"InvalidRequest: .* needs backup_sha256"):
            work()


ODD = ("../../../../../root/.ssh", "..", "a/b", "a\\b", "", "x" * 256, "a\0b")


def tenant(name: str) -> Spoil:
    return changed_state(lambda state: state["physical"].update({name: {"belongsToNodes": ["n0"], "status": "HOT"}}))


def changed_state(change: Callable[[Json], object]) -> Spoil:
    def in_document(document: Json) -> None:
        for collection in document["classes"]:
            state = json.loads(base64.b64decode(collection["shardingState"]))
            change(state)
            collection["shardingState"] = base64.b64encode(json.dumps(state).encode()).decode()

    return lambda backup: backup.change("n0/backup.json", in_document)


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("where", ["shard", "node", "inner name", "virtual shard"])
def test_a_name_in_a_sharding_state_that_is_none_is_hostile(tmp_path: Path, name: str, where: str) -> None:
    """It would become a directory of the server that takes the command."""
    backup = stock(tmp_path)
    spoil: dict[str, Spoil] = {
        "shard": tenant(name),
        "node": changed_state(lambda state: state["physical"]["s0"].update(belongsToNodes=["n0", name or "/"])),
        "inner name": changed_state(lambda state: state["physical"]["s0"].update(name=name)),
        "virtual shard": changed_state(
            lambda state: state.update(virtual=[{"name": "v", "assignedToPhysical": name or "/"}])
        ),
    }
    spoil[where](backup)
    restore = Restore(tmp_path, backup)
    assert "HostileBackup" in {refusal.reason for refusal in restore.judge().refusals}
    with pytest.raises(Permanent, match="HostileBackup: the sharding state of Article"):
        restore.read_to_apply()


def test_a_file_is_no_more_to_others_than_readable(tmp_path: Path) -> None:
    """Modes stand in the chunk alone, where no hash of a file reaches."""
    backup = ours(tmp_path)
    for path in sorted((backup.root / "nightly" / "n0").glob("Article/chunk-*")):
        with gzip.open(path) as stream:
            content = stream.read()
        path.write_bytes(gzip.compress(wide_open(content)))
    restore = Restore(tmp_path, backup)
    restore.judge()
    restore.download()
    assert set(restore.brought.values()) == {0o644}


def wide_open(tar: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tar)) as source, tarfile.open(fileobj=made, mode="w") as target:
        for member in source:
            member.mode = 0o6777
            target.addfile(member, source.extractfile(member))
    return made.getvalue()
