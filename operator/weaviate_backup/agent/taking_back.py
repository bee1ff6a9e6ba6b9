"""Removing what is left of an operation: first what it placed is taken back, if raft will not take it.

Weaviate may take what is placed at any instant, and half a collection must never lie where it would find it. So what
goes is renamed into the operation's own directory as a whole, that is synced, raft is asked again, and then it is
deleted there. Names are made of inodes, so that each is known again by the journal, and need no new directory, which a
full disk would not give. Synchronous file work only; `release` asks raft.
"""

import stat as modes
from collections.abc import Collection, Iterable

from weaviate_backup.agent.journal import JOURNAL, Record
from weaviate_backup.agent.placed_records import last_of
from weaviate_backup.agent.sweep import BACKUP_TEMPORARY, lies_at
from weaviate_backup.agent.workspace import LATE, operation_directory
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import DATA_DIRECTORY
from weaviate_backup.weaviate import snapshot_staging

TAKEN, CONDEMNED = "taken-back-", "condemned-"
"""Of what may be put back, and of what may be deleted in part. An inode follows."""


def take_back(data_root: Place, operation_uid: str, placed: Iterable[Record], *, collections: Collection[str]) -> bool:
    """Move it out of Weaviate's way. `collections`: names of those in the schema. Whether anything was moved, by us or
    by a predecessor: then raft is to be asked again, and `remove_operation` told what it says.

    Weaviate's directories bear names in lower case, so names are compared so. What was placed for a collection that is
    in the schema stays, since a node that lags behind raft will still take it; it never can once another directory is
    in its place.
    """
    directory, in_schema = operation_directory(data_root, operation_uid), _folded(collections)
    for record in last_of(placed).values():
        waits, taken = lies_at(data_root, record)
        if record["collection"].lower() not in in_schema:
            going = [waits, taken]
        else:
            going = [waits] if taken.place.exists() else []
        for each in going:
            if each.is_there():
                directory.make_directory(mode=0o700)
                each.place.rename_to(directory / f"{TAKEN}{each.inode}")
    return bool(_names(directory, TAKEN))


def remove_operation(
    data_root: Place, operation_uid: str, placed: Iterable[Record], *, collections: Collection[str]
) -> tuple[str, ...]:
    """Everything of one operation: server staging it pinned, what was taken back, its directory. Of what was taken back
    that is put back which is in the schema, `collections`, by now.

    Returns the collections that stay placed, for a later sweep: then the journal that knows them stays, and their late
    writes.
    """
    for staging in snapshot_staging.staging_left_over(data_root, operation_uid):
        staging.remove_tree()
    directory, records = operation_directory(data_root, operation_uid), last_of(placed).values()
    stays: tuple[str, ...] = ()
    if directory.is_directory():
        _put_back(data_root, directory, records, _folded(collections))
        _condemn(data_root, directory)
        stays = tuple(each["collection"] for each in records if lies_at(data_root, each)[0].is_there())
        if stays:
            _remove_all_but(directory, (JOURNAL, LATE))
        else:
            directory.remove_tree()
    parent = data_root / DATA_DIRECTORY
    if parent.is_directory() and not parent.names():
        parent.remove_directory()
    return stays


def _put_back(data_root: Place, directory: Place, records: Iterable[Record], in_schema: Collection[str]) -> None:
    """Unless Weaviate has made another directory in its place meanwhile."""
    moved = False
    for record in records:
        if record["collection"].lower() not in in_schema:
            continue
        waits, taken = lies_at(data_root, record)
        for each in (taken, waits):
            aside = each.at(directory / f"{TAKEN}{each.inode}")
            if aside.is_there() and not taken.place.exists() and not each.place.exists():
                each.place.parent.make_directory()
                aside.place.rename_to(each.place)
                moved = True
    if moved:
        _sync(data_root, directory)


def _condemn(data_root: Place, directory: Place) -> None:
    """From here on it is not put back: whoever is killed in deleting leaves half of it."""
    for name in _names(directory, TAKEN):
        (directory / name).rename_to(directory / (CONDEMNED + name.removeprefix(TAKEN)))
    if _names(directory, CONDEMNED):
        _sync(data_root, directory)


def _sync(data_root: Place, directory: Place) -> None:
    """What was moved between them: else a deletion could outlast a loss of power, and the move before it not."""
    directory.sync_from_root()
    temporary = data_root / BACKUP_TEMPORARY
    if temporary.is_directory():
        temporary.sync()


def _remove_all_but(directory: Place, kept: Collection[str]) -> None:
    for name in directory.names():
        place = directory / name
        status = place.look()
        if name in kept or status is None:
            continue
        if modes.S_ISDIR(status.st_mode):
            place.remove_tree()
        else:
            place.unlink(missing_ok=True)


def _names(directory: Place, prefix: str) -> list[str]:
    return [name for name in directory.names() if name.startswith(prefix)] if directory.is_directory() else []


def _folded(collections: Collection[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in collections)
