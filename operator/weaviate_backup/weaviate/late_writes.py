"""Writes that reached a shard while it was cut: captured by the server, kept beside the cut, replayed after a restore.

Cuts of a shard that is being written to cannot be one instant, because no call open to us stops writes. An object
updated or deleted between the objects' cut and the indexes' cut would be there and never be found. The server's own
replica movement has the same problem and the same answer: note every write from before the cut on, and apply those
writes to the copy. They travel as one more file of the shard (`LATE_WRITES`), which Weaviate ignores. A restore that
knows them calls `replay` on every node once the shard is there. One that does not (Weaviate's own) gets a shard in
which what was written while it was cut may not be found.

The file of writes: `MAGIC`, then per write one frame of flag, uuid, milliseconds, length and the object in the server's
format.
"""

import asyncio
import io
import json
import logging
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from weaviate_backup import answers
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent, Transient, excerpt
from weaviate_backup.layout.json_bounds import MORE_MEMORY
from weaviate_backup.weaviate.rpc import ClusterCredentials
from weaviate_backup.weaviate.shard_objects import DataPort, digest_url, objects_url, open_data_port

LATE_WRITES = ".late-writes"
MAGIC = b"WVBLATE1"
FRAME = struct.Struct("<B16sqI")
BATCH_WRITES = 8
"""So few, because what the application writes between our look at a batch and our put of it is lost."""
BATCH_BYTES = 16 << 20
TIMEOUT_SECONDS = 300.0
REFUSED = "ReplayFailed"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Write:
    """One acknowledged write: an object in the server's storage format, or (empty) a deletion."""

    uuid: UUID
    updated_milliseconds: int
    stored_object: bytes

    @property
    def is_delete(self) -> bool:
        return not self.stored_object


def encode(write: Write) -> bytes:
    return (
        FRAME.pack(write.is_delete, write.uuid.bytes, write.updated_milliseconds, len(write.stored_object))
        + write.stored_object
    )


def read_writes(captured: Place) -> Iterator[Write]:
    """The writes of a file in their order. `DamagedLateWrites` for anything else, `DocumentTooLarge` for an object that
    memory does not hold."""
    what = f"{captured.name} of {captured.parent.name}"
    with captured.open() as file, io.BufferedReader(file) as stream:
        left_bytes = os.fstat(file.fileno()).st_size - len(MAGIC)
        if stream.read(len(MAGIC)) != MAGIC:
            raise Permanent("DamagedLateWrites", f"{what} is no file of late writes")
        while header := stream.read(FRAME.size):
            if len(header) < FRAME.size:
                raise Permanent("DamagedLateWrites", f"{what} ends inside a frame")
            is_delete, identity, milliseconds, length = FRAME.unpack(header)
            left_bytes -= FRAME.size + length
            if left_bytes < 0:  # asked for before room for it is made
                raise Permanent("DamagedLateWrites", f"{what} ends inside a frame")
            if is_delete != (length == 0):
                raise Permanent("DamagedLateWrites", f"{what} has a frame that is neither an object nor a deletion")
            content = stream.read(_held(length, what))
            if len(content) < length:
                raise Permanent("DamagedLateWrites", f"{what} ends inside a frame")
            yield Write(UUID(bytes=identity), milliseconds, content)


def _held(length_bytes: int, what: str) -> int:
    limit_bytes = answers.document_bounds().size_bytes
    if length_bytes > limit_bytes:
        message = f"{what} has an object of {length_bytes} bytes, more than {limit_bytes}; {MORE_MEMORY}"
        raise Permanent("DocumentTooLarge", message)
    return length_bytes


def final_writes(captured: Place) -> Iterator[Write]:
    """Of every object only its last write. Two passes over the file, so that memory holds ids and not objects."""
    last = {write.uuid: number for number, write in enumerate(read_writes(captured))}
    return (write for number, write in enumerate(read_writes(captured)) if last[write.uuid] == number)


