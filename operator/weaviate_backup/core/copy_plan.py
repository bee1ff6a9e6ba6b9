"""What a copy of a backup has to do, and every reason not to begin: judged from what both stores list.

The target may hold an unfinished copy, or the whole of it. Anything else under the backup's identifier is another
backup: it is refused, and nothing of it is ever written over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.errors import Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.integrity import Finding, compare_listing, summarize


@dataclass(frozen=True)
class SourceObject:
    """One object to copy. `sha256` as the backup's manifests have it; None: nobody wrote it down."""

    key: str
    size_bytes: int
    sha256: str | None = None

    @property
    def backup_id(self) -> str:
        return self.key.partition("/")[0]


@dataclass(frozen=True)
class SourceBackup:
    """A complete backup: its objects but for the marker, and the marker's content. `base_id`: what it builds on."""

    backup_id: str
    objects: tuple[SourceObject, ...]
    marker: bytes
    base_id: str | None
    verifiable: bool
    """Whether manifests say what every chunk must be."""

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.objects) + len(self.marker)


@dataclass(frozen=True)
class BackupCopy:
    """The work on one backup: `missing` is sent, `present` is looked at. `complete`: the target has the marker, too."""

    source: SourceBackup
    missing: tuple[SourceObject, ...]
    present: tuple[SourceObject, ...]
    complete: bool

    @property
    def missing_bytes(self) -> int:
        return sum(each.size_bytes for each in self.missing)

    @property
    def present_bytes(self) -> int:
        return sum(each.size_bytes for each in self.present)


def belongs_to_copy(backup_id: str, key: str) -> bool:
    """Whether an object under the backup's prefix is copied before the marker.

    Left out are the state of a restore that Weaviate once made from there, which would pass for one at the target, and
    the empty objects by which some consoles mark folders.
    """
    return not key.endswith("/") and key not in (keys.backup_config(backup_id), keys.restore_config(backup_id))


def gather_source(
    backup_id: str,
    *,
    listed: Mapping[str, int],
    required: Iterable[str],
    written: Mapping[str, tuple[int, str]],
    marker: bytes,
    base_id: str | None,
) -> SourceBackup:
    """The backup to copy. `listed`: key -> size of all its objects, `required`: keys that its documents name,
    `written`: key -> size and SHA-256 as manifests have them. Raises `BackupIncomplete`.
    """
    objects = {key: size for key, size in listed.items() if belongs_to_copy(backup_id, key)}
    findings = [
        *compare_listing({key: size for key, (size, _) in written.items()}, _only(objects, written)),
        *_missing_or_empty(objects, set(required) - written.keys()),
    ]
    if written:
        findings += [
            Finding("ObjectUnexpected", key, f"{key} is named by a descriptor, but by no manifest")
            for key in sorted(set(required) - written.keys())
        ]
    if findings:
        message = f"backup {backup_id!r} is not whole where it lies: {summarize(findings)}; nothing was copied"
        raise Permanent("BackupIncomplete", message)
    found = tuple(SourceObject(key, size, written.get(key, (size, None))[1]) for key, size in sorted(objects.items()))
    return SourceBackup(backup_id, found, marker, base_id, verifiable=bool(written))


def plan_copy(source: SourceBackup, *, there: Mapping[str, int], marker_there: bytes | None) -> BackupCopy:
    """`there`: key -> size of all that the target has under the backup's identifier.

    Raises `BackupExists` when that is another backup, `CopyDamaged` when it is this one but no longer whole.
    """
    wanted = {each.key: each.size_bytes for each in source.objects}
    found = {key: size for key, size in there.items() if belongs_to_copy(source.backup_id, key)}
    if marker_there is not None and marker_there != source.marker:
        raise backup_exists(source.backup_id, f"its {keys.BACKUP_CONFIG} differs from the one to be copied")
    findings = compare_listing(wanted, found)
    if marker_there is not None and findings:
        raise copy_damaged(source.backup_id, summarize(findings))
    strange = [finding for finding in findings if finding.reason != "ObjectMissing"]
    if strange:
        raise backup_exists(source.backup_id, summarize(strange))
    return BackupCopy(
        source,
        missing=tuple(each for each in source.objects if each.key not in found),
        present=tuple(each for each in source.objects if each.key in found),
        complete=marker_there is not None,
    )


def backup_exists(backup_id: str, why: str) -> Permanent:
    return Permanent(
        "BackupExists",
        f"the target has another backup {backup_id!r}: {why}; nothing of it is written over: delete it there, or name "
        "a location with another path",
    )


def copy_damaged(backup_id: str, why: str) -> Permanent:
    return Permanent(
        "CopyDamaged",
        f"the target has a complete backup {backup_id!r}, but it is damaged: {why}; a complete backup is never "
        "changed: delete it there, then copy it again",
    )


def place_of(location: LocationSpec, *, directory: str = "", account: str = "") -> str:
    """Where backups of a location lie, so that two can be compared.

    `directory`: where its volume is mounted here; `account`: the storage account that its credentials name (Azure).
    """
    if location.s3 is not None:
        endpoint = (location.s3.endpoint or "").rpartition("://")[2]
        where = ("s3:", endpoint, location.s3.bucket, location.s3.path)
    elif location.gcs is not None:
        where = ("gs:", location.gcs.endpoint or "", location.gcs.bucket, location.gcs.path)
    elif location.azure is not None:
        where = (
            "azure:",
            location.azure.endpoint or location.azure.account or account,
            location.azure.container,
            location.azure.path,
        )
    else:
        path = location.filesystem.path if location.filesystem else ""
        where = ("file:", directory, "", path)
    return str(PurePosixPath(*(part.strip("/") for part in where)))


def refuse_overlap(source_place: str, target_place: str, backup_ids: Iterable[str]) -> None:
    """Raise `SameLocation` when a copy of one of the backups would lie at, within or around itself."""
    for backup_id in backup_ids:
        source, target = PurePosixPath(source_place, backup_id), PurePosixPath(target_place, backup_id)
        if source.is_relative_to(target) or target.is_relative_to(source):
            raise Permanent(
                "SameLocation",
                f"a copy of backup {backup_id!r} from {source_place} to {target_place} would lie in itself; choose "
                "another target",
            )


def _only(objects: Mapping[str, int], written: Mapping[str, tuple[int, str]]) -> dict[str, int]:
    return {key: size for key, size in objects.items() if key in written}


def _missing_or_empty(objects: Mapping[str, int], required: Iterable[str]) -> list[Finding]:
    return [
        Finding("ObjectMissing", key, f"{key} is missing or empty") for key in sorted(required) if not objects.get(key)
    ]
