"""PLACE: rename downloaded collections to where Weaviate takes them from, `.backup.tmp/<Class>`.

The rename is the last and atomic act per collection, and the journal knows the inodes before it happens, so that the
proof afterwards, and taking it back, need no guess. Shards that the restored state does not place on this node stay
behind: nobody would ever remove them, and a tenant that is made later with the name of one would have its objects.
"""

from collections.abc import Collection

from weaviate_backup.agent.brought import Brought, Content, compare
from weaviate_backup.agent.in_the_way import refuse_in_the_way
from weaviate_backup.agent.placed_records import append_placed, placed_of
from weaviate_backup.agent.sweep import BACKUP_TEMPORARY
from weaviate_backup.agent.workspace import LATE, RESTORE, Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate import late_writes

UNNAMED = ".unnamed"


async def place(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    """The step."""
    await in_thread(_place_all, workspace, command.collections, meter)


def _place_all(workspace: Workspace, collections: tuple[str, ...], meter: Meter) -> None:
    brought = Brought.told_by(workspace.journal)
    pending = _compared(workspace, brought, collections, meter)
    refuse_in_the_way(workspace, tuple(pending))
    temporary = workspace.data_root / BACKUP_TEMPORARY
    if pending:
        temporary.make_directory()
        workspace.data_root.sync()
        for name, content in pending.items():
            meter.check()
            _place(workspace, name, content, brought.unnamed_of(name))
    if temporary.is_directory():
        temporary.sync()  # whoever placed them: a predecessor may have been killed right before this
    workspace.journal.append("all-placed", collections=list(collections))


def _compared(workspace: Workspace, brought: Brought, collections: tuple[str, ...], meter: Meter) -> dict[str, Content]:
    """What is to be placed, all of it as it came, before the first is."""
    placed, pending = placed_of(workspace.journal), dict[str, Content]()
    for name in collections:
        meter.check()
        content = compare(workspace, brought, name, placed.get(name))
        if content is not None:
            pending[name] = content
    return pending


def _place(workspace: Workspace, collection: str, content: Content, unnamed: Collection[str]) -> None:
    ready = workspace.directory / RESTORE / collection
    data = ready / collection.lower()
    strangers = [name for name in ready.names() if name != data.name]
    if strangers or not data.is_directory():
        raise Permanent("HostileBackup", f"{ready} must hold {data.name!r} alone, but has {strangers[:3]}")
    late = set_late_writes_aside(data, workspace.directory / LATE / collection)
    leave_unnamed(data, workspace.directory / RESTORE, unnamed)
    append_placed(
        workspace.journal,
        collection=collection,
        inode=ready.stat().st_ino,
        data_inode=data.stat().st_ino,
        shards={name: status.st_ino for name, status in data.entries()},
        files=content.files - content.late,
        born={
            "ready": ready.born(),
            "data": data.born(),
            "late": {name: (data / name).born() for name in late if (data / name).is_directory()},
        },
    )
    ready.rename_to(workspace.data_root / BACKUP_TEMPORARY / collection)


def leave_unnamed(data: Place, restore: Place, unnamed: Collection[str]) -> None:
    """First out of the way as a whole, so that no half of one is ever placed."""
    for shard in sorted(unnamed):
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
