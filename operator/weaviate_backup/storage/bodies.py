"""Bodies of requests, that go out a piece at a time, and of answers, that know how long they must be."""

import io
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, cast

from weaviate_backup.errors import BackupError, Permanent, Transient

PIECE_BYTES = 256 << 10

Read = Callable[[int], bytes]
Judge = Callable[[Exception], Exception]


def in_pieces(body: Any) -> Any:
    """The body of a request, sent a piece at a time when it is large; streams are left as they are."""
    is_large = isinstance(body, bytes | bytearray) and len(body) > PIECE_BYTES
    return PiecewiseBody([memoryview(body)]) if is_large else body


class PiecewiseBody:
    """Content that is sent in pieces. A socket's time limit counts for all that is given to it at once: a part of some
    MiB on a slow line would be taken for a silence."""

    def __init__(self, content: Sequence[memoryview]) -> None:
        self._pieces = [each[at : at + PIECE_BYTES] for each in content for at in range(0, len(each), PIECE_BYTES)]
        self._next = 0

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def read(self, size: int = -1, /) -> memoryview | bytes:
        """A piece, whatever `size` says: clients ask for 16 KiB, which takes many turns of the interpreter."""
        del size
        self._next += 1
        return self._pieces[self._next - 1] if self._next <= len(self._pieces) else b""

    def tell(self) -> int:
        return sum(map(len, self._pieces[: self._next]))

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> None:
        """To the beginning, as the clients do when they have summed up a body, and botocore before it sends one to
        another region."""
        if position or whence != io.SEEK_SET:
            raise io.UnsupportedOperation(f"a body in pieces was asked for its byte {position}")
        self._next = 0


def exact_body(
    read: Read, found_bytes: int | None, failure: Judge, *, key: str, start: int, length: int | None
) -> BinaryIO:
    """The `found_bytes` that a store announces, as a stream. Raises `RangeOutside` when more were wanted, and
    `LengthUnknown` when none were announced."""
    if found_bytes is None:
        raise Transient("LengthUnknown", f"{key}: no Content-Length in the answer; ask the store without a proxy")
    if length is not None and found_bytes < length:
        raise Permanent("RangeOutside", f"{key} has only {found_bytes} of {length} bytes from {start} on")
    return cast(BinaryIO, ExactBody(read, found_bytes, failure))


class ExactBody(io.RawIOBase):
    """`length` bytes of what `read` gives, a call at a time; `failure` judges what `read` raises."""

    def __init__(self, read: Read, length: int, failure: Judge) -> None:
        self._read = read
        self._remaining = length
        self._failure = failure

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")[: self._remaining]
        if not len(view):
            return 0
        try:
            block = self._read(len(view))
        except BackupError:
            raise
        except Exception as error:
            raise self._failure(error) from error
        if not block:
            raise Transient("TruncatedBody", f"the store ended an object {self._remaining} bytes early")
        view[: len(block)] = block
        self._remaining -= len(block)
        return len(block)
