"""A small backup in a directory, ways to spoil it, and one node's part of its restore as the agent does it.

The steps are the agent's own; only the calls to a Weaviate are left out.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent.foreign_backup import COLLECTION, ForeignBackup, Json
from tests.stored.own_backup import own_backup

from weaviate_backup.agent.apply import _read
from weaviate_backup.agent.brought import tell_what_came
from weaviate_backup.agent.download import _download
from weaviate_backup.agent.inspect_backup import _inspect
from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.workspace import RESTORE, Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.beneath import Root
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
PLACE: Json = {"filesystem": {"volume": {"hostPath": {"path": "/"}}}}
Spoil = Callable[[ForeignBackup], object]


class Restore:
    """One node's part of a restore, as its agent does it."""

    def __init__(self, directory: Path, backup: ForeignBackup, *, verify: Json | None = None) -> None:
        data = directory / "data"
        data.mkdir(parents=True)
        location = LocationSpec.model_validate(PLACE | ({"verify": verify} if verify else {}))
        order = SessionOrder(
            operation_uid=UID,
            node="n0",
            backup_id=backup.backup_id,
            location=location,
            server_version="1.39.1",
            weaviate=WeaviateEndpoint(host="127.0.0.1", data_path=str(data)),
            work=RestoreOrder(source_node="n0", users=True, roles=True),
        )
        settings = AgentSettings(
            operation_uid=UID,
            node="n0",
            data_path=data,
            credentials_directory=directory / "none",
            ca_directory=directory / "none",
            filesystem_root=backup.root,
        )
        journal = Journal(Root(data).place / ".weaviate-backup" / UID / JOURNAL)
        self.workspace = Workspace(settings, order, journal)
        self.backup_sha256 = ""

    def judge(self, pin: BackupPin = UNPINNED) -> RestoreVerdict:
        inspected = _inspect(self.workspace, Meter())
        verdict = plan_restore(RestoreWishes(), dict.fromkeys(("n0", "n1"), inspected), TARGET, pin=pin)
        self.backup_sha256 = verdict.backup_sha256
        return verdict

    def download(self) -> None:
        _download(self.workspace, self._command(Step.DOWNLOAD), Meter())

    def tell_what_came(self) -> None:
        """As if all that lies there now had come so; for who adds to it."""
        tell_what_came(self.workspace, (COLLECTION,), {})
        self.workspace.journal.append("downloaded", collections=[COLLECTION], counted=True)

    def read_to_apply(self) -> None:
        _read(self.workspace, self._command(Step.APPLY))

    def _command(self, step: Step) -> StepCommand:
        return StepCommand(operation_uid=UID, step=step, collections=(COLLECTION,), backup_sha256=self.backup_sha256)

    @property
    def brought(self) -> dict[str, int]:
        """Name and mode of every file."""
        root = self.workspace.directory / RESTORE
        return {name: status.st_mode & 0o7777 for name, status in root.files()} if root.exists() else {}


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


def made_anew(backup: ForeignBackup) -> None:
    """By somebody who writes every document anew with right hashes: a class with a setting of his."""
    fresh = own_backup(backup.root / "elsewhere", backup.backup_id, files={**FILES, "indexcount": b"his"})
    for path in fresh.root.rglob("*"):
        if path.is_file():
            backup.put_bytes(path.relative_to(fresh.root / backup.backup_id).as_posix(), path.read_bytes())


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
