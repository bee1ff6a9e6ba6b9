"""PLACE: rename downloaded collections to where Weaviate takes them from, `.backup.tmp/<Class>`.

The rename is the last and atomic act per collection, and the journal knows the inodes before it happens, so that the
proof afterwards, and taking it back, need no guess. A linked copy stays until the release.
"""

from pathlib import PurePosixPath

from weaviate_backup.agent.sweep import BACKUP_TEMPORARY
from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import KEPT, LATE, RESTORE, Workspace
from weaviate_backup.beneath import Held, Place
from weaviate_backup.core.session import StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.inactive_tenants import is_sealed


async def place(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    """The step."""
    await in_thread(_place_all, workspace, command.collections, meter)


def _place_all(workspace: Workspace, collections: tuple[str, ...], meter: Meter) -> None:
    pending = [name for name in collections if (workspace.directory / RESTORE / name).is_directory()]
    for name in pending:
        refuse_in_the_way(workspace.data_root, name)
    if pending:
        temporary = workspace.data_root / BACKUP_TEMPORARY
        temporary.make_directory()
        for name in pending:
            meter.check()
            _place(workspace, name, meter)
        temporary.sync()
    workspace.journal.append("all-placed", collections=list(collections))


def _place(workspace: Workspace, collection: str, meter: Meter) -> None:
    ready = workspace.directory / RESTORE / collection
    data = ready / collection.lower()
    strangers = [name for name in ready.names() if name != data.name]
    if strangers or not data.is_directory():
        raise Permanent("HostileBackup", f"{ready} must hold {data.name!r} alone, but has {strangers[:3]}")
    set_late_writes_aside(data, workspace.directory / LATE / collection)
    files = keep_copy(data, workspace.directory / KEPT / collection, meter)
    workspace.journal.append(
        "placed",
        collection=collection,
        inode=ready.stat().st_ino,
        data_inode=data.stat().st_ino,
        shards={name: status.st_ino for name, status in data.entries()},
        files=files,
    )
    ready.rename_to(workspace.data_root / BACKUP_TEMPORARY / collection)


def set_late_writes_aside(data: Place, target: Place) -> None:
    """Writes that were captured while a shard was cut are no file of Weaviate's; they are replayed by CONFIRM."""
    for shard in data.names():
        late = data / shard / late_writes.LATE_WRITES
        if late.is_file():
            target.make_directory()
            late.rename_to(target / shard)


def refuse_in_the_way(data_root: Place, collection: str) -> None:
    """Weaviate would log that it cannot rename, delete what we placed, and go on with an empty collection."""
    found = directories_in_the_way(data_root, (collection,))
    if found:
        raise Permanent(
            "DirectoryInTheWay",
            f"{', '.join(found)} in {data_root} would keep Weaviate from taking collection {collection}; it is left "
            "over from a deleted collection or another restore: remove it",
        )


def directories_in_the_way(data_root: Place, collections: tuple[str, ...]) -> tuple[str, ...]:
    """Names, relative to the data root, that a restore of the collections would collide with, whatever their case and
    whatever they are."""
    lowered = {name.lower() for name in collections}
    found = [name for name in data_root.names() if name.lower() in lowered]
    temporary = data_root / BACKUP_TEMPORARY
    if temporary.is_directory():
        found += [f"{BACKUP_TEMPORARY}/{name}" for name in temporary.names() if name.lower() in lowered]
    return tuple(sorted(found))


def keep_copy(source: Place, target: Place, meter: Meter) -> int:
    """A second name for everything: links where files are sealed, copies where Weaviate will write in place. How many
    files there are."""
    target.remove_tree()
    target.make_directory()
    count = 0
    with Held() as held:
        for name, _ in source.files():
            meter.check()
            inside_shard = "/".join(PurePosixPath(name).parts[1:])
            if is_sealed(inside_shard):
                held.link(source / name, target / name)
            else:
                (target / name).parent.make_directory()
                (source / name).copy_to(target / name)
            count += 1
    return count
