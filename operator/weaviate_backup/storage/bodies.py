"""The body of an answer, as a stream that knows how long it must be."""

import io
from collections.abc import Callable
from typing import BinaryIO, cast

from weaviate_backup.errors import BackupError, Permanent, Transient

Read = Callable[[int], bytes]
Judge = Callable[[Exception], Exception]


def exact_body(read: Read, found_bytes: int, failure: Judge, *, key: str, start: int, length: int | None) -> BinaryIO:
    """The `found_bytes` that a store answers with, as a stream. Raises `RangeOutside` when more were wanted."""
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
