"""PLACE: rename downloaded collections to where Weaviate takes them from, `.backup.tmp/<Class>`.

The rename is the last and atomic act per collection, and the journal knows the inodes before it happens, so that the
proof afterwards, and taking it back, need no guess. A linked copy stays until the release.
"""

import os
from pathlib import Path

from weaviate_backup.agent.linking import copy_file, remove_tree, sync_directory
from weaviate_backup.agent.sweep import BACKUP_TEMPORARY
from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import KEPT, LATE, RESTORE, Workspace
from weaviate_backup.core.session import StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.inactive_tenants import is_sealed


async def place(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    """The step."""
    await in_thread(_place_all, workspace, command.collections, meter)


def _place_all(workspace: Workspace, collections: tuple[str, ...], meter: Meter) -> None:
    pending = [name for name in collections if (workspace.directory / RESTORE / name).is_dir()]
    for name in pending:
        refuse_in_the_way(workspace.data_path, name)
    if pending:
        (workspace.data_path / BACKUP_TEMPORARY).mkdir(exist_ok=True)
        for name in pending:
            meter.check()
            _place(workspace, name, meter)
        sync_directory(workspace.data_path / BACKUP_TEMPORARY)
    workspace.journal.append("all-placed", collections=list(collections))


def _place(workspace: Workspace, collection: str, meter: Meter) -> None:
    ready = workspace.directory / RESTORE / collection
    data = ready / collection.lower()
    strangers = [each.name for each in ready.iterdir() if each != data]
    if strangers or not data.is_dir():
        raise Permanent("HostileBackup", f"{ready} must hold {data.name!r} alone, but has {strangers[:3]}")
    set_late_writes_aside(data, workspace.directory / LATE / collection)
    keep_copy(data, workspace.directory / KEPT / collection, meter)
    shards = {each.name: each.stat().st_ino for each in sorted(data.iterdir())}
    workspace.journal.append(
        "placed",
        collection=collection,
        inode=ready.stat().st_ino,
        data_inode=data.stat().st_ino,
        shards=shards,
        files=sum(len(names) for _, _, names in os.walk(data)),
    )
    ready.rename(workspace.data_path / BACKUP_TEMPORARY / collection)


def set_late_writes_aside(data: Path, target: Path) -> None:
    """Writes that were captured while a shard was cut are no file of Weaviate's; they are replayed by CONFIRM."""
    for late in sorted(data.glob(f"*/{late_writes.LATE_WRITES}")):
        target.mkdir(parents=True, exist_ok=True)
        late.rename(target / late.parent.name)


def refuse_in_the_way(data_path: Path, collection: str) -> None:
    """Weaviate would log that it cannot rename, delete what we placed, and go on with an empty collection."""
    found = directories_in_the_way(data_path, (collection,))
    if found:
        raise Permanent(
            "DirectoryInTheWay",
            f"{', '.join(found)} in {data_path} would keep Weaviate from taking collection {collection}; it is left "
            "over from a deleted collection or another restore: remove it",
        )


def directories_in_the_way(data_path: Path, collections: tuple[str, ...]) -> tuple[str, ...]:
    """Names, relative to the data root, that a restore of the collections would collide with, whatever their case."""
    lowered = {name.lower() for name in collections}
    found = [each.name for each in data_path.iterdir() if each.name.lower() in lowered]
    temporary = data_path / BACKUP_TEMPORARY
    if temporary.is_dir():
        found += [f"{BACKUP_TEMPORARY}/{each.name}" for each in temporary.iterdir() if each.name.lower() in lowered]
    return tuple(sorted(found))


def keep_copy(source: Path, target: Path, meter: Meter) -> None:
    """A second name for everything: links where files are sealed, copies where Weaviate will write in place."""
    remove_tree(target)
    for directory, _, names in os.walk(source):
        relative = Path(directory).relative_to(source)
        (target / relative).mkdir(parents=True, exist_ok=True)
        for name in names:
            meter.check()
            path = relative / name
            inside_shard = Path(*path.parts[1:]).as_posix()
            if is_sealed(inside_shard):
                os.link(source / path, target / path)
            else:
                copy_file(source / path, target / path)
