"""Our stores beside the plainest client of the same server: `python -m e2e.bench.store_throughput [--kinds s3 …]`.

The same random bytes are put by each, in turn, the order changing with every round, on a server that was started for
it; what ours put is then got by both. Each load is a process of its own. The plain client sends one request for each
object over several connections, without checksums or retries; and where an object whose size nobody knows beforehand
must be put in parts, it also puts such parts. A table at the end tells our share of both speeds (median over rounds)
and our peak memory above a bare interpreter.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from e2e.bench.store_kinds import KINDS, Kind
from e2e.bench.store_load import Load, Measured, PlainObject
from rich.console import Console
from rich.table import Table

from weaviate_backup.agent.cgroup import available_cpus, stream_count, worker_count
from weaviate_backup.storage.s3 import PART_BYTES

MIB = 1 << 20
CPU_PERCENTAGE = 50
"""Of a backup, by default."""
BARE = "from e2e.bench.store_load import peak_bytes; print(peak_bytes())"
Who = Literal["ours", "plain", "parts"]
Verb = Literal["put", "get"]
WHO: tuple[Who, ...] = ("plain", "parts", "ours")


@dataclass(frozen=True)
class Run:
    """One load. Throughput in MiB per second."""

    kind: str
    verb: Verb
    who: Who
    round_number: int
    mib_per_second: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Shape:
    """How much, and how many objects at once."""

    objects: int
    object_bytes: int
    streams: int
    connections: int


def loaded(load: Load) -> Measured:
    os.sync()  # what the load before left unwritten is not to be paid by this one
    done = subprocess.run(
        [sys.executable, "-m", "e2e.bench.store_load"],
        input=json.dumps(asdict(load)), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return Measured(**json.loads(done.stdout))


def bare_interpreter_bytes() -> int:
    return int(subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=True).stdout)


def asked(kind: Kind, shape: Shape, keys: tuple[str, ...], *, verb: Verb, who: Who) -> tuple[PlainObject, ...]:
    if who == "parts" and kind.in_parts:
        return tuple(kind.in_parts(key, shape.object_bytes // PART_BYTES) for key in keys)
    return tuple(kind.plain(verb, key) for key in keys) if who == "plain" and kind.plain else ()


def run(name: str, kind: Kind, shape: Shape, *, round_number: int, verb: Verb, who: Who) -> Run:
    keys = tuple(f"object-{number}" for number in range(shape.objects))
    plain = asked(kind, shape, keys, verb=verb, who=who)
    at_once = shape.streams if who == "ours" else shape.connections
    load = Load(who, verb, kind.location, kind.credentials, str(kind.root), keys, shape.object_bytes, at_once, plain)
    measured = loaded(load)
    mib = shape.objects * shape.object_bytes / MIB
    return Run(name, verb, who, round_number, mib / measured.seconds, measured.cpu_seconds, measured.peak_bytes)


def rounds(name: str, shape: Shape, *, count: int, console: Console) -> list[Run]:
    runs = []
    for number in range(count):
        order = WHO if number % 2 == 0 else WHO[::-1]
        for who in order:
            with started(name) as kind:
                if who == "parts" and not kind.in_parts:
                    continue
                loads: list[tuple[Verb, Who]] = [("put", who)]
                if who == "ours":  # both get the same: a server may be slower with objects that were put in parts
                    loads += [("get", reader) for reader in order if reader != "parts"]
                for verb, whose in loads:
                    runs.append(run(name, kind, shape, round_number=number, verb=verb, who=whose))
                    console.print(
                        f"{name:<11} {verb} {whose:<6} {runs[-1].mib_per_second:8,.0f} MiB/s", highlight=False
                    )
    return runs


@contextmanager
def started(name: str) -> Iterator[Kind]:
    """A server that nobody used before: azurite is several times slower after thousands of blocks, whoever put them."""
    directory = Path(tempfile.mkdtemp(prefix="store-bench-"))
    try:
        with KINDS[name](directory) as kind:
            yield kind
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def table(runs: list[Run], shape: Shape, bare_bytes: int) -> Table:
    gib = shape.objects * shape.object_bytes / MIB / 1024
    title = f"{gib:g} GiB in objects of {shape.object_bytes // MIB} MiB; memory above the interpreter"
    made = Table(title=title, title_justify="left")
    headings = ("kind", "", "plain, MiB/s", "in parts", "ours", "share of plain", "of parts", "memory")
    for heading in headings:
        made.add_column(heading)
    for name, verb in dict.fromkeys((each.kind, each.verb) for each in runs):
        of = {(each.who, each.round_number): each for each in runs if (each.kind, each.verb) == (name, verb)}
        speeds = {who: [each.mib_per_second for (whose, _), each in of.items() if whose == who] for who in WHO}
        peak = max(each.peak_bytes for each in of.values() if each.who == "ours") - bare_bytes
        made.add_row(
            name, verb,
            *(f"{statistics.median(speeds[who]):,.0f}" if speeds[who] else "" for who in WHO),
            shares(speeds["ours"], speeds["plain"]), shares(speeds["ours"], speeds["parts"]),
            f"{peak / MIB:,.0f} MiB",
        )  # fmt: skip
    return made


def shares(ours: list[float], theirs: list[float]) -> str:
    """Of every round, and their median first; nothing of those who were not measured."""
    if not theirs:
        return ""
    found = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(found):.0%} ({' '.join(f'{share:.0%}' for share in found)})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--size", type=int, default=1024, help="MiB in all")
    parser.add_argument("--object-size", type=int, default=128, help="MiB of one object; a chunk has 128 by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, help="objects at once; by default as an agent here")
    parser.add_argument("--connections", type=int, default=4, help="of the plain client")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options = parser.parse_args()
    streams = options.streams or stream_count(worker_count(CPU_PERCENTAGE, available_cpus()))
    shape = Shape(options.size // options.object_size, options.object_size * MIB, streams, options.connections)
    console, runs, bare_bytes = Console(), list[Run](), bare_interpreter_bytes()
    for name in options.kinds:
        runs += rounds(name, shape, count=options.rounds, console=console)
    console.print(table(runs, shape, bare_bytes))
    if options.json:
        figures: dict[str, Any] = {
            "shape": asdict(shape),
            "bare_bytes": bare_bytes,
            "runs": [asdict(each) for each in runs],
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
