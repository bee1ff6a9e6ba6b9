"""The commit log of a vector or geo index: where a copy of it must end so that it is of one instant with the objects.

The server keeps up to 32 KiB of a log in memory: a batch flushes the log before its own vectors are in it. So the file
at the instant lacks its last entries, and after a flush it has them and maybe some of later writes behind. Those are
told apart by document ids, which are given out in order: the first node at or above the counter of the instant is of a
later insert, and ends the copy. Deletions between may be of either side and are left out: an entry without its object
is skipped by the server, an object without its entry would never be found.

The format (all little endian): one byte that names the entry, then fields of fixed size; two kinds end in a counted
list of ids, and what rotational quantizers draw is as long as its first fields say. What product quantizers have learnt
is not read here: it is written once in an index' life.
"""

import mmap
import struct

from weaviate_backup.beneath import Place, write_all
from weaviate_backup.errors import Transient

ADD_NODE, ADD_TOMBSTONE, RESET_INDEX = 0, 4, 8
SIZES = {0: 11, 1: 11, 2: 19, 4: 9, 5: 9, 6: 9, 7: 9, 8: 1, 9: 11, 12: 11}
COUNTED = (3, 10)
COUNTED_HEADER_BYTES = 13
ROTATIONAL, BINARY_ROTATIONAL = 14, 15
ID = struct.Struct("<Q")
COUNT = struct.Struct("<H")
ROTATIONAL_HEADER = struct.Struct("<xIIII")
BINARY_ROTATIONAL_HEADER = struct.Struct("<xIII")


def end_at_instant(copied: Place, length: int, next_document: int) -> None:
    """Shorten a copied log in place. `length`: bytes the file had at the instant, kept as they are. `next_document`:
    the document counter then. `CutNotRecognized` when an entry cannot be told."""
    if copied.stat().st_size <= length:
        return
    with copied.open(writable=True) as stream:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start, tail = _tail(content, length, next_document, copied.name)
        stream.seek(start)
        write_all(stream.fileno(), tail)
        stream.truncate()


def _tail(content: mmap.mmap, length: int, next_document: int, name: str) -> tuple[int, bytes]:
    """From where on the log is rewritten, and with what. A torn last entry is left away."""
    position, end, start = 0, len(content), 0
    kept: list[bytes] = []
    while position < end:
        kind = content[position]
        size = _size(content, position, name)
        if position + size > end:
            break
        if position + size <= length:
            start = position + size
        elif kind == ADD_NODE and ID.unpack_from(content, position + 1)[0] >= next_document:
            break
        elif kind != ADD_TOMBSTONE:
            kept.append(content[position : position + size])
        position += size
    return start, b"".join(kept)


def _size(content: mmap.mmap, position: int, name: str) -> int:
    """Bytes of the entry at a position; more than there are when even its header is torn."""
    kind = content[position]
    if kind in SIZES:
        return SIZES[kind]
    room = len(content) - position
    if kind in COUNTED:
        torn = room < COUNTED_HEADER_BYTES
        return room + 1 if torn else COUNTED_HEADER_BYTES + 8 * COUNT.unpack_from(content, position + 11)[0]
    headers = {ROTATIONAL: ROTATIONAL_HEADER, BINARY_ROTATIONAL: BINARY_ROTATIONAL_HEADER}
    header = headers.get(kind)
    if header is not None and room < header.size:
        return room + 1
    if kind == ROTATIONAL:  # per round: pairs of places that are swapped, and signs
        *_, dimensions, rounds = ROTATIONAL_HEADER.unpack_from(content, position)
        return ROTATIONAL_HEADER.size + 6 * int(rounds) * int(dimensions)
    if kind == BINARY_ROTATIONAL:  # and one value per dimension to round by
        _, dimensions, rounds = BINARY_ROTATIONAL_HEADER.unpack_from(content, position)
        return BINARY_ROTATIONAL_HEADER.size + 6 * int(rounds) * int(dimensions) + 4 * int(dimensions)
    raise Transient("CutNotRecognized", f"commit log {name} has an entry of kind {kind} at {position}")
