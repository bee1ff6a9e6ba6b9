"""COMMIT on its own: what makes a backup exist is ours, describes what lies there, and is the same when repeated."""

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.agent.foreign_backup import NODES, ForeignBackup, Json
from tests.agent.small_restore import PLACE
from tests.stored.own_backup import UID, own_backup

from weaviate_backup.agent.commit import _commit
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.session import Committed, SessionOrder, StoreOrder
from weaviate_backup.errors import Permanent
from weaviate_backup.settings import AgentSettings
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter

MARKER = "backup_config.json"
MANIFEST = "manifest.json"
STARTED = b'{"startedAt":"2026-01-01T00:00:00Z","id":"b","status":"STARTED","version":"2.1","serverVersion":"1.39.1"}'


@pytest.fixture
def uploaded(tmp_path: Path) -> ForeignBackup:
    """All nodes have stored and verified their parts."""
    backup = own_backup(tmp_path / "store", "b", files={})
    backup.remove(MARKER)
    backup.remove(MANIFEST)
    return backup


def commit(backup: ForeignBackup, *, signing_key: bytes | None = None, verify: Json | None = None) -> Committed:
    """By a store worker. With `verify` the location signs; `signing_key`: what its Secret holds, None: nothing."""
    nowhere, signing = backup.root / "nowhere", backup.root.parent / "signing"
    place = PLACE
    if signing_key is not None or verify is not None:
        place = {**PLACE, "signing": {"keySecretRef": {"name": "signer", "key": "pem"}}, "verify": verify}
    shutil.rmtree(signing, ignore_errors=True)
    if signing_key is not None:
        signing.mkdir()
        (signing / "key").write_bytes(signing_key)
    order = SessionOrder(
        operation_uid=UID,
        node="store-0",
        backup_id=backup.backup_id,
        location=LocationSpec.model_validate(place),
        server_version="1.39.1",
        weaviate=None,
        work=StoreOrder(),
    )
    settings = AgentSettings(
        operation_uid=UID,
        node="store-0",
        filesystem_root=backup.root,
        credentials_directory=nowhere,
        ca_directory=nowhere,
        signing_directory=signing,
    )
    folder = backup.root / backup.backup_id
    verified = {node: hashlib.sha256((folder / node / "manifest.json.zst").read_bytes()).hexdigest() for node in NODES}
    return _commit(Workspace(settings, order, Journal(None)), verified, Meter())


def test_the_manifest_vouches_for_the_marker_and_its_digest_is_told(uploaded: ForeignBackup) -> None:
    done = commit(uploaded)
    folder = uploaded.root / "b"
    assert done.backup_sha256 == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    marker = uploaded.get(MANIFEST)["marker"]
    assert marker["sha256"] == hashlib.sha256((folder / MARKER).read_bytes()).hexdigest()
    assert BackupReader(uploaded.store, "b").sha256 == done.backup_sha256


@pytest.mark.parametrize("lost", [(), (MARKER,), (MARKER, MANIFEST)])
def test_a_commit_that_is_repeated_says_the_same(uploaded: ForeignBackup, lost: tuple[str, ...]) -> None:
    done = commit(uploaded)
    before = (uploaded.root / "b" / MARKER).read_bytes()
    for name in lost:
        uploaded.remove(name)
    again = commit(uploaded)
    if MANIFEST not in lost:
        assert again == done
        assert (uploaded.root / "b" / MARKER).read_bytes() == before
    assert BackupReader(uploaded.store, "b").sha256 == again.backup_sha256


def test_a_manifest_of_an_older_version_is_completed(uploaded: ForeignBackup) -> None:
    """Its attempt died before the marker; the operator was updated meanwhile."""
    commit(uploaded)
    uploaded.remove(MARKER)
    uploaded.change(MANIFEST, lambda it: it.pop("marker"))
    commit(uploaded)
    assert "marker" in uploaded.get(MANIFEST)


@pytest.mark.parametrize("manifest_first", [True, False])
def test_a_marker_of_weaviates_own_engine_is_not_ours(uploaded: ForeignBackup, manifest_first: bool) -> None:
    """It writes one before it begins, also between our manifest and our marker."""
    if manifest_first:
        commit(uploaded)
    uploaded.put_bytes(MARKER, STARTED)
    with pytest.raises(Permanent, match=r"BackupExists: .* was made by another operation"):
        commit(uploaded)
    assert json.loads((uploaded.root / "b" / MARKER).read_bytes())["status"] == "STARTED"


def planted(backup: ForeignBackup, **changes: object) -> None:
    """Documents that name this operation and vouch for each other, by somebody who may write to the store."""
    backup.change(MARKER, lambda it: it.update(changes))
    content = (backup.root / "b" / MARKER).read_bytes()
    backup.change(MANIFEST, lambda it: it.update({key: value for key, value in changes.items() if key == "leader"}))
    backup.change(
        MANIFEST,
        lambda it: it["marker"].update(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)),
    )


@pytest.mark.parametrize("change", [{"leader": "evil"}, {"leader": "n1"}, {"error": "none"}])
def test_documents_that_vouch_for_each_other_are_not_ours_by_that(
    uploaded: ForeignBackup, change: dict[str, object]
) -> None:
    commit(uploaded)
    planted(uploaded, **change)
    before = {name: (uploaded.root / "b" / name).read_bytes() for name in (MARKER, MANIFEST)}
    with pytest.raises(Permanent, match=r"BackupExists: .* was made by another operation"):
        commit(uploaded)
    assert {name: (uploaded.root / "b" / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("on_top", ["evil/backup.json", "evil/manifest.json.zst", "n0/more"])
def test_an_object_that_nobody_verified_keeps_a_backup_from_being_complete(
    uploaded: ForeignBackup, on_top: str
) -> None:
    commit(uploaded)
    uploaded.put_bytes(on_top, b"{}")
    with pytest.raises(Permanent, match="VerificationFailed"):
        commit(uploaded)


@pytest.mark.parametrize("when", ["1999-01-01T00:00:00Z", "9999-12-31T00:00:00Z"])
def test_a_time_that_is_not_of_the_operation_decides_nothing(uploaded: ForeignBackup, when: str) -> None:
    """It says for how long objects are locked."""
    commit(uploaded)
    uploaded.remove(MARKER)
    uploaded.change(MANIFEST, lambda it: it.update(completed_at=when))
    began_at = datetime.now(UTC)
    assert began_at <= commit(uploaded).completed_at <= datetime.now(UTC)
