"""Ours and the server's own backup, alternating on the same data, store and machine: python -m e2e.bench.side_by_side.

Every figure is measured in this run. A restored collection is compared with the original, so that nothing wins by
doing less.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.bench import bulk, server_backup
from e2e.bench.agent_memory import AgentMemory
from e2e.cluster import bucket, manifests
from e2e.cluster.diagnosis import diagnosis
from e2e.cluster.following import follow
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.surroundings import Surroundings, surroundings
from e2e.dataset.observation import wait_until_answering
from e2e.dataset.weaviate_http import Weaviate
from e2e.show.screen import Screen
from rich.table import Table

OPERATION_SECONDS = 600
OURS = "ours"
SERVER_ZSTD = "server, ZstdBestSpeed"
SERVER_GZIP = "server, DefaultCompression"
LEVELS = {SERVER_ZSTD: "ZstdBestSpeed", SERVER_GZIP: "DefaultCompression"}


@dataclass(frozen=True)
class Run:
    """One backup or restore. `phases`: seconds spent in each, as seen by a watch; ours only."""

    tool: str
    seconds: float
    bytes_stored: int = 0
    objects: int = 0
    peak_agent_bytes: int = 0
    longest_halt_seconds: float | None = None
    phases: dict[str, float] | None = None


class OperationFailed(Exception):
    """The message says how it ended."""


class Bench:
    """The lab and what was measured in it."""

    def __init__(self, lab: Surroundings, screen: Screen) -> None:
        self._lab, self._screen = lab, screen
        self._kubectl = Kubectl(lab.namespace)
        self._weaviate = Weaviate(lab.weaviate_urls[0])
        self._stamp = f"{int(time.monotonic())}"

    def load(self, *, objects: int, dimensions: int, shards: int) -> int:
        """Bytes of the collection on the data volumes."""
        self._weaviate.wait_until_synchronized(nodes=len(self._lab.weaviate_urls))
        self._weaviate.delete_collection(bulk.COLLECTION)
        bulk.create(self._weaviate, shards=shards)
        with self._screen.counting("loaded", objects) as counter:
            bulk.fill(self._weaviate, objects=objects, dimensions=dimensions, on_batch=counter.add)
        volumes = [self._lab.volume(number) for number in range(len(self._lab.weaviate_urls))]
        return sum(
            path.stat().st_size
            for root in volumes
            for path in (root / bulk.COLLECTION.lower()).rglob("*")
            if path.is_file()
        )

    def backups(self, rounds: int) -> Iterator[Run]:
        for number in range(rounds):
            yield self._ours_backup(f"bench-{self._stamp}-{number}")
            for tool, level in LEVELS.items():
                yield self._server_backup(tool, level, f"bench-{self._stamp}-{number}-{level.lower()}")

    def restores(self, rounds: int, *, objects: int, dimensions: int) -> Iterator[Run]:
        """Each brings the collection back after it was deleted, and must bring the same data."""
        before = bulk.fingerprint(self._weaviate, objects=objects, dimensions=dimensions)
        for number in range(rounds):
            for run in (self._ours_restore, self._server_restore):
                self._weaviate.delete_collection(bulk.COLLECTION)
                yield run(number)
                wait_until_answering(self._lab.weaviate_urls, [bulk.COLLECTION])
                if bulk.fingerprint(self._weaviate, objects=objects, dimensions=dimensions) != before:
                    raise OperationFailed("the restored collection differs from the original")

    def _ours_backup(self, name: str) -> Run:
        manifest = manifests.backup(name, include=[bulk.COLLECTION])
        with AgentMemory() as memory:
            run = self._operate(manifest)
        stored = bucket.listing(self._lab.store, f"{name}/")
        return Run(**{**asdict(run), "bytes_stored": sum(stored.values()), "objects": len(stored),
                      "peak_agent_bytes": memory.largest_bytes})  # fmt: skip

    def _ours_restore(self, number: int) -> Run:
        source = {"backupRef": {"name": f"bench-{self._stamp}-0"}}
        with AgentMemory() as memory:
            run = self._operate(manifests.restore(f"bench-{self._stamp}-{number}", source=source))
        return Run(**{**asdict(run), "peak_agent_bytes": memory.largest_bytes})

    def _server_backup(self, tool: str, level: str, identifier: str) -> Run:
        done = server_backup.back_up(self._weaviate, identifier, level=level, include=(bulk.COLLECTION,))
        stored = bucket.listing(self._lab.store, f"{identifier}/")
        return Run(tool, round(done.seconds, 2), bytes_stored=sum(stored.values()), objects=len(stored))

    def _server_restore(self, _: int) -> Run:
        done = server_backup.restore(self._weaviate, f"bench-{self._stamp}-0-zstdbestspeed")
        return Run(SERVER_ZSTD, round(done.seconds, 2))

    def _operate(self, manifest: manifests.Manifest) -> Run:
        kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
        entered: dict[str, float] = {}
        started = time.monotonic()
        self._kubectl.apply(manifest)
        for view in follow(self._kubectl, kind, name, timeout_seconds=OPERATION_SECONDS):
            entered.setdefault(view.phase, time.monotonic() - started)
        if not view.is_completed:
            raise OperationFailed(f"{kind} {name} ended {view.phase}: {view.reason}: {view.message}")
        ends = [*list(entered.values())[1:], entered["Completed"]]
        phases = {phase: round(end - begin, 2) for (phase, begin), end in zip(entered.items(), ends, strict=True)}
        phases.pop("Completed")
        return Run(OURS, round(entered["Completed"], 2), longest_halt_seconds=view.longest_halt_seconds, phases=phases)


def medians(runs: list[Run]) -> dict[str, float]:
    return {
        tool: statistics.median(run.seconds for run in runs if run.tool == tool)
        for tool in dict.fromkeys(run.tool for run in runs)
    }


def table(title: str, runs: list[Run]) -> Table:
    """Median, every time, and how many times as long as ours."""
    made = Table(title=title, title_justify="left")
    for heading in ("", "median", "all", "times ours", "stored", "objects", "peak agent memory", "longest halt"):
        made.add_column(heading)
    middle = medians(runs)
    for tool, seconds in middle.items():
        mine = [run for run in runs if run.tool == tool]
        peak = max(run.peak_agent_bytes for run in mine)
        halts = [run.longest_halt_seconds for run in mine if run.longest_halt_seconds is not None]
        made.add_row(
            tool,
            f"{seconds:.1f} s",
            " ".join(f"{run.seconds:.1f}" for run in mine),
            f"{seconds / middle[OURS]:.2f}",
            f"{mine[-1].bytes_stored / 1e6:,.0f} MB" if mine[-1].bytes_stored else "",
            str(mine[-1].objects or ""),
            f"{peak / 1e6:,.0f} MB" if peak else "",
            f"{max(halts) * 1000:.0f} ms" if halts else "",
        )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(prog="e2e/bench/run", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    parser.add_argument("--objects", type=int, default=150_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lab, screen = surroundings(), Screen()
    bench = Bench(lab, screen)
    shape = {"objects": options.objects, "dimensions": options.dimensions}
    runs: dict[str, list[Run]] = {"backup": [], "restore": []}
    try:
        size_bytes = bench.load(**shape, shards=options.shards)
        screen.line(f"{size_bytes / 1e6:,.0f} MB on disk")
        for kind, source in (
            ("backup", bench.backups(options.rounds)),
            ("restore", bench.restores(options.rounds, **shape)),
        ):
            for run in source:
                runs[kind].append(run)
                screen.line(f"{kind:<8} {run.tool:<28} {run.seconds:6.1f} s  {run.phases or ''}")
    except Exception:
        for title, text in diagnosis(lab):
            screen.block(title, text)
        raise
    for kind, measured in runs.items():
        screen.console.print(table(f"{kind} of {size_bytes / 1e6:,.0f} MB in {options.shards} shard(s)", measured))
    if options.json:
        figures = {kind: [asdict(run) for run in measured] for kind, measured in runs.items()}
        options.json.write_text(
            json.dumps({**vars(options), "json": None, "bytes": size_bytes, **figures}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
