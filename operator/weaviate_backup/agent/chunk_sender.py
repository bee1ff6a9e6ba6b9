"""Sends planned chunks to the store: a bounded pool, each journaled as soon as it is stored.

A chunk the journal knows is not sent again. One that is stored but was never journaled (a crash in between) is read
back and adopted when it is what we would send, else replaced. Everything is read from the frozen set.
"""

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from weaviate_backup.agent.journal import Journal, journal_damaged
from weaviate_backup.agent.workspace import FROZEN, Workspace
from weaviate_backup.errors import ObjectExists
from weaviate_backup.layout import keys
from weaviate_backup.layout.chunk_writer import ChunkRecord, ChunkWriter, PartRecord
from weaviate_backup.layout.packing import ChunkPart, PlannedChunk
from weaviate_backup.stored.claiming import ClaimedPlace
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.parallel import each_in_parallel
from weaviate_backup.stored.storing import is_stored_as

CLAIM_SECONDS = 60.0
"""How often an upload asks whose the place is."""

log = logging.getLogger(__name__)


class MeteredFile(io.FileIO):
    """A source file that counts what is read of it. It takes the descriptor over."""

    def __init__(self, descriptor: int, count: Callable[[int], None]) -> None:
        super().__init__(descriptor, "rb")
        self._count = count

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(-1 if size is None else size) or b""
        self._count(len(block))
        return block


class ChunkSender:
    """One UPLOAD's chunks. What is stored of them lies in the journal."""

    def __init__(self, workspace: Workspace, place: ClaimedPlace, meter: Meter) -> None:
        self._workspace = workspace
        self._place = place
        self._store = place.store
        self._meter = meter
        self._computing = threading.Semaphore(workspace.workers)
        self._looking = threading.Lock()
        self._looked_at = time.monotonic()
        self._journaled = sent_of(workspace.journal)

    def send_all(self, chunks: Iterable[PlannedChunk]) -> None:
        """Every chunk stored and journaled. The first failure stops the others and is raised."""
        each_in_parallel(self._send, chunks, self._meter, streams=self._workspace.streams)

    def _look_after_claim(self) -> None:
        """An upload ends by itself where the place is not its operation's any more."""
        with self._looking:
            if time.monotonic() - self._looked_at < CLAIM_SECONDS:
                return
            self._looked_at = time.monotonic()
        self._place.refuse_strangers()

    def _send(self, chunk: PlannedChunk) -> None:
        self._meter.check()
        self._look_after_claim()
        number = self._journaled.get((chunk.collection, chunk.number))
        if number is not None and holds(stored_record(self._workspace.journal, number), chunk):
            self._meter.add(bytes_done=chunk.source_bytes, bytes_reused=chunk.source_bytes, files_done=len(chunk.parts))
            return
        sending = _Sending(chunk, self._workspace, self._meter, self._computing)
        key = keys.chunk(self._workspace.backup_id, self._workspace.node, chunk.collection, chunk.number)
        try:
            self._store.put(key, sending.blocks, if_absent=True, at_most_bytes=sending.at_most_bytes)
        except ObjectExists:
            self._adopt(key, sending)
        record = sending.writer.record
        self._workspace.journal.append(
            "chunk", collection=chunk.collection, number=chunk.number, record=_as_journaled(record)
        )
        self._meter.add(bytes_stored=record.stored_bytes, files_done=len(chunk.parts))

    def _adopt(self, key: str, sending: "_Sending") -> None:
        """An object nobody journaled: ours from before a crash, or the half-known end of a retried put."""
        for _ in sending.blocks():
            pass
        record = sending.writer.record
        if is_stored_as(self._store, key, record.stored_bytes, record.sha256):
            log.info("%s is there already and is what it should be", key)
            return
        self._place.replace(key, sending.blocks, at_most_bytes=sending.at_most_bytes)


class _Sending:
    """One chunk on its way: each call of `blocks` starts from zero, and so does what was counted."""

    def __init__(self, chunk: PlannedChunk, workspace: Workspace, meter: Meter, computing: threading.Semaphore) -> None:
        self._computing = computing
        self._frozen = workspace.directory / FROZEN
        self._meter = meter
        self._counted_bytes = 0
        self.at_most_bytes = chunk.at_most_bytes
        self.writer = ChunkWriter(chunk, open_source=self._open, level=workspace.backup.compression_level)

    def blocks(self) -> Iterator[bytes]:
        self._meter.take_back(self._counted_bytes)
        self._counted_bytes = 0
        return self._in_turn(self.writer.blocks())

    def _in_turn(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Reading, hashing and compressing take a worker's turn; sending does not."""
        while True:
            with self._computing:
                block = next(blocks, None)
            if block is None:
                return
            yield block

    def _open(self, part: ChunkPart) -> BinaryIO:
        return MeteredFile((self._frozen / part.path).descriptor(os.O_RDONLY), self._count)

    def _count(self, read_bytes: int) -> None:
        self._counted_bytes += read_bytes
        self._meter.add(bytes_done=read_bytes)


def sent_of(journal: Journal) -> dict[tuple[str, int], int]:
    """Chunks that were stored since this packing began: (collection, number) -> number of the record in the journal."""
    sent: dict[tuple[str, int], int] = {}
    for at, record in journal.numbered("uploading", "chunk"):
        if record["kind"] == "uploading":
            sent.clear()
        else:
            sent[sys.intern(record["collection"]), record["number"]] = at
    return sent


def holds(record: ChunkRecord, chunk: PlannedChunk) -> bool:
    """Whether what was stored is what is planned, part for part."""
    stored = [(part.path, part.offset, part.length_bytes) for part in record.parts]
    return stored == [(part.path, part.offset, part.length_bytes) for part in chunk.parts]


def stored_record(journal: Journal, at: int) -> ChunkRecord:
    """What was stored, by the journal's record of that number."""
    return record_of(journal.at(at)["record"])


def record_of(journaled: dict[str, Any]) -> ChunkRecord:
    """A chunk's record as the journal holds it."""
    try:
        parts = tuple(PartRecord(*part) for part in journaled["parts"])
        return ChunkRecord(**{**journaled, "parts": parts})
    except (TypeError, KeyError) as error:
        raise journal_damaged("chunk") from error


def _as_journaled(record: ChunkRecord) -> dict[str, Any]:
    parts = [(part.path, part.offset, part.length_bytes, part.sha256) for part in record.parts]
    return {"number": record.number, "stored_bytes": record.stored_bytes, "sha256": record.sha256, "parts": parts}
