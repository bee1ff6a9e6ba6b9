"""The body of an answer, as a stream that knows how long it must be."""

import io
from collections.abc import Callable
from typing import cast

from weaviate_backup.errors import BackupError, Transient


class ExactBody(io.RawIOBase):
    """`length` bytes of what `read` gives, a call at a time; `failure` judges what `read` raises."""

    def __init__(self, read: Callable[[int], bytes], length: int, failure: Callable[[Exception], Exception]) -> None:
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
