"""What lies where a restore would put its collections, or takes the space it needs, and whose that is.

What another operation's journal vouches for, by inode and time of birth, is no left-over of strangers: a dead one's is
taken away before anything is downloaded, and one that may still come back is waited for. Reads only.
"""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from weaviate_backup.agent.sweep import BACKUP_TEMPORARY, OtherOperation, find_others, lies_at
from weaviate_backup.agent.workspace import Workspace, operation_directory
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent, Transient

BLOCK_BYTES = 512
"""Of `st_blocks`, on every file system."""


def directories_in_the_way(data_root: Place, collections: tuple[str, ...]) -> tuple[str, ...]:
    """Names, relative to the data root, that a restore of the collections would collide with, whatever their case and
    whatever they are."""
    lowered = {name.lower() for name in collections}
    found = [name for name in data_root.names() if name.lower() in lowered]
    temporary = data_root / BACKUP_TEMPORARY
    if temporary.is_directory():
        found += [f"{BACKUP_TEMPORARY}/{name}" for name in temporary.names() if name.lower() in lowered]
    return tuple(sorted(found))


def not_swept(workspace: Workspace, collections: tuple[str, ...]) -> tuple[str, ...]:
    """Those of them that the sweep before DOWNLOAD does not take away. `OperationActive` when an operation placed one
    whose agent may still come back."""
    found = directories_in_the_way(workspace.data_root, collections)
    vouched: set[str] = set()
    for other in _others(workspace) if found else ():
        theirs = set(_placed_by(workspace.data_root, other)) & set(found)
        if theirs and other.wait_seconds:
            raise _may_come_back(other, f"placed {', '.join(sorted(theirs))} in {workspace.data_root}")
        vouched |= theirs
    return tuple(name for name in found if name not in vouched)


def refuse_in_the_way(workspace: Workspace, collections: tuple[str, ...]) -> None:
    """Weaviate would log that it cannot rename, delete what we placed, and go on with an empty collection."""
    found = directories_in_the_way(workspace.data_root, collections)
    if found:
        not_swept(workspace, collections)  # raises, when there is something to wait for
        raise Permanent(
            "DirectoryInTheWay",
            f"{', '.join(found)} in {workspace.data_root} would keep Weaviate from taking a restored collection; it is "
            "left over from a deleted collection or another restore: remove it",
        )


def _others(workspace: Workspace) -> tuple[OtherOperation, ...]:
    return find_others(workspace.data_root, workspace.uid, datetime.now(UTC))


def _placed_by(data_root: Place, other: OtherOperation) -> Iterator[str]:
    """Names of what it placed and is still there, relative to the data root."""
    for record in other.placed:
        for lies in lies_at(data_root, record):
            if lies.is_there():
                yield lies.place.below(data_root)


def _may_come_back(other: OtherOperation, what: str) -> Transient:
    message = f"operation {other.uid} {what}, and its agent may come back"
    return Transient("OperationActive", f"{message} within {other.wait_seconds:.0f} s; wait for its end")


# Space


def space_of_others(workspace: Workspace, missing_bytes: int, collections: Collection[str] | None) -> int:
    """How many bytes the sweep before DOWNLOAD will free. `collections`: names of those in the schema; what was placed
    for them stays. None: nobody asked, so nothing that was placed is counted.

    `OperationActive` when that is less than what is missing, and enough with what an operation has there whose agent
    may still come back.
    """
    freed = waiting = 0
    others = _others(workspace)
    for other in others:
        size_bytes = _bytes_of(workspace.data_root, other, collections)
        freed, waiting = (freed, waiting + size_bytes) if other.wait_seconds else (freed + size_bytes, waiting)
    if freed < missing_bytes <= freed + waiting:
        first = next(each for each in others if each.wait_seconds)
        raise _may_come_back(first, f"takes space that is needed on {workspace.data_root}")
    return freed


def _bytes_of(data_root: Place, other: OtherOperation, collections: Collection[str] | None) -> int:
    """Of what would go with it."""
    places = [operation_directory(data_root, other.uid)]
    in_schema = {name.lower() for name in collections or ()}
    for record in other.placed if collections is not None else ():
        if record["collection"].lower() not in in_schema:
            places += [lies.place for lies in lies_at(data_root, record) if lies.is_there()]
    return sum(_bytes_below(place) for place in places)


def _bytes_below(place: Place) -> int:
    """What its removal frees: of a frozen file Weaviate has the other name, and of a sparse one less is taken."""
    return sum(
        min(status.st_size, status.st_blocks * BLOCK_BYTES) for _, status in place.files() if status.st_nlink == 1
    )
