"""What a probe does to a store: each action is one that some operation depends on."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.session import ProbeAction
from weaviate_backup.errors import ObjectExists, Permanent
from weaviate_backup.storage.object_store import ObjectStore, exists
from weaviate_backup.stored.storing import abort_unfinished, read_small

MARK, ONCE, LARGE = "mark", "once", "large"
BLOCK = bytes(1 << 20)
MULTIPART_BLOCKS = 9
"""More than one part of every store's usual part size, and little more: lines can be slow."""
MOST_BLOCKS = 64
DENIED = "AccessDenied"
MARK_LIMIT_BYTES = 4096


def mark_keys(prefix: str, word: str) -> tuple[str, str]:
    """Where the mark of an attempt may be: under one name, so that nothing grows, or, where the identity may not
    replace what an earlier attempt left, under a name of its own. `word` is the attempt's."""
    return prefix + MARK, f"{prefix}{MARK}-{word}"


class Trial:
    """One worker's actions on its own objects below `prefix`. Each raises what keeps it from working. `patient` is the
    same store, for the large one."""

    def __init__(
        self, store: ObjectStore, location: LocationSpec, *, prefix: str, word: str, mark: bytes, patient: ObjectStore
    ) -> None:
        self._store, self._patient = store, patient
        self._prefix = prefix
        self._marks = mark_keys(prefix, word)
        self._mark_key = self._marks[0]
        self._mark = mark
        self.written_at: datetime | None = None
        """When the mark was, by our clock."""
        block_mib = (location.azure.block_size_mib if location.azure else None) or 0
        self._blocks = max(MULTIPART_BLOCKS, min(block_mib + 1, MOST_BLOCKS))
        self.actions: dict[ProbeAction, Callable[[], None]] = {
            ProbeAction.CHECK: store.check,
            ProbeAction.WRITE: self._write,
            ProbeAction.READ: self._read,
            ProbeAction.LIST: self._list,
            ProbeAction.WRITE_ONCE: self._write_once,
            ProbeAction.MULTIPART: self._multipart,
            ProbeAction.DELETE: self._delete,
        }
        if location.lock_days is not None:
            self.actions[ProbeAction.LOCK] = self._lock

    def _write(self) -> None:
        abort_unfinished(self._store, self._prefix)  # of a worker that was killed
        for key in self._marks:
            try:
                self._store.put(key, self._small)
            except Permanent as error:
                if error.reason != DENIED or key == self._marks[-1]:
                    raise
            else:
                self._mark_key = key
                break
        self.written_at = datetime.now(UTC)

    def _read(self) -> None:
        if read_small(self._store, self._mark_key, limit_bytes=MARK_LIMIT_BYTES) != self._mark:
            raise Permanent("ContentDiffers", "an object came back with other content than was written")

    def _list(self) -> None:
        if self._mark_key not in {each.key for each in self._store.list(self._prefix)}:
            raise Permanent("ListIncomplete", "an object was written, but a listing does not show it")

    def _write_once(self) -> None:
        """Twice: an object that a killed worker left proves as much as the second attempt."""
        for _ in range(2):
            try:
                self._store.put(self._prefix + ONCE, self._small, if_absent=True)
            except ObjectExists:
                return
        raise Permanent(
            "WriteOnceUnsupported",
            "the store replaces an object although it was told not to (conditional put); nothing but this operator "
            "should write below the location's path",
        )

    def _multipart(self) -> None:
        key, wanted_bytes = self._prefix + LARGE, self._blocks * len(BLOCK)
        try:
            self._patient.put(key, self._large)
        except Permanent as error:
            if error.reason != DENIED or not exists(self._store, key):
                raise  # else an earlier probe put it, and this identity may replace nothing
        size_bytes = self._store.stat(key).size_bytes
        if size_bytes != wanted_bytes:
            raise Permanent("ContentDiffers", f"an object of {wanted_bytes} bytes has {size_bytes} in the store")

    def _delete(self) -> None:
        keys = (self._prefix + ONCE, self._prefix + LARGE)
        self._store.delete(keys)
        if any(each.key in keys for each in self._store.list(self._prefix)):
            raise Permanent("DeleteIneffective", "an object was deleted, but a listing still shows it")

    def _lock(self) -> None:
        """Nothing is locked by a probe: it could never be taken away."""
        self._store.lock((), datetime.now(UTC) + timedelta(days=1))

    def _small(self) -> Iterator[bytes]:
        return iter((self._mark,))

    def _large(self) -> Iterator[bytes]:
        return iter((BLOCK,) * self._blocks)
