"""What every reader must hold to, whatever it is given: the judge of one document.

A reader gives a value or raises one of our errors, in bounded time and memory, and writes below its own directory
alone. The message of an error is short, can be shown, and holds nothing of a secret.
"""

import contextlib
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.fuzzing.spoiling import Spoil
from tests.time_limits import ended_after

from weaviate_backup.errors import BackupError, Permanent

REASON = re.compile(r"[A-Z][A-Za-z0-9]{2,63}")
MESSAGE_LIMIT = 2000
SECRET = "5eCrEt"
"""Part of every hash and key in a corpus: no message may hold it."""
PRIVATE = "private"
"""The directory below the scratch one that a reader may write to."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
MIB = 1 << 20


@dataclass(frozen=True)
class Reading:
    """A reader, made ready once: documents that it takes, and what takes one. The second argument of `read` is its own
    directory, empty. `read` also compares what came with what is written of it again. `close` lets go of what it keeps
    open."""

    corpus: list[bytes]
    read: Callable[[bytes, Path], Any]
    close: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Format:
    """`open` gets a directory that lasts, and that of stock backups, if there are any. `transient`: asking again may
    help, as of who answers."""

    name: str
    open: Callable[[Path, Path | None], Reading]
    spoil: Spoil
    transient: bool = False
    memory_mib: int = 128
    seconds: float = 5.0


class Broken(Exception):
    """A rule that a reader broke, other than by an error that is none of ours."""


class _TooSlow(BaseException):
    """Ends a reader."""


@dataclass(frozen=True)
class Crash:
    """What went wrong with a document. Two of one `where` are one fault."""

    where: str
    what: str
    content: bytes


class Judge:
    """Of one reader in this process. Below `directory` lies what the reader was made ready with, and what it writes."""

    def __init__(self, subject: Format, directory: Path, stock: Path | None) -> None:
        self.refused: dict[str, int] = {}
        """Reason -> how often."""
        self._subject = subject
        self._directory = directory
        self._scratch = directory / "scratch"
        self._private = self._scratch / PRIVATE
        for each in (self._private, directory / "lasting"):
            each.mkdir(parents=True)
        self.reading = subject.open(directory / "lasting", stock)
        _watch_writes()

    def judge(self, content: bytes) -> Crash | None:
        """None when all rules are held."""
        before = _memory()
        try:
            # Of the processor: a machine may be busy. Who waits without end is ended by the parent process.
            limit = ended_after(self._subject.seconds, _TooSlow(), timer=signal.ITIMER_PROF)
            with limit, _only_below(self._directory):
                self.reading.read(content, self._private)
        except BackupError as error:
            self.refused[error.reason] = self.refused.get(error.reason, 0) + 1
            problem = self._of_error(error)
            if problem:
                return Crash(f"{problem} of {_place(error)}", f"{problem}: {error!r}"[:1500], content)
        except _TooSlow as error:
            return Crash(f"time at {_place(error)}", f"took more than {self._subject.seconds:g} s", content)
        except Exception as error:  # noqa: BLE001  # what else is raised is what is looked for
            told = "".join(traceback.format_exception(error))[-3000:]
            return Crash(f"{type(error).__name__} at {_place(error)}", told, content)
        finally:
            strangers = sorted(each.name for each in self._scratch.iterdir() if each.name != PRIVATE)
            if any(self._private.iterdir()):
                shutil.rmtree(self._private)
                self._private.mkdir()
        if strangers:
            return Crash("a write elsewhere", f"made {strangers} beside its directory", content)
        grown = (_memory(peak=True) - before) // MIB
        if grown > self._subject.memory_mib:
            return Crash("memory", f"took {grown} MiB of memory, more than {self._subject.memory_mib}", content)
        return None

    def _of_error(self, error: BackupError) -> str | None:
        if REASON.fullmatch(error.reason) is None:
            return "a reason that is no word"
        if not isinstance(error, Permanent) and not self._subject.transient:
            return "an error that is to be tried again"
        if not error.message.isprintable() or len(error.message) > MESSAGE_LIMIT:
            return "a message that is too long or cannot be shown"
        return "a secret in the message" if SECRET in error.message else None


def _place(error: BaseException) -> str:
    """The last line of our package on the way, else the last at all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if "/weaviate_backup/" in each.filename] or list(frames[-1:])
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "nowhere"


# Memory of the process, as the kernel counts it: codecs and parsers take theirs beside Python's


def _memory(*, peak: bool = False) -> int:
    """Bytes now, from where the peak is counted anew; or the peak since."""
    with open("/proc/self/status", "rb") as status:  # noqa: PTH123
        text = status.read()
    if not peak:
        with open("/proc/self/clear_refs", "wb") as control:  # noqa: PTH123
            control.write(b"5")
    return int(text.split(b"VmHWM:" if peak else b"VmRSS:", 1)[1].split(None, 1)[0]) << 10


# Writes, as the interpreter tells of them

_allowed: list[str] = []
_strange: list[str] = []


@contextlib.contextmanager
def _only_below(directory: Path) -> Iterator[None]:
    _strange.clear()
    _allowed.append(f"{directory}{os.sep}")
    try:
        yield
    finally:
        _allowed.pop()
    if _strange:
        raise Broken(f"wrote to {_strange[0]}")


def _watch_writes() -> None:
    if not _watch_writes.__dict__.setdefault("on", False):
        _watch_writes.__dict__["on"] = True
        sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Names that are relative to a descriptor are one part; a place resolves the rest."""
    if not _allowed:
        return
    if event == "open":
        name, _, flags = arguments
        writes = bool(flags & WRITES)
    else:
        name, writes = arguments[0] if arguments else None, event in ("os.mkdir", "os.rename", "os.link", "os.symlink")
    if not writes or not isinstance(name, str | bytes):
        return
    path = os.fsdecode(name)
    inside = path.startswith((_allowed[-1], "/proc/self/fd/")) and ".." not in Path(path).parts
    if not inside and os.sep in path:
        _strange.append(path)
