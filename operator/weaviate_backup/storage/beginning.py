"""Identities that a new pod does not have yet: waited for in the first minute of a process, and only then missing.

A cloud's metadata server may not answer in a pod's first seconds, a role may not be known everywhere yet. Agents are
new pods that open their store at once, so whatever keeps an identity from being had counts as passing until then.
"""

import time
from collections.abc import Callable

from weaviate_backup.errors import BackupError, Transient

PAUSE_SECONDS = 3.0


class NotYet(Transient):
    """An identity that may come. It ends by itself: after that time the same failure is another one, so it is asked for
    again as often as that takes."""


class Beginning:
    """Since when a process runs, by a clock that nobody sets."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()

    def judge(self, failure: BackupError, *, within_seconds: float) -> BackupError:
        """Of an identity that could not be had: the failure itself, or that it is waited for."""
        if self._clock() - self._began >= within_seconds:
            return failure
        return NotYet(
            failure.reason,
            f"{failure.message} (it may not be there yet: this process waits for it {within_seconds:g} s)",
            retry_after_seconds=PAUSE_SECONDS,
        )


OF_PROCESS = Beginning()
"""Read when this module is loaded, which a process does as it starts."""
