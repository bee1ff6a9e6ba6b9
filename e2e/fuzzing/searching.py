"""The search of one format for a time: spoil, judge, keep what went new ways, make small what broke a rule.

What a document reaches is seen by the interpreter's trace of our package; documents that reach something new join the
corpus. Batches are spoiled from it by a generator with a seed, now and then by Hypothesis, which looks for limits and
takes steps away from a document that broke a rule. Bytes are taken away from any that did.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from e2e.fuzzing.judging import Crash, Format, Judge
from e2e.fuzzing.spoiling import Quick, drawn, spoiled, unpacked
from hypothesis import HealthCheck, Phase, given, seed, settings

import weaviate_backup

BATCH = 200
DRAWN_EVERY = 50
TRACED_EVERY = 5
"""Of the batches: a trace makes a reader take four times as long."""
MOST_KEPT = 3000
KEPT_BYTES = 64 << 10
SHRINK_SECONDS = 20.0
PACKAGE = str(Path(weaviate_backup.__file__).parent)
Arc = tuple[CodeType, int, int]


@dataclass
class Found:
    """Of one format. `crashes` by `where`, each the smallest document that was found; `again`: how often it came."""

    name: str
    seed: int
    documents: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    processor_seconds: float = 0.0
    arcs: int = 0
    kept: int = 0
    crashes: dict[str, Crash] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)


class _Broke(Exception):
    """For Hypothesis, that a document is a crash."""


def search(
    subject: Format,
    *,
    seconds: float,
    start: int,
    stock: Path | None = None,
    note: Callable[[bytes], None] = lambda content: None,
    batch_size: int = BATCH,
    batches: int | None = None,
) -> Found:
    """For that time, or so many batches. `note` is told each document before it is read."""
    found, began, used = Found(subject.name, start), time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="weaviate-backup-fuzz-", dir=_memory_disk()) as directory:
        judge, arcs = Judge(subject, Path(directory), stock), set[Arc]()
        corpus = list(judge.reading.corpus)
        known, batch = found.crashes, 0

        def try_one(content: bytes) -> Crash | None:
            note(content)
            found.documents += 1
            if batch % TRACED_EVERY:
                return judge.judge(content)
            fresh: set[Arc] = set()
            with _traced(fresh):
                crash = judge.judge(content)
            if not fresh <= arcs:
                arcs.update(fresh)
                if len(corpus) < MOST_KEPT and len(content) <= KEPT_BYTES:
                    corpus.append(content)
            return crash

        for content in judge.reading.corpus:
            if (crash := try_one(content)) is not None:
                known.setdefault(crash.where, crash)
        while time.monotonic() - began < seconds and (batches is None or batch < batches):
            search_batch = _drawn_batch if batch % DRAWN_EVERY == 0 else _quick_batch
            crash = search_batch(_Batch(subject, corpus[:], try_one, found, batch_size), start + batch)
            if crash is not None:
                known[crash.where] = _small(crash, judge)
            batch += 1
        found.refused, found.arcs, found.kept = judge.refused, len(arcs), len(corpus)
        judge.reading.close()
    found.seconds, found.processor_seconds = time.monotonic() - began, time.process_time() - used
    return found


@dataclass(frozen=True)
class _Batch:
    subject: Format
    corpus: list[bytes]
    try_one: Callable[[bytes], Crash | None]
    found: Found
    size: int


def _quick_batch(batch: _Batch, number: int) -> Crash | None:
    """The document of the first new fault among those of a batch."""
    choose = Quick(number)
    for _ in range(batch.size):
        crash = batch.try_one(spoiled(choose, batch.corpus, batch.subject.spoil))
        if crash is not None and _is_new(crash, batch.found):
            return crash
    return None


def _is_new(crash: Crash, found: Found) -> bool:
    if crash.where in found.crashes:
        found.again[crash.where] = found.again.get(crash.where, 1) + 1
        return False
    return True


def _drawn_batch(batch: _Batch, number: int) -> Crash | None:
    """The same, and Hypothesis takes away the steps that it does not need."""
    last: list[Crash] = []
    until: list[float] = []

    @seed(number)
    @settings(
        max_examples=batch.size,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(content=drawn(batch.corpus, batch.subject.spoil))
    def take(content: bytes) -> None:
        if until and time.monotonic() > until[0]:
            return  # it is small enough
        crash = batch.try_one(content)
        if crash is None or (last and crash.where != last[0].where) or not _is_new(crash, batch.found):
            return
        until[:] = until or [time.monotonic() + SHRINK_SECONDS]
        last.append(crash)
        raise _Broke

    try:
        take()
    except BaseException as error:
        if not last or not isinstance(error, Exception):
            raise
    return min(last, key=lambda each: len(each.content), default=None)


def _small(crash: Crash, judge: Judge) -> Crash:
    """Without the bytes that it does not need, of what is packed those inside."""
    inner, pack = unpacked(crash.content)
    if judge.judge(pack(inner)) is None:
        inner, pack = crash.content, bytes
    until, size = time.monotonic() + SHRINK_SECONDS, max(1, len(inner) // 2)
    while time.monotonic() < until:
        at, shorter = 0, False
        while at < len(inner) and time.monotonic() < until:
            less = inner[:at] + inner[at + size :]
            again = judge.judge(pack(less))
            if again is not None and again.where == crash.where:
                crash, inner, shorter = again, less, True
            else:
                at += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return crash


@contextmanager
def _traced(arcs: set[Arc]) -> Iterator[None]:
    """From which line to which line our package went."""

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return None
        before = 0

        def step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                arcs.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return step

        return step

    outer = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(outer)


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
