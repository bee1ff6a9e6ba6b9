"""PLACE: rename downloaded collections to where Weaviate takes them from, `.backup.tmp/<Class>`.

The rename is the last and atomic act per collection, and the journal knows the inodes before it happens, so that the
proof afterwards, and taking it back, need no guess. Shards that the restored state does not place on this node stay
behind: nobody would ever remove them, and a tenant that is made later with the name of one would have its objects.
"""

from weaviate_backup.agent.journal import journal_damaged
from weaviate_backup.agent.sweep import BACKUP_TEMPORARY
from weaviate_backup.agent.workspace import LATE, RESTORE, Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.plain_names import checked_name
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate import late_writes

UNNAMED = ".unnamed"


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
        workspace.data_root.sync()
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
    late = set_late_writes_aside(data, workspace.directory / LATE / collection)
    leave_unnamed(data, workspace.directory / RESTORE, unnamed_of(workspace, collection))
    workspace.journal.append(
        "placed",
        collection=collection,
        inode=ready.stat().st_ino,
        data_inode=data.stat().st_ino,
        shards={name: status.st_ino for name, status in data.entries()},
        files=sum(1 for _ in data.files()),
        born={
            "ready": ready.born(),
            "data": data.born(),
            "late": {name: (data / name).born() for name in late if (data / name).is_directory()},
        },
    )
    ready.rename_to(workspace.data_root / BACKUP_TEMPORARY / collection)


def unnamed_of(workspace: Workspace, collection: str) -> list[str]:
    """Shards that came with the backup, and that its sharding state does not place here."""
    downloaded = workspace.journal.last("downloaded") or {}
    try:
        unnamed = [str(shard) for shard in downloaded.get("unnamed", {}).get(collection, ())]
    except (AttributeError, TypeError) as error:
        raise journal_damaged("downloaded") from error
    return [checked_name(shard, what=f"a shard of {collection}") for shard in unnamed]


def leave_unnamed(data: Place, restore: Place, unnamed: list[str]) -> None:
    """First out of the way as a whole, so that no half of one is ever placed."""
    for shard in unnamed:
        aside = restore / UNNAMED
        aside.remove_tree()
        if (data / shard).is_directory():
            (data / shard).rename_to(aside)
            aside.remove_tree()
    if unnamed:
        data.sync()


def set_late_writes_aside(data: Place, target: Place) -> list[str]:
    """Writes that were captured while a shard was cut are no file of Weaviate's; they are replayed by CONFIRM. Of which
    shards there are some. They are there before they are gone from the shard, whenever power is lost."""
    for shard in data.names():
        late = data / shard / late_writes.LATE_WRITES
        if late.is_file():
            target.make_directory()
            late.rename_to(target / shard)
    if not target.is_directory():
        return []
    target.sync_from_root()  # with the new name of a file its old one goes, of which the shard need not be synced
    return target.names()


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
