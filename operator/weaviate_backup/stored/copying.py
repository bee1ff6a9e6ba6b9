"""Copies a backup from one store to another, of whatever kinds, so that it can be restored there as it could here.

Everything at the target is looked at before the first byte is sent; the marker is put last, when the target lists
everything, so an unfinished copy is no backup. Called again after any interruption, it goes on. Memory is workers times
what the target's store takes for one put, whatever the data.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from weaviate_backup.core.copy_plan import (
    BackupCopy,
    SourceBackup,
    SourceObject,
    backup_exists,
    belongs_to_copy,
    copy_damaged,
    plan_copy,
)
from weaviate_backup.errors import ObjectExists, Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.integrity import compare_listing, summarize
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.copy_source import read_source
from weaviate_backup.stored.parallel import each_in_parallel
from weaviate_backup.stored.passage import CONTENT_DIFFERS, SOURCE, TARGET, Passage, blaming
from weaviate_backup.stored.storing import abort_unfinished, find_document, lock_backup, prefix_of, sizes_of


@dataclass(frozen=True)
class Copied:
    """What became of one backup. `verifiable`: each byte was compared with the backup's own manifests."""

    backup_id: str
    objects: int
    size_bytes: int
    objects_sent: int
    bytes_sent: int
    verifiable: bool


def copy_backup(passage: Passage, backup_id: str, *, with_bases: bool = True) -> tuple[Copied, ...]:
    """Plan and carry out at once. Blocks; raises what `plan_copies` and `carry_out` raise."""
    return carry_out(passage, plan_copies(passage, backup_id, with_bases=with_bases))


def plan_copies(passage: Passage, backup_id: str, *, with_bases: bool = True) -> tuple[BackupCopy, ...]:
    """What is to be done: the backups that this one builds on, oldest first, then itself. Writes nothing.

    Raises what `read_source` and `plan_copy` raise.
    """
    with blaming(SOURCE):
        passage.source.check()
        sources = read_source(passage.source, backup_id, with_bases=with_bases)
    with blaming(TARGET):
        passage.target.check()
        return tuple(_plan(passage.target, each) for each in sources)


def carry_out(passage: Passage, copies: tuple[BackupCopy, ...]) -> tuple[Copied, ...]:
    """Look at all that is there, then send what is missing, one backup after the other.

    Raises `SourceDamaged` when an object is not what the manifests say, `SourceChanged` when it is another one by now,
    `VerificationFailed` when the target gives back something else than was sent, `BackupExists` or `CopyDamaged` when
    something else is there already. What had arrived until then stays, for another call to go on from.
    """
    passage.meter.expect(
        bytes_total=sum(_work_bytes(passage, copy) for copy in copies),
        files_total=sum(len(copy.source.objects) for copy in copies),
    )
    for copy in copies:
        _in_parallel(passage, copy, passage.check_present, copy.present)
    for copy in copies:
        claims, others = _split(copy)
        _in_parallel(passage, copy, passage.send, claims)  # first: from then on no backup takes the place
        if not copy.complete:
            abort_unfinished(passage.target, prefix_of(copy.source.backup_id))
        _in_parallel(passage, copy, passage.send, others)
        if not copy.complete:
            _lock(passage, copy.source.backup_id)  # before the marker: a backup that exists is kept
            _complete(passage, copy.source)
        _lock(passage, copy.source.backup_id)
    return tuple(_copied(copy) for copy in copies)


def _lock(passage: Passage, backup_id: str) -> None:
    with blaming(TARGET):
        lock_backup(passage.target, backup_id, days=passage.options.lock_days, completed_at=datetime.now(UTC))


def _plan(target: ObjectStore, source: SourceBackup) -> BackupCopy:
    there = sizes_of(target, prefix_of(source.backup_id))
    return plan_copy(
        source, there=there, marker_there=find_document(target, keys.backup_config(source.backup_id)) if there else None
    )


def _split(copy: BackupCopy) -> tuple[tuple[SourceObject, ...], tuple[SourceObject, ...]]:
    """What is missing: the claim, if it is, and all the rest."""
    claim_key = keys.claim(copy.source.backup_id)
    claims = tuple(each for each in copy.missing if each.key == claim_key)
    return claims, tuple(each for each in copy.missing if each.key != claim_key)


def _work_bytes(passage: Passage, copy: BackupCopy) -> int:
    return sum(passage.work_bytes(each, present=False) for each in copy.missing) + sum(
        passage.work_bytes(each, present=True) for each in copy.present
    )


def _in_parallel(
    passage: Passage, copy: BackupCopy, work: Callable[[SourceObject], None], objects: Iterable[SourceObject]
) -> None:
    """The largest first, so that none of them is left alone at the end."""
    ordered = sorted(objects, key=lambda each: each.size_bytes, reverse=True)
    try:
        each_in_parallel(work, ordered, passage.meter, streams=passage.options.workers)
    except Permanent as error:
        if error.reason != CONTENT_DIFFERS:
            raise
        raise (copy_damaged if copy.complete else backup_exists)(copy.source.backup_id, error.message) from error


def _complete(passage: Passage, source: SourceBackup) -> None:
    """Put the marker, when everything is there and the source is still the backup that was copied."""
    backup_id, key = source.backup_id, keys.backup_config(source.backup_id)
    expected = {each.key: each.size_bytes for each in source.objects}
    with blaming(TARGET):
        listed = sizes_of(passage.target, prefix_of(backup_id))
    findings = compare_listing(expected, {k: size for k, size in listed.items() if belongs_to_copy(backup_id, k)})
    if findings:
        raise Permanent("VerificationFailed", f"the target does not list what was copied: {summarize(findings)}")
    with blaming(SOURCE):
        if find_document(passage.source, key) != source.marker:
            raise Permanent("SourceChanged", f"{key} changed while the backup was copied; copy it again")
    with blaming(TARGET):
        try:
            passage.target.put(key, lambda: iter((source.marker,)), if_absent=True)
        except ObjectExists as error:  # another copy of the same backup ended first, or another backup did
            if find_document(passage.target, key) != source.marker:
                raise backup_exists(backup_id, f"its {keys.BACKUP_CONFIG} was written meanwhile") from error
        if find_document(passage.target, key) != source.marker:
            raise Permanent("VerificationFailed", f"{key} came back with other bytes than were sent")


def _copied(copy: BackupCopy) -> Copied:
    return Copied(
        backup_id=copy.source.backup_id,
        objects=len(copy.source.objects) + 1,
        size_bytes=copy.source.size_bytes,
        objects_sent=len(copy.missing) + (not copy.complete),
        bytes_sent=copy.missing_bytes + (0 if copy.complete else len(copy.source.marker)),
        verifiable=copy.source.verifiable,
    )
