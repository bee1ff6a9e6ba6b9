"""What is sent: the frozen set, as the journal knows it, in planned chunks. Read shard by shard, each time anew.

The same chunks come out each time, since the frozen set does not change; where it did, that is said, not sent.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from weaviate_backup.agent.fates import Fate, Fates
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.packing import PlannedChunk, SourceFile, in_order, pack


@dataclass(frozen=True)
class FrozenPlan:
    """Raises `FrozenSetLost` while it is read. `split_bytes`: None where no file may be split."""

    frozen: Place
    shards: Fates
    target_bytes: int
    split_bytes: int | None

    def __iter__(self) -> Iterator[PlannedChunk]:
        for collection in sorted(self.shards):
            yield from pack(
                collection, self.files_of(collection), target_bytes=self.target_bytes, split_bytes=self.split_bytes
            )

    def files_of(self, collection: str) -> Iterator[tuple[str, list[SourceFile]]]:
        """Each shard with its files, in the order in which they are packed."""
        for shard, fate in sorted(self.shards.get(collection, {}).items()):
            yield shard, in_order(list_files(self.frozen, collection, shard, fate), collection, shard)


def list_files(frozen: Place, collection: str, shard: str, fate: Fate) -> list[SourceFile]:
    """A frozen shard's files, named as in a data root: as many, and as large, as its fate says."""
    root = frozen / collection.lower() / shard
    try:
        found = [
            SourceFile(f"{collection.lower()}/{shard}/{name}", status.st_size, status.st_mode & 0o777)
            for name, status in root.files()
        ]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise frozen_set_lost(f"{collection}/{shard} are gone") from error
    there, frozen_then = (len(found), sum(each.size_bytes for each in found)), (fate.files, fate.size_bytes)
    if there != frozen_then:
        was, now = ("{} of {} bytes".format(*each) for each in (frozen_then, there))
        raise frozen_set_lost(f"{collection}/{shard} were {was}, and are {now}")
    return found


def frozen_set_lost(how: str) -> Permanent:
    return Permanent("FrozenSetLost", f"the frozen files of {how}; make a new backup")
