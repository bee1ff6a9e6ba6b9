"""What takes longer than it may is ended in the middle. In the main thread alone, since a signal does it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = {signal.ITIMER_REAL: signal.SIGALRM, signal.ITIMER_PROF: signal.SIGPROF}


@contextmanager
def ended_after(seconds: float, error: BaseException, *, timer: int = signal.ITIMER_REAL) -> Iterator[None]:
    """By raising the error. `timer`: whose time is meant, the clock's or (ITIMER_PROF) the processor's."""

    def end(_: int, __: FrameType | None) -> None:
        raise error

    before = signal.signal(_SIGNALS[timer], end)
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(_SIGNALS[timer], before)
