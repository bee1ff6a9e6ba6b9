"""Signed backups: made by COMMIT, held to by INSPECT, and nobody without the key can make one that passes for them."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.agent.foreign_backup import ForeignBackup, Json
from tests.agent.small_restore import CHUNK, REASONS, Restore, Spoil, flipped, gone, made_anew, refused, stock
from tests.agent.test_commit import commit
from tests.stored.own_backup import own_backup

from weaviate_backup.agent.discard import _discard
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout.signatures import key_id
from weaviate_backup.stored.copying import copy_backup
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.passage import Passage

KEY = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"2" * 32)
SIGNATURE = "manifest.json.sig"
FILES = {"lsm/objects/segment-1.db": b"objects" * 300}


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def trusting(*keys: Ed25519PrivateKey, required: bool = True) -> Json:
    return {"publicKeys": [public(key) for key in keys or (KEY,)], "requireSigned": required}


def uploaded(directory: Path, backup_id: str = "nightly", files: dict[str, bytes] = FILES) -> ForeignBackup:
    backup = own_backup(directory / "store", backup_id, files=files)
    backup.remove("manifest.json")
    backup.remove("backup_config.json")
    return backup


def signed(directory: Path, backup_id: str = "nightly", *, key: Ed25519PrivateKey = KEY) -> ForeignBackup:
    backup = uploaded(directory, backup_id)
    commit(backup, signing_key=pem(key))
    return backup


def files_of(backup: ForeignBackup) -> list[Path]:
    return [path for path in (backup.root / backup.backup_id).rglob("*") if path.is_file()]


def reasons(restore: Restore) -> set[str]:
    """Of the refusals; those that end the look at once, too."""
    try:
        return {refusal.reason for refusal in restore.judge().refusals}
    except Permanent as error:
        return {error.reason}


def test_a_signed_backup_is_made_and_restored(tmp_path: Path) -> None:
    backup = uploaded(tmp_path)
    done = commit(backup, signing_key=pem(KEY), verify=trusting(KEY))
    assert done.signed_by == key_id(KEY.public_key())
    assert done.objects == len(files_of(backup))
    restore = Restore(tmp_path, backup, verify=trusting(OTHER, KEY))
    verdict = restore.judge()
    assert (verdict.refusals, verdict.warnings) == ((), ())
    restore.download()
    restore.read_to_apply()
    assert restore.brought


def test_commit_repeated_after_the_signature_leaves_it(tmp_path: Path) -> None:
    backup = signed(tmp_path)
    before = (backup.root / "nightly" / SIGNATURE).read_bytes()
    backup.remove("backup_config.json")
    done = commit(backup, signing_key=pem(KEY))
    assert (backup.root / "nightly" / SIGNATURE).read_bytes() == before
    assert done == commit(backup, signing_key=pem(KEY))


def test_a_key_that_was_changed_between_two_attempts_signs_anew(tmp_path: Path) -> None:
    backup = signed(tmp_path, key=OTHER)
    backup.remove("backup_config.json")
    assert commit(backup, signing_key=pem(KEY)).signed_by == key_id(KEY.public_key())
    assert reasons(Restore(tmp_path, backup, verify=trusting(KEY))) == set()


def test_a_key_that_nobody_trusts_signs_nothing(tmp_path: Path) -> None:
    backup = uploaded(tmp_path)
    with pytest.raises(Permanent, match=r"SignerUnknown: key 'pem' of Secret 'signer', .* is none of"):
        commit(backup, signing_key=pem(OTHER), verify=trusting(KEY))
    assert not (backup.root / "nightly" / "manifest.json").exists()


def test_a_key_that_is_none_or_not_there_is_named(tmp_path: Path) -> None:
    backup = uploaded(tmp_path)
    with pytest.raises(Permanent, match=r"SigningKeyInvalid: key 'pem' of Secret 'signer', .* holds base64 of 0 bytes"):
        commit(backup, signing_key=b"")
    with pytest.raises(Transient, match=r"SecretKeyNotFound: Secret 'signer' has no key 'pem', which spec\.signing"):
        commit(backup, signing_key=None, verify=trusting(KEY))
    assert not (backup.root / "nightly" / "manifest.json").exists()


def from_another(*names: str, key: Ed25519PrivateKey = KEY) -> Spoil:
    """Documents of another good backup of the same signer."""

    def spoil(backup: ForeignBackup) -> None:
        other = signed(backup.root.parent / "else", "weekly", key=key)
        for name in names:
            backup.put_bytes(name, (other.root / "weekly" / name).read_bytes())

    return spoil


def replaced(backup: ForeignBackup) -> None:
    """The whole of another backup of the same signer in this one's place: an older state of the data."""
    other = signed(backup.root.parent / "else", "weekly")
    shutil.rmtree(backup.root / "nightly")
    shutil.copytree(other.root / "weekly", backup.root / "nightly")
    for name in ("manifest.json", "backup_config.json", "n0/backup.json", "n1/backup.json"):
        path = backup.root / "nightly" / name
        path.write_text(path.read_text().replace("weekly", "nightly"))


def forged(backup: ForeignBackup) -> None:
    """Everything anew with right hashes, and a signature by a key of his."""
    made_anew(backup)
    backup.remove("backup_config.json")
    backup.remove("manifest.json")
    backup.remove(SIGNATURE)
    commit(backup, signing_key=pem(OTHER))


