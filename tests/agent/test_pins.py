"""What was judged is what is used: a backup that changes before, between or after the steps of a restore is refused.

The agent's own steps on backups of ours and of servers in a directory; only the calls to a Weaviate are left out.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent.foreign_backup import COLLECTION, ForeignBackup, Json, chain
from tests.stored.own_backup import own_backup

from weaviate_backup.agent.apply import _read
from weaviate_backup.agent.download import _download
from weaviate_backup.agent.inspect_backup import _inspect
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.workspace import RESTORE, Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.orders import UNPINNED, BackupPin
from weaviate_backup.core.restore_plan import RestoreVerdict, RestoreWishes, TargetFacts, plan_restore
from weaviate_backup.core.session import RestoreOrder, SessionOrder, Step, StepCommand, WeaviateEndpoint
from weaviate_backup.errors import Permanent
from weaviate_backup.settings import AgentSettings
from weaviate_backup.stored.meter import Meter

UID = "0b5f2c1e"
FILES = {"lsm/objects/segment-1.db": b"objects" * 300}
CHUNK = f"n0/{COLLECTION}/chunk-2"
TARGET = TargetFacts(nodes={"n0": True, "n1": True}, version="1.39.1", collections=())
Spoil = Callable[[ForeignBackup], object]


class Restore:
    """One node's part of a restore, as its agent does it."""

    def __init__(self, directory: Path, backup: ForeignBackup, *, users: bool = True) -> None:
        data = directory / "data"
        data.mkdir()
        location = LocationSpec.model_validate({"filesystem": {"volume": {"hostPath": {"path": "/"}}}})
        order = SessionOrder(
            operation_uid=UID,
            node="n0",
            backup_id=backup.backup_id,
            location=location,
            server_version="1.39.1",
            weaviate=WeaviateEndpoint(host="127.0.0.1", data_path=str(data)),
            work=RestoreOrder(source_node="n0", users=users, roles=users),
        )
        settings = AgentSettings(
            operation_uid=UID,
            node="n0",
            data_path=data,
            credentials_directory=directory / "none",
            ca_directory=directory / "none",
            filesystem_root=backup.root,
        )
        journal = Journal(data / ".weaviate-backup" / UID / "journal")
        self.workspace = Workspace(settings, order, journal)
        self.backup_sha256 = ""

    def judge(self, pin: BackupPin = UNPINNED) -> RestoreVerdict:
        inspected = _inspect(self.workspace, Meter())
        verdict = plan_restore(RestoreWishes(), dict.fromkeys(("n0", "n1"), inspected), TARGET, pin=pin)
        self.backup_sha256 = verdict.backup_sha256
        return verdict

    def download(self) -> None:
        _download(self.workspace, self._command(Step.DOWNLOAD), Meter())

    def read_to_apply(self) -> None:
        _read(self.workspace, self._command(Step.APPLY))

    def _command(self, step: Step) -> StepCommand:
        return StepCommand(operation_uid=UID, step=step, collections=(COLLECTION,), backup_sha256=self.backup_sha256)

    @property
    def brought(self) -> list[Path]:
        root = self.workspace.directory / RESTORE
        return [path for path in root.rglob("*") if path.is_file()]


def ours(directory: Path, backup_id: str = "nightly") -> ForeignBackup:
    return own_backup(directory / "store", backup_id, files=FILES)


def stock(directory: Path, backup_id: str = "nightly", files: dict[str, bytes] = FILES) -> ForeignBackup:
    return ForeignBackup(directory / "store", backup_id, files=files).write()


def flipped(key: str) -> Spoil:
    def spoil(backup: ForeignBackup) -> None:
        path = backup.root / backup.backup_id / key
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return spoil


def gone(*names: str) -> Spoil:
    return lambda backup: [backup.remove(name) for name in names]  # type: ignore[func-returns-value]


def swapped(key: str) -> Spoil:
    """With another backup's, of the same cluster and shape."""

    def spoil(backup: ForeignBackup) -> None:
        files = {"lsm/objects/segment-1.db": b"others" * 350}
        own = (backup.root / backup.backup_id / "manifest.json").exists()
        other = own_backup(backup.root, "other", files=files) if own else stock(backup.root.parent, "other", files)
        backup.put_bytes(key, (other.root / "other" / key).read_bytes())

    return spoil


def added(backup: ForeignBackup) -> None:
    """By somebody who writes every document anew with right hashes: a class with a setting of his."""
    fresh = own_backup(backup.root / "elsewhere", backup.backup_id, files={**FILES, "indexcount": b"his"})
    for path in fresh.root.rglob("*"):
        if path.is_file():
            backup.put_bytes(path.relative_to(fresh.root / backup.backup_id).as_posix(), path.read_bytes())


DOCUMENTS = ("backup_config.json", "manifest.json", "n0/manifest.json.zst", "n0/backup.json")
SPOILT: dict[str, Spoil] = {
    **{f"{key} flipped": flipped(key) for key in DOCUMENTS},
    **{f"{key} gone": gone(key) for key in DOCUMENTS},
    **{f"{key} swapped": swapped(key) for key in DOCUMENTS},
    "manifests gone": gone("manifest.json", "n0/manifest.json.zst", "n1/manifest.json.zst"),
    "made anew": added,
}
CHUNKS: dict[str, Spoil] = {
    "chunk flipped": flipped(CHUNK),
    "chunk gone": gone(CHUNK),
    "chunk swapped": swapped(CHUNK),
}
REASONS = {
    "BackupChanged",
    "BackupDamaged",
    "BackupIdMismatch",
    "BackupIncomplete",
    "BackupNotFound",
    "HostileBackup",
    "ObjectNotFound",
}


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(Permanent) as caught:
        work()
    assert caught.value.reason in REASONS
    return caught.value.reason


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
