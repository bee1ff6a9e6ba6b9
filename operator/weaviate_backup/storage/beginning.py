"""Identities that a new pod does not have yet: waited for in the first minute of a process, and only then missing.

A cloud's metadata server may not answer in a pod's first seconds, a role may not be known everywhere yet. Agents are
new pods that open their store at once, so whatever keeps an identity from being had counts as passing until then.
"""

import time
from collections.abc import Callable

from weaviate_backup.errors import BackupError, Transient

WAITED_SECONDS = 75.0
"""Google says that metadata can be out of reach for some seconds, node agents that hand out roles start within a
minute."""
PAUSE_SECONDS = 3.0


class NotYet(Transient):
    """An identity that may come. It ends by itself: after the first minute the same failure is `Permanent`, so it is
    asked for again as often as that takes."""


class Beginning:
    """Since when a process runs, by a clock that nobody sets."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()

    def judge(self, failure: BackupError) -> BackupError:
        """Of an identity that could not be had: the failure itself, or that it is waited for."""
        if self._clock() - self._began >= WAITED_SECONDS:
            return failure
        return NotYet(
            failure.reason,
            f"{failure.message} (it may not be there yet: this process waits for it {WAITED_SECONDS:g} s)",
            retry_after_seconds=PAUSE_SECONDS,
        )


OF_PROCESS = Beginning()
"""Read when this module is loaded, which a process does as it starts."""