def without_ours(backup: ForeignBackup) -> None:
    gone("manifest.json", SIGNATURE, "n0/manifest.json.zst", "n1/manifest.json.zst")(backup)


SPOILT: dict[str, tuple[Spoil, str]] = {
    "signature flipped": (flipped(SIGNATURE), "SignatureInvalid|SignerUnknown"),
    "signature gone": (gone(SIGNATURE), "SignatureMissing"),
    "signature empty": (lambda backup: backup.put_bytes(SIGNATURE, b""), "SignatureInvalid"),
    "signature of another backup": (from_another(SIGNATURE), "SignatureInvalid"),
    "manifest of another backup": (from_another("manifest.json"), "BackupIdMismatch"),
    "manifest and signature of another": (from_another("manifest.json", SIGNATURE), "BackupIdMismatch"),
    "manifest flipped": (flipped("manifest.json"), "SignatureInvalid|HostileBackup|BackupDamaged|BackupIdMismatch"),
    "manifest gone": (gone("manifest.json"), "BackupDamaged"),
    "manifests gone": (gone("manifest.json", "n0/manifest.json.zst", "n1/manifest.json.zst"), "BackupDamaged"),
    "marker flipped": (flipped("backup_config.json"), "BackupDamaged|HostileBackup"),
    "node manifest flipped": (flipped("n0/manifest.json.zst"), "BackupDamaged"),
    "node manifest gone": (gone("n1/manifest.json.zst"), "BackupDamaged"),
    "descriptor flipped": (flipped("n0/backup.json"), "BackupDamaged"),
    "descriptor gone": (gone("n1/backup.json"), "BackupDamaged"),
    "made anew": (made_anew, "SignatureInvalid"),
    "forged": (forged, "SignerUnknown"),
    "replaced": (replaced, "SignatureInvalid|BackupDamaged"),
    "made a server's": (without_ours, "SignatureMissing"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_nobody_without_the_key_makes_a_backup_that_passes(tmp_path: Path, case: str) -> None:
    backup = signed(tmp_path)
    spoil, expected = SPOILT[case]
    spoil(backup)
    found = reasons(Restore(tmp_path / "restore", backup, verify=trusting(KEY)))
    assert found & set(expected.split("|")), found


@pytest.mark.parametrize("case", ["chunk flipped", "chunk gone"])
def test_bytes_that_are_not_those_signed_are_found_when_they_come(tmp_path: Path, case: str) -> None:
    backup = signed(tmp_path)
    restore = Restore(tmp_path, backup, verify=trusting(KEY))
    assert reasons(restore) == set()
    (flipped if case == "chunk flipped" else gone)(CHUNK)(backup)
    refused(restore.download)
    assert restore.workspace.journal.last("downloaded") is None


@pytest.mark.parametrize(
    ("spoil", "refusals", "warnings"),
    [
        (lambda _: None, set(), set()),
        (gone(SIGNATURE), set(), {"NotSigned"}),
        (without_ours, set(), {"NotSigned", "NotVerifiable"}),
        (flipped("manifest.json"), REASONS | {"SignatureInvalid"}, set()),
        (forged, {"SignerUnknown"}, set()),
    ],
    ids=["whole", "unsigned", "a server's", "changed", "forged"],
)
def test_where_it_is_not_required_a_missing_one_warns_and_a_wrong_one_refuses(
    tmp_path: Path, spoil: Spoil, refusals: set[str], warnings: set[str]
) -> None:
    backup = signed(tmp_path)
    spoil(backup)
    restore = Restore(tmp_path / "restore", backup, verify=trusting(KEY, required=False))
    found = reasons(restore)
    assert bool(found) == bool(refusals)
    assert found <= refusals
    if not refusals:
        assert {warning.reason for warning in restore.judge().warnings} == warnings


@pytest.mark.parametrize("make", [signed, stock], ids=["signed", "a server's"])
def test_without_keys_signatures_are_not_looked_at(tmp_path: Path, make: Callable[[Path], ForeignBackup]) -> None:
    verdict = Restore(tmp_path, make(tmp_path)).judge()
    assert verdict.refusals == ()
    assert "NotSigned" not in {warning.reason for warning in verdict.warnings}


def test_a_copy_is_signed_and_pinned_as_it_was(tmp_path: Path) -> None:
    backup = signed(tmp_path)
    pinned = Restore(tmp_path / "here", backup, verify=trusting(KEY)).judge().backup_sha256
    (tmp_path / "copy").mkdir()
    target = ForeignBackup(tmp_path / "copy", "nightly")
    (done,) = copy_backup(Passage(backup.store, target.store), "nightly")
    assert done.objects == len(files_of(target))
    there = Restore(tmp_path / "there", target, verify=trusting(KEY))
    assert reasons(there) == set()
    assert there.backup_sha256 == pinned


def test_what_is_taken_back_leaves_no_signature(tmp_path: Path) -> None:
    backup = signed(tmp_path)
    backup.remove("backup_config.json")
    uid = json.loads((backup.root / "nightly" / "manifest.json").read_text())["operation_uid"]
    restore = Restore(tmp_path, backup)
    order = restore.workspace.order.model_copy(update={"operation_uid": uid})
    _discard(Workspace(restore.workspace.settings, order, Journal(None)), Meter())
    assert not (backup.root / "nightly" / SIGNATURE).exists()
    assert not (backup.root / "nightly" / "manifest.json").exists()
