"""Take a cut into the frozen set: hard links to sealed files, copies of the others. Synchronous.

Nothing is synced here, where tenants are many: the whole file system is, once, before anything of it is believed.

A shard's directory appears under its name only when it is whole. Files are never changed here, only linked and copied,
so Weaviate's own data cannot be harmed.
"""

from collections.abc import Callable

from weaviate_backup.beneath import Held, Place
from weaviate_backup.errors import Transient
from weaviate_backup.weaviate.hard_links import link_sealed
from weaviate_backup.weaviate.shard_source import ShardCut, ShardFile

PARTIAL = ".partial"


def take_cut(cut: ShardCut, target: Place, *, check: Callable[[], None]) -> tuple[int, int]:
    """Link the cut's files into `target`, replacing what an interrupted attempt left. Returns bytes and files.

    `UnexpectedEntry` for one that is no file: it is neither read nor followed.
    """
    partial = target.beside(target.name + PARTIAL)
    partial.remove_tree()
    partial.make_directory()
    total_bytes = 0
    with Held() as held:
        for file in cut.files:
            check()
            try:
                total_bytes += _take_file(held, file, partial / file.path)
            except FileNotFoundError as error:
                what = f"{cut.collection}/{cut.shard}"
                raise Transient("CutIncomplete", f"{what} lost {file.path!r} while it was frozen") from error
    target.remove_tree()
    partial.rename_to(target)
    return total_bytes, len(cut.files)


def _take_file(held: Held, file: ShardFile, destination: Place) -> int:
    linked_bytes = None if file.mutable else link_sealed(held, file.source, destination)
    if linked_bytes is not None:
        return linked_bytes
    destination.parent.make_directory()
    return file.source.copy_to(destination, durable=False)
