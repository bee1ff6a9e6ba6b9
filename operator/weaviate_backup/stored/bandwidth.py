"""A limit on bytes per second that many threads share."""

import threading
import time
from collections.abc import Callable


class Bandwidth:
    """Each block waits until those before it have had their time, so no second carries more than the limit.

    `bytes_per_second` None: nobody waits. `pause` waits so many seconds and may raise; `clock` is monotonic.
    """

    def __init__(
        self,
        bytes_per_second: int | None,
        *,
        pause: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bytes_per_second = bytes_per_second
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, size_bytes: int) -> None:
        """Return when the bytes may be used."""
        if self._bytes_per_second is None:
            return
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now) + size_bytes / self._bytes_per_second
            wait_seconds = self._free_at - now
        self._pause(wait_seconds)
