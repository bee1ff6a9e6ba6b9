"""`e2e/fuzz [FORMAT…] [--minutes N] [--seed S]`: each format in a process of its own, one after the other.

Prints what was read, refused and found, and for each fault the smallest document that shows it, as a command that tries
it again. Ends non-zero when there is a fault.
"""

import argparse
import base64
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import zlib
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from e2e.fuzzing.asked_formats import FORMATS as ASKED
from e2e.fuzzing.judging import Crash, Format, Judge
from e2e.fuzzing.searching import Found, search
from e2e.fuzzing.stock_seeds import stock_backups
from e2e.fuzzing.stored_formats import FORMATS as STORED
from e2e.fuzzing.volume_formats import FORMATS as ON_VOLUMES
from e2e.fuzzing.whole_backup import FORMATS as WHOLE

FORMATS: dict[str, Format] = {each.name: each for each in (*STORED, *WHOLE, *ON_VOLUMES, *ASKED)}
ADDRESS_SPACE_BYTES = 4 << 30
"""What a process may map, over what it has mapped when it starts: a bomb ends in it and not in the machine."""
ROW = "{:17} {:>7} {:>6} {:>10} {:>10} {:>6} {:>6} {:>6}"
LATE_SECONDS = 240.0
"""After its time a process may still make a document small."""


def main() -> None:
    arguments = _parse(sys.argv[1:])
    if arguments.case:
        sys.exit(_again(FORMATS[arguments.formats[0]], unpacked_case(arguments.case)))
    stock = None if arguments.no_stock else stock_backups()
    print(
        f"seed {arguments.seed}, {arguments.minutes:g} minutes for each of {len(arguments.formats)} formats", flush=True
    )
    print(ROW.format("format", "minutes", "cpu", "documents", "refused", "arcs", "corpus", "faults"))
    faults = 0
    for name in arguments.formats:
        found = in_own_process(name, seconds=60 * arguments.minutes, start=arguments.seed, stock=stock)
        faults += len(found.crashes)
        tell(found)
    sys.exit(1 if faults else 0)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/fuzz", description="Gives damaged and hostile documents to every reader."
    )
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"all, or some of {', '.join(FORMATS)}")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each format (1)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of all that is drawn"
    )
    parser.add_argument("--no-stock", action="store_true", help="without backups that a real server makes first")
    parser.add_argument("--case", help="try this one document, as a fault was printed")
    parsed = parser.parse_args(arguments)
    unknown = [name for name in parsed.formats if name not in FORMATS]
    if unknown or (parsed.case and len(parsed.formats) != 1):
        parser.error(f"no format {unknown[0]!r}" if unknown else "--case needs one format")
    parsed.formats = parsed.formats or list(FORMATS)
    return parsed


def in_own_process(name: str, *, seconds: float, start: int, stock: Path | None) -> Found:
    """A process that dies or hangs is a fault of the document it had."""
    context = multiprocessing.get_context("spawn")
    budget = {"seconds": seconds, "start": start, "stock": stock}
    receiving, sending = context.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile(prefix="weaviate-backup-fuzz-") as last:
        process = context.Process(target=_search, args=(name, last.name, sending), kwargs=budget)
        began = time.monotonic()
        process.start()
        sending.close()
        found: Found | None = None
        try:
            if receiving.poll(seconds + LATE_SECONDS):
                found = receiving.recv()
            else:
                process.kill()
        except EOFError:
            pass
        process.join()
        if found is None:
            size = int.from_bytes(last.read(8), "big")
            how = f"the process ended with {process.exitcode} (a signal, when negative)"
            found = Found(name, start, seconds=time.monotonic() - began)
            found.crashes["the process"] = Crash("the process", how, last.read(size))
        return found


def _search(name: str, last: str, answer: Connection, **budget: Any) -> None:
    file = os.open(last, os.O_WRONLY)

    def note(content: bytes) -> None:
        os.pwrite(file, len(content).to_bytes(8, "big") + content, 0)

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_SPACE_BYTES, mapped + ADDRESS_SPACE_BYTES))
    answer.send(search(FORMATS[name], note=note, **budget))


def tell(found: Found) -> None:
    """A line, and what is to be known of each fault."""
    minutes, processor_minutes = f"{found.seconds / 60:.1f}", f"{found.processor_seconds / 60:.1f}"
    refused = sum(found.refused.values())
    counts = (found.documents, refused, found.arcs, found.kept, len(found.crashes))
    print(ROW.format(found.name, minutes, processor_minutes, *counts), flush=True)
    for where, crash in found.crashes.items():
        print(f"\n{found.name}: {where} ({found.again.get(where, 1)} times)\n{crash.what}")
        print(f"{len(crash.content)} bytes: {crash.content[:400]!r}{'…' if len(crash.content) > 400 else ''}")
        print(f"again: e2e/fuzz {found.name} --case {packed_case(crash.content)}\n", flush=True)


def packed_case(content: bytes) -> str:
    """A document as a word of a command."""
    return base64.urlsafe_b64encode(zlib.compress(content, 9)).decode()


def unpacked_case(word: str) -> bytes:
    return zlib.decompress(base64.urlsafe_b64decode(word))


def _again(subject: Format, content: bytes) -> int:
    with tempfile.TemporaryDirectory(prefix="weaviate-backup-fuzz-") as directory:
        judge = Judge(subject, Path(directory), None)
        crash = judge.judge(content)
        judge.reading.close()
    print(
        f"{subject.name}: {crash.where}\n{crash.what}"
        if crash
        else f"{subject.name}: no rule is broken {judge.refused}"
    )
    return 1 if crash else 0


if __name__ == "__main__":
    main()
