"""The steps of the demo, in the lab: load, back up, destroy, restore, compare. Non-zero unless all of it is well."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.cluster import manifests, objects
from e2e.cluster.diagnosis import diagnosis
from e2e.cluster.following import NotFinished, follow
from e2e.cluster.kubectl import Kubectl, KubectlError
from e2e.cluster.operation_view import OperationView
from e2e.cluster.surroundings import NotInLab, StoreOfAnyKind, Surroundings, surroundings
from e2e.dataset.comparison import compare, uneven_replicas
from e2e.dataset.loading import load, remove
from e2e.dataset.observation import Observation, observe, wait_until_answering
from e2e.dataset.shapes import Dataset, demo_dataset
from e2e.dataset.weaviate_http import Weaviate
from e2e.show.demo_report import DemoReport, Transfer, table, transfer
from e2e.show.screen import Screen, megabytes

OPERATION_SECONDS = 300
LOCATION_SECONDS = 120
NAME = "demo"


class JourneyFailed(Exception):
    """Something did not end as it should; the message says what."""


class Journey:
    """Carries the lab, the screen and the data set from step to step."""

    def __init__(self, lab: Surroundings, store: StoreOfAnyKind, screen: Screen, dataset: Dataset) -> None:
        self._lab, self._store, self._screen, self._dataset = lab, store, screen, dataset
        self._kubectl = Kubectl(lab.namespace)
        self._weaviate = Weaviate(lab.weaviate_urls[0])

    def run(self) -> DemoReport:
        started = time.monotonic()
        version = self._weaviate.version()
        load_seconds = self._load(version)
        before = self._observe()
        self._locate()
        made = self._operate(manifests.backup(NAME, location=NAME))
        stored = self._inspect_store()
        self._destroy()
        brought_back = self._operate(manifests.restore(NAME, source={"backupRef": {"name": NAME}}))
        wait_until_answering(self._lab.weaviate_urls, [shape.name for shape in self._dataset.shapes])
        after = self._observe()
        differences = (*compare(before, after), *uneven_replicas(after))
        return DemoReport(
            store=self._store.kind,
            weaviate_version=version,
            nodes=len(self._lab.weaviate_urls),
            objects_loaded=self._dataset.total_objects,
            load_seconds=round(load_seconds, 2),
            backup=made,
            stored_objects=len(stored),
            stored_bytes=sum(stored.values()),
            restore=brought_back,
            questions=_questions(before),
            differences=differences,
            total_seconds=round(time.monotonic() - started, 1),
        )

    def _load(self, version: str) -> float:
        nodes = len(self._lab.weaviate_urls)
        self._screen.title(f"1. Data in a Weaviate {version} of {nodes} nodes")
        self._weaviate.wait_until_synchronized(nodes=nodes)
        remove(self._weaviate, self._dataset)
        started = time.monotonic()
        with self._screen.counting("loaded", self._dataset.total_objects) as counter:
            load(self._weaviate, self._dataset, on_batch=counter.add)
        for shape in self._dataset.shapes:
            factor = shape.definition["replicationConfig"]["factor"]
            tenants = f", {len(shape.active_tenants)} active and {len(shape.inactive_tenants)} inactive tenants"
            objects = shape.objects * len(shape.tenants)
            remark = tenants if shape.active_tenants else ""
            self._screen.line(f"  {shape.name:<8} {objects:>7,} objects, replication factor {factor}{remark}")
        return time.monotonic() - started

    def _observe(self) -> Observation:
        self._screen.line("  looking at every object, searches, filters, places, tenants, aliases, replicas …")
        return observe(self._lab.weaviate_urls, self._dataset)

    def _locate(self) -> None:
        self._screen.title("2. Where backups lie")
        made = manifests.location(NAME, self._store, path=NAME)
        self._screen.manifest(made[-1])
        self._kubectl.apply(*made)
        with self._timed("location is Ready: written to, read from, listed and deleted by a probe"):
            self._kubectl.wait("weaviatebackuplocation", NAME, "condition=Ready", timeout_seconds=LOCATION_SECONDS)

    def _operate(self, manifest: manifests.Manifest) -> Transfer:
        kind = manifest["kind"]
        self._screen.title("3. A backup" if kind == "WeaviateBackup" else "5. The restore")
        self._screen.manifest(manifest)
        entered: dict[str, float] = {}
        started = time.monotonic()
        self._kubectl.apply(manifest)

        def noted() -> Iterator[OperationView]:
            for state in follow(self._kubectl, kind.lower(), NAME, timeout_seconds=OPERATION_SECONDS):
                entered.setdefault(state.phase, time.monotonic() - started)
                yield state

        last = self._screen.follow(noted())
        if not last.is_completed:
            raise JourneyFailed(f"the {kind} ended {last.phase}: {last.reason}: {last.message}")
        return transfer(last, entered=entered)

    def _inspect_store(self) -> dict[str, int]:
        stored = objects.listing(self._store, f"{NAME}/")
        self._screen.line(f"[green]✓[/] {len(stored)} objects in the store, {megabytes(sum(stored.values()))}:")
        shown = sorted(stored)[:8]
        for key in shown:
            self._screen.line(f"  [dim]{stored[key]:>12,}  {key}[/]")
        if len(stored) > len(shown):
            self._screen.line(f"  [dim]… and {len(stored) - len(shown)} more[/]")
        return stored

    def _destroy(self) -> None:
        self._screen.title("4. The accident")
        remove(self._weaviate, self._dataset)
        left = self._weaviate.collections()
        if left:
            raise JourneyFailed(f"collections are still there after they were deleted: {', '.join(left)}")
        self._screen.line("all collections and the alias are deleted; the schema is empty")

    @contextmanager
    def _timed(self, text: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._screen.line(f"[green]✓[/] {text}  [dim]{time.monotonic() - started:.1f} s[/]")


def _questions(observed: Observation) -> int:
    """How many answers stand on each side of the comparison."""
    return sum(
        len(part)
        for part in (
            observed.definitions, observed.counts, observed.fingerprints, observed.rankings,
            observed.selections, observed.aliases, observed.tenants, observed.held,
        )
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="e2e/demo", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument(
        "--objects", type=int, default=30_000, metavar="N", help="how many objects (default %(default)s)"
    )
    parser.add_argument("--store", default="s3", metavar="KIND", help="s3, gcs, azure or filesystem (%(default)s)")
    options = parser.parse_args()
    screen = Screen()
    try:
        lab = surroundings()
        store = lab.store_of_kind(options.store)
    except NotInLab as error:
        screen.error(str(error))
        return 2
    outcome: dict[str, Any]
    try:
        dataset = demo_dataset(objects=options.objects, replicas=len(lab.weaviate_urls))
        report = Journey(lab, store, screen, dataset).run()
    except (JourneyFailed, NotFinished, KubectlError, TimeoutError) as error:
        for title, text in diagnosis(lab):
            screen.block(title, text)
        screen.error(str(error))
        outcome = {"ok": False, "error": str(error)}
    else:
        screen.title("What happened")
        screen.console.print(table(report))
        for difference in report.differences:
            screen.error(difference)
        outcome = dict(report.as_json())
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=2) + "\n")
    return 0 if outcome["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
