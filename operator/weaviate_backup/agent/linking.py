"""Take a cut into the frozen set: hard links to sealed files, synced copies of the others. Synchronous.

A shard's directory appears under its name only when it is whole. Files are never changed here, only linked and copied,
so Weaviate's own data cannot be harmed.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate.hard_links import link_sealed
from weaviate_backup.weaviate.shard_source import ShardCut, ShardFile

PARTIAL = ".partial"
COPY_BLOCK_BYTES = 1 << 20


def take_cut(cut: ShardCut, target: Path, *, check: Callable[[], None]) -> tuple[int, int]:
    """Link the cut's files into `target`, replacing what an interrupted attempt left. Returns bytes and files."""
    partial = target.with_name(target.name + PARTIAL)
    remove_tree(partial)
    partial.mkdir(parents=True)
    total_bytes = 0
    for file in cut.files:
        check()
        destination = partial / file.path
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            _take_file(file, destination)
        except FileNotFoundError as error:
            what = f"{cut.collection}/{cut.shard}"
            raise Transient("CutIncomplete", f"{what} lost {file.path!r} while it was frozen") from error
        total_bytes += destination.stat().st_size
    remove_tree(target)
    partial.rename(target)
    sync_directory(target.parent)
    return total_bytes, len(cut.files)


def _take_file(file: ShardFile, destination: Path) -> None:
    if file.mutable or not link_sealed(file.source, destination):
        copy_file(file.source, destination)


def copy_file(source: Path, destination: Path) -> None:
    """A synced copy with the same mode."""
    with source.open("rb") as reader, destination.open("xb") as writer:
        shutil.copyfileobj(reader, writer, COPY_BLOCK_BYTES)
        writer.flush()
        os.fchmod(writer.fileno(), os.fstat(reader.fileno()).st_mode & 0o777)
        os.fsync(writer.fileno())


def remove_tree(path: Path) -> None:
    """Delete a directory that may not be there; what cannot be deleted is an error."""
    if path.is_symlink():
        raise Permanent("UnexpectedLink", f"{path} is a symbolic link, which nobody of us makes; look at the volume")
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if path.exists():  # something vanished inside while it was being deleted
            shutil.rmtree(path)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
