"""What DOWNLOAD brought: the journal keeps how much came of each collection, and PLACE compares it with what is there.

Hours may lie between the two, since other nodes download, and a full volume makes people delete what they find. What
is counted is what will be placed, with the late writes that are set aside before: PLACE counts the same, wherever a
predecessor was killed.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from weaviate_backup.agent.journal import Journal, Record, journal_damaged
from weaviate_backup.agent.sweep import lies_at
from weaviate_backup.agent.workspace import LATE, RESTORE, Workspace
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.plain_names import checked_name
from weaviate_backup.weaviate.late_writes import LATE_WRITES

SHARDS_IN_A_RECORD = 10_000
"""With the longest names, escaped, they take half of what a line may have."""


@dataclass(frozen=True)
class Content:
    """Of one collection. `late`: how many of the files are late writes, as far as that is known."""

    files: int
    size_bytes: int
    late: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.files} files of {self.size_bytes} bytes"


def tell_what_came(workspace: Workspace, collections: Iterable[str], unnamed: Mapping[str, list[str]]) -> None:
    """Journal it; it lasts once the record `downloaded` does. `unnamed`: shards that are not to be placed."""
    for collection in collections:
        shards = unnamed.get(collection, [])
        for at in range(0, len(shards), SHARDS_IN_A_RECORD):
            page = shards[at : at + SHARDS_IN_A_RECORD]
            workspace.journal.append("unnamed", sync=False, collection=collection, shards=page)
        content = content_of(workspace, collection, frozenset(shards))
        if content is not None:
            workspace.journal.append(
                "brought", sync=False, collection=collection, files=content.files, bytes=content.size_bytes
            )


def content_of(workspace: Workspace, collection: str, unnamed: Collection[str]) -> Content | None:
    """What lies there to be placed. None: nothing, not even a directory."""
    ready, aside = workspace.directory / RESTORE / collection, workspace.directory / LATE / collection
    if not ready.is_directory():
        return None
    files, size_bytes, late = 0, 0, 0
    data = ready / collection.lower()
    for name, status in data.files() if data.is_directory() else ():
        shard, _, rest = name.partition("/")
        if shard not in unnamed:
            files, size_bytes, late = files + 1, size_bytes + status.st_size, late + (rest == LATE_WRITES)
    for shard, status in aside.entries() if aside.is_directory() else ():
        if shard not in unnamed:
            files, size_bytes, late = files + 1, size_bytes + status.st_size, late + 1
    return Content(files, size_bytes, late)


@dataclass(frozen=True)
class Brought:
    """What the journal tells. `is_counted`: whether it tells of contents, as older ones do not."""

    is_counted: bool
    contents: Mapping[str, Content]
    unnamed: Mapping[str, frozenset[str]]

    @classmethod
    def told_by(cls, journal: Journal) -> Self:
        downloaded = journal.last("downloaded") or {}
        contents = {each["collection"]: Content(each["files"], each["bytes"]) for each in journal.of("brought")}
        unnamed: dict[str, set[str]] = {}
        try:
            for collection, shards in downloaded.get("unnamed", {}).items():  # as older ones wrote it
                unnamed[collection] = {*shards}
            for record in journal.of("unnamed"):
                unnamed.setdefault(record["collection"], set()).update(record["shards"])
            checked = {name: frozenset(checked_name(each, what=f"a shard of {name}") for each in shards)
                       for name, shards in unnamed.items()}  # fmt: skip
        except (AttributeError, TypeError) as error:
            raise journal_damaged("downloaded") from error
        return cls(downloaded.get("counted") is True, contents, checked)

    def unnamed_of(self, collection: str) -> frozenset[str]:
        """Shards that came with the backup, and that its sharding state does not place here."""
        return self.unnamed.get(collection, frozenset())


def compare(workspace: Workspace, brought: Brought, collection: str, placed: Record | None) -> Content | None:
    """What there is to place of a collection; None: nothing, or it was placed already. `DownloadLost` when it is less
    or more than what came. `placed`: what the journal says of its placing."""
    found, came = content_of(workspace, collection, brought.unnamed_of(collection)), brought.contents.get(collection)
    if found is None and placed is not None and _is_placed(workspace, placed):
        return None
    if brought.is_counted and found != came:
        raise Permanent(
            "DownloadLost",
            f"{found or 'nothing'} of collection {collection} lies below {workspace.directory / RESTORE}, but "
            f"{came or 'nothing'} came; somebody removed or added files: begin the restore anew",
        )
    return found


def _is_placed(workspace: Workspace, placed: Record) -> bool:
    """Once all are said to be, raft may have taken them, and others may have deleted the collection."""
    return workspace.journal.last("all-placed") is not None or any(
        lies.is_same() for lies in lies_at(workspace.data_root, placed)
    )


def refuse_unplaced(journal: Journal, collections: Iterable[str], placed: Collection[str]) -> None:
    """Before a restore is confirmed: `DownloadLost` when files of a collection came, and none of them was placed."""
    contents = Brought.told_by(journal).contents
    for collection in collections:
        if collection in contents and collection not in placed:
            raise Permanent(
                "DownloadLost",
                f"{contents[collection]} of collection {collection} came to this node and were not placed; delete the "
                "collection and restore it again",
            )