def batches(writes: Iterable[Write]) -> Iterator[list[Write]]:
    """Writes in order, bounded by number and by bytes."""
    batch: list[Write] = []
    size = 0
    for write in writes:
        if batch and (len(batch) >= BATCH_WRITES or size + len(write.stored_object) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(write)
        size += len(write.stored_object)
    if batch:
        yield batch


@dataclass(frozen=True)
class Begun:
    """How far a replay came: so many writes are `done`, and as many behind them as `doing` may be deleted only."""

    done: int = 0
    doing: int = 0


@dataclass(frozen=True)
class Seen:
    """What a shard knows of an object. 0: it does not know when."""

    changed_milliseconds: int
    is_deleted: bool


async def replay(
    host: str,
    data_port: int,
    *,
    collection: str,
    shard: str,
    captured: Place,
    credentials: ClusterCredentials | None = None,
    begun: Begun | None = None,
    tell: Callable[[Begun], None] = lambda _: None,
) -> int:
    """Apply a shard's late writes to the shard of that node through its data port; how many objects were touched.

    One that was written or deleted later than it was captured is left: since its collection is in the schema, people
    write to it. Every other object is deleted first, because a put of what is stored already would leave its index
    entries as they are. `tell` is called before. A replay that was interrupted is completed with what was told last,
    in the same file: a server that read deletions from a write-ahead log does not know when they were, so that only
    ours may be undone.
    """
    url = objects_url(host, data_port, collection=collection, shard=shard)
    digests = digest_url(host, data_port, collection=collection, shard=shard)
    position, ours_end = (begun.done, begun.done + begun.doing) if begun else (0, 0)
    touched = 0
    async with open_data_port(credentials, timeout_seconds=TIMEOUT_SECONDS) as port:
        for batch in batches(islice(final_writes(captured), position, None)):
            tell(Begun(position, max(len(batch), ours_end - position)))
            seen = await _seen(port, digests, batch)
            due = [
                write
                for number, write in enumerate(batch, position)
                if is_due(write, seen.get(write.uuid), ours=number < ours_end)
            ]
            await _delete(port, url, due)
            await _put(port, url, [write.stored_object for write in due if not write.is_delete])
            touched += len(due)
            position += len(batch)
    return touched


def is_due(write: Write, seen: Seen | None, *, ours: bool) -> bool:
    """Whether nobody wrote or deleted the object since. `ours`: we may have deleted it."""
    if seen is None:
        return True
    if seen.is_deleted and not seen.changed_milliseconds and not ours:
        log.warning("object %s was deleted, and the server lost when: its late write is left", write.uuid)
        return False
    return seen.changed_milliseconds <= write.updated_milliseconds


async def _seen(port: DataPort, url: str, batch: list[Write]) -> dict[UUID, Seen]:
    """When each object of the batch was last written or deleted."""
    body = json.dumps([str(write.uuid) for write in batch]).encode()
    what = f"GET {url}"
    rows = answers.parse(await port.send("GET", url, body=body, reason=REFUSED), answers.SOME, what=what)
    with answers.understood(what):
        return {UUID(row["ID"]): Seen(int(row["UpdateTime"]), row.get("Deleted") is True) for row in rows}


async def _delete(port: DataPort, url: str, writes: list[Write]) -> None:
    """As of the time of the write, so that nobody takes it for a later deletion; 1.39.1 keeps no time of such a one."""
    urls = [f"{url}/{write.uuid}/{write.updated_milliseconds}" for write in writes]
    await asyncio.gather(*(port.send("DELETE", each, reason=REFUSED) for each in urls))


async def _put(port: DataPort, url: str, objects: list[bytes]) -> None:
    if not objects:
        return
    body = b"".join(struct.pack("<Q", len(each)) + each for each in objects)
    answer = await port.send("POST", url, body=body, reason=REFUSED)
    rows = answers.parse(answer or b"[]", answers.SOME, what=f"POST {url}")
    refused = [row for row in rows if row] if isinstance(rows, list) else [rows] if rows else []
    if refused:
        raise Transient(REFUSED, f"{len(refused)} late writes were refused at {url}: {excerpt(str(refused[0]))}")
