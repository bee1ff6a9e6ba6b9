"""What a store must do, said precisely once; `tests/storage/contract.py` holds every kind to it.

Keys are relative to the location's path, use `/`, and never start with one. All calls are synchronous, may be made
from many threads at once, and raise only `Transient` or `Permanent` (with `ObjectNotFound`, `ObjectExists`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from weaviate_backup.errors import ObjectNotFound, Permanent

MakeBlocks = Callable[[], Iterator[bytes]]
"""Makes a fresh iterator over an object's bytes; called once per attempt, so that a retry starts from zero."""


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object. `etag` is the store's own, opaque."""

    key: str
    size_bytes: int
    etag: str | None = None


class ObjectStore(Protocol):
    """A bucket, container or directory under one prefix."""

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        """Store the blocks under `key`, streamed with bounded memory, all or nothing; parts go up in parallel.

        A failed put leaves no object and no unfinished multipart upload. With `if_absent` an existing object is never
        overwritten (`ObjectExists`), by a conditional put where the store can. Blocks may be of any size.

        `at_most_bytes` is what the caller knows of the size of all of them: stores that cut objects then cut them into
        parts of one size, no larger than need be. An object that is larger all the same is stored, after it was begun
        again.
        """
        ...

    def open(self, key: str, *, start: int = 0, length: int | None = None) -> AbstractContextManager[BinaryIO]:
        """Read `length` bytes from `start` (None: to the end). A short body raises `Transient`, it never ends early."""
        ...

    def stat(self, key: str) -> ObjectInfo:
        """Size and tag of one object, or `ObjectNotFound`."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, in any order, across pages."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete the objects; a missing one is no error. Raises after trying all if one could not be deleted."""
        ...

    def abort_unfinished(self, prefix: str) -> int:
        """Remove what puts below `prefix` left unfinished when their process died, and no listing shows; how many.

        Only for a prefix that nobody else writes to now: a living put that loses its parts begins again.
        """
        ...

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        """Keep existing objects from being deleted or replaced until then, as the location says; again is no error.

        Without keys: prove that the bucket and this identity can. `ObjectLockUnsupported` where they cannot.
        """
        ...

    def check(self) -> None:
        """Prove that the bucket or directory exists and can be listed, without writing. Raises a clear `Permanent`."""
        ...


def exists(store: ObjectStore, key: str) -> bool:
    """Whether the store has the object now."""
    try:
        store.stat(key)
    except ObjectNotFound:
        return False
    return True


def key_prefix(path: str) -> str:
    """What stands before every key of a location with that path."""
    bare = path.strip("/")
    return f"{bare}/" if bare else ""


def lock_unsupported(kind: str) -> Permanent:
    """Of a kind of store whose locations cannot ask for it."""
    return Permanent("ObjectLockUnsupported", f"objects of spec.{kind} cannot be locked; use the store's own policies")
