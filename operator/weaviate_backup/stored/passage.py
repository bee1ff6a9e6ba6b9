"""The way of single objects from one store to another: hashed while they pass, hashed again where they arrived.

An object is compared with the backup's manifest before the target publishes it, so what is damaged at the source, or on
the way from it, never arrives. What is damaged on the way to the target is taken away again. Nothing is written over.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from weaviate_backup.core.copy_plan import SourceObject
from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.bandwidth import Bandwidth
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import READ_BLOCK_BYTES, hash_blocks, is_committed

SOURCE = "at the source"
TARGET = "at the target"
CONTENT_DIFFERS = "ContentDiffers"


class Verification(StrEnum):
    """How it is known that an object arrived."""

    READ_BACK = "read-back"
    """Every byte is read back and hashed."""
    SIZE = "size"
    """The store compared what it took with a checksum, as it is asked to; here only the size is looked at."""


@dataclass(frozen=True)
class CopyOptions:
    """`workers` objects are under way at once. The limit is on bytes read, from either store."""

    workers: int = 3
    max_bytes_per_second: int | None = None
    verification: Verification = Verification.READ_BACK
    lock_days: int | None = None
    """For how long from now the target itself is to keep what arrived; None: as long as it likes."""


class Passage:
    """Both stores, and what goes between them, counted and paced.

    The meter's `bytes_done` are read to be sent or to be checked; `bytes_stored` were sent, `bytes_reused` were there.
    """

    def __init__(
        self, source: ObjectStore, target: ObjectStore, options: CopyOptions | None = None, meter: Meter | None = None
    ) -> None:
        self.source = source
        self.target = target
        self.options = options or CopyOptions()
        self.meter = meter or Meter()
        limit = self.options.max_bytes_per_second
        self._bandwidth = Bandwidth(limit, pause=self.meter.pause)
        self._block_bytes = min(READ_BLOCK_BYTES, limit or READ_BLOCK_BYTES)

    @property
    def reads_back(self) -> bool:
        return self.options.verification is Verification.READ_BACK

    def work_bytes(self, wanted: SourceObject, *, present: bool) -> int:
        """How much will be read for one object."""
        if present:
            return (1 if wanted.sha256 else 2) * wanted.size_bytes if self.reads_back else 0
        return (2 if self.reads_back else 1) * wanted.size_bytes

    def send(self, wanted: SourceObject) -> None:
        """Raises `SourceDamaged`, `SourceChanged`, `VerificationFailed`, or `CONTENT_DIFFERS` by `compare`."""
        sending = _Sending(self, wanted)
        try:
            with blaming(TARGET):
                self.target.put(wanted.key, sending.make_blocks, if_absent=True, at_most_bytes=wanted.size_bytes)
        except ObjectExists:  # another copy of the same backup runs, or an answer was lost and the put was repeated
            sending.take_back()
            self.compare(wanted)
        else:
            self.meter.add(bytes_stored=wanted.size_bytes)
            self._check_arrival(wanted, sending.sha256)
        self.meter.add(files_done=1)

    def check_present(self, wanted: SourceObject) -> None:
        """An object of the right size that an earlier copy left, as far as `verification` asks for it."""
        if self.reads_back:
            self.compare(wanted)
        self.meter.add(files_done=1, bytes_reused=wanted.size_bytes)

    def compare(self, wanted: SourceObject) -> None:
        """Raise `CONTENT_DIFFERS` unless the target's object has the very bytes of the source's."""
        sha256 = wanted.sha256 or self._hash(self.source, wanted.key, SOURCE)[1]
        if self._hash(self.target, wanted.key, TARGET) != (wanted.size_bytes, sha256):
            raise Permanent(CONTENT_DIFFERS, f"{wanted.key} has other bytes there (SHA-256 differs)")

    def blocks(self, store: ObjectStore, key: str, side: str) -> Iterator[bytes]:
        """An object's bytes, counted and paced. A worker that is told to stop raises here."""
        with blaming(side), store.open(key) as stream:
            while block := stream.read(self._block_bytes):
                self.meter.add(bytes_done=len(block))
                self._bandwidth.take(len(block))
                yield block

    def _hash(self, store: ObjectStore, key: str, side: str) -> tuple[int, str]:
        return hash_blocks(self.blocks(store, key, side))

    def _check_arrival(self, wanted: SourceObject, sha256: str) -> None:
        with blaming(TARGET):
            if self.reads_back:
                arrived = self._hash(self.target, wanted.key, TARGET) == (wanted.size_bytes, sha256)
            else:
                arrived = self.target.stat(wanted.key).size_bytes == wanted.size_bytes
            if arrived:
                return
            if not is_committed(self.target, wanted.backup_id):  # by another copy, which then had read it well
                self.target.delete([wanted.key])
            message = f"{wanted.key} came back with other bytes than were sent; it was taken away again"
            raise Permanent("VerificationFailed", message)


class _Sending:
    """One object's way up, over as many attempts as the store makes."""

    def __init__(self, passage: Passage, wanted: SourceObject) -> None:
        self._passage = passage
        self._wanted = wanted
        self._counted_bytes = 0
        self.sha256 = ""
        """Of what was sent, once all of it was."""

    def make_blocks(self) -> Iterator[bytes]:
        self.take_back()
        digest = hashlib.sha256()
        with blaming(SOURCE):
            try:
                for block in self._passage.blocks(self._passage.source, self._wanted.key, SOURCE):
                    self._counted_bytes += len(block)
                    digest.update(block)
                    yield block
            except ObjectNotFound as error:
                raise Permanent("SourceChanged", f"{self._wanted.key} vanished while it was copied") from error
            self.sha256 = digest.hexdigest()
            self._refuse_other_content()

    def _refuse_other_content(self) -> None:
        """Before the store publishes the object; it takes back what it had."""
        wanted = self._wanted
        if self._counted_bytes != wanted.size_bytes:
            message = f"{wanted.key} has {self._counted_bytes} bytes now, not {wanted.size_bytes}"
            raise Permanent("SourceChanged", f"{message}; it changed while it was copied")
        if wanted.sha256 not in (None, self.sha256):
            message = f"{wanted.key} is not what the backup's manifest says (SHA-256 differs)"
            raise Permanent("SourceDamaged", f"{message}; it was not stored")

    def take_back(self) -> None:
        """What an attempt counted was not done."""
        self._passage.meter.take_back(self._counted_bytes)
        self._counted_bytes = 0


@contextmanager
def blaming(side: str) -> Iterator[None]:
    """Note on an error on which side it came up; what was noted within stays."""
    try:
        yield
    except BackupError as error:
        if not getattr(error, "__notes__", None):
            error.add_note(side)
        raise
