"""One round: data, changes, a backup with victims, the accident, a restore with victims, and all promises."""

import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from e2e.bench import server_backup
from e2e.chaos_rounds import promises, seeing
from e2e.chaos_rounds.api_reading import read_operation
from e2e.chaos_rounds.changing import ALIAS, FACTORS, Changes
from e2e.chaos_rounds.drawing import AT_THE_SERVER, BACKUP_PHASES, RESTORE_PHASES, STILL, Round, Strike
from e2e.chaos_rounds.ground import FAILURES, LOCATION, Ground, NotWell, patiently
from e2e.chaos_rounds.judging import Span, of_what_lived, without_excused, written_again
from e2e.chaos_rounds.log_keeping import LogKeeper
from e2e.chaos_rounds.victims import Striking, Victims
from e2e.cluster import manifests
from e2e.cluster.operation_view import TERMINAL
from e2e.dataset.comparison import compare, uneven_replicas
from e2e.dataset.kinds import kinds_dataset
from e2e.dataset.loading import load, remove
from e2e.dataset.observation import Observation, wait_until_answering
from e2e.dataset.shapes import Dataset, small_dataset

from weaviate_backup.core.restore_machine import PLACED_STAYS

TIMEOUT = "150s"
LOAD_SECONDS = 240
END_SECONDS = 480
"""spec.timeout, three leases with their margins for whoever does not answer, and some air."""
LOOK_SECONDS = 0.25
GONE = "Gone"
MOST_TOLD = 12
"""Broken promises of one kind."""


@dataclass
class Outcome:
    """What became of a round. `broken`: promises that did not hold; `notes`: what is worth a word and no fault."""

    drawn: Round
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    statuses: list[Any] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    seconds: float = 0
    prepared: bool = False
    """What failed before that is no promise of ours: the machine is too busy, or the servers do not come up."""


def still_dataset() -> Dataset:
    """What nobody changes, a little of each kind: replicas, flat and graph indexes, places, tenants, named vectors."""
    few = small_dataset(objects=900, replicas=3)
    named = [shape for shape in kinds_dataset(asynchronous=False, replicas=3).shapes if shape.name == "Named"]
    return Dataset((*few.shapes, *named), few.aliases)


class Rounds:
    """All rounds of one lab."""

    def __init__(self, ground: Ground, keeper: LogKeeper) -> None:
        self._ground, self._keeper = ground, keeper
        self._victims = Victims(ground)
        self._dataset = still_dataset()
        self.known: Observation | None = None
        """The data that nobody changes as it was seen last; None: it has to be loaded."""

    def run(self, drawn: Round) -> Outcome:
        outcome = Outcome(drawn)
        started = time.monotonic()
        try:
            _RoundRun(self, outcome).run()
        except NotWell as error:
            outcome.broken.append(f"the cluster does not come back: {error}")
        except _Unjudged as error:
            outcome.broken.append(str(error))
        except (*FAILURES, server_backup.ServerBackupFailed) as error:
            where = traceback.extract_tb(error.__traceback__)
            steps = [frame.name for frame in where if "chaos_rounds" in frame.filename]
            outcome.broken.append(f"the round could not go on in {' > '.join(steps)}: {type(error).__name__}: {error}")
        finally:
            self._victims.heal()
        outcome.seconds = time.monotonic() - started
        return outcome

    def make_well(self, outcome: Outcome) -> None:
        """After a minute Weaviate's pods are made anew: a server that does not come back by itself is not ours."""
        self._victims.heal()
        try:
            self._ground.wait_until_well(seconds=75)
        except NotWell as error:
            outcome.notes.append(f"Weaviate's pods were made anew: {error!s:.150}")
            for name in self._ground.lab.weaviate_nodes:
                patiently(partial(self._ground.delete_pod, name))
            self._ground.wait_until_well()


class _Unjudged(Exception):
    """The round cannot go on; the message is a broken promise."""


class _RoundRun:
    """The steps of one round."""

    def __init__(self, rounds: Rounds, outcome: Outcome) -> None:
        self._rounds, self._outcome, self._drawn = rounds, outcome, outcome.drawn
        self._ground, self._victims, self._dataset = rounds._ground, rounds._victims, rounds._dataset
        self._uids: list[str] = []
        self._excused: list[str] = []
        self._by_server = self._drawn.by_server or self._drawn.method == "Server"

    def run(self) -> None:
        drawn = self._drawn
        self._rounds.make_well(self._outcome)
        before, changes = self._prepare()
        changes.start()
        time.sleep(drawn.before_seconds)
        name = f"r{drawn.seed}-{drawn.number}"
        span, resource = self._back_up(name, drawn.backup_strikes)
        time.sleep(0.5)
        changes.stop()
        self._rounds.make_well(self._outcome)
        living = self._look_at_the_living(before, changes)
        self._after_backup(name, resource)
        if _phase(resource) != "Completed":
            name = f"{name}-again"
            span, resource = self._back_up(name, ())
            if _phase(resource) != "Completed":
                raise _Unjudged(f"a backup of a healthy cluster ended {_words(resource)}")
            self._after_backup(name, resource)
        self._remove()
        self._restore(name)
        self._compare(before, living, changes, span)
        self._finish()

    def _prepare(self) -> tuple[Observation, Changes]:
        ground, rounds = self._ground, self._rounds
        if rounds.known is None:
            patiently(self._load, seconds=LOAD_SECONDS)
            ground.restart_weaviate()
            rounds.known = seeing.observe_at_once(ground.lab.weaviate_urls, self._dataset)
        changes = patiently(self._make_changes, seconds=LOAD_SECONDS)
        wait_until_answering(ground.lab.weaviate_urls, [*STILL, *FACTORS])
        self._outcome.prepared = True
        return rounds.known, changes

    def _load(self) -> None:
        remove(self._ground.weaviate, self._dataset)
        load(self._ground.weaviate, self._dataset)

    def _make_changes(self) -> Changes:
        for name in FACTORS:
            self._ground.weaviate.delete_collection(name)
        self._ground.weaviate.delete_alias(ALIAS)
        changes = Changes(self._ground, seed=f"{self._drawn.seed}/{self._drawn.number}", kinds=self._drawn.changes)
        changes.prepare()
        return changes

    def _back_up(self, name: str, strikes: Sequence[Strike]) -> tuple[Span, Any]:
        drawn = self._drawn
        server = drawn.method == "Server"
        spec: dict[str, Any] = {"method": drawn.method, "timeout": TIMEOUT}
        spec["config"] = {"chunkSize": drawn.chunk_mebibytes, "compressionLevel": drawn.level}
        if drawn.include:
            spec["include"] = [*drawn.include]
        manifest = manifests.backup(name, location="s3" if server else LOCATION, **spec)
        began = time.monotonic()
        resource = self._operate(manifest, strikes, BACKUP_PHASES)
        return Span(began, time.monotonic()), resource

    def _operate(self, manifest: manifests.Manifest, strikes: Sequence[Strike], phases: Sequence[str]) -> Any:
        """Applied and followed to its end, while the strikes fall. The resource, with phase Gone if it was deleted."""
        kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
        patiently(lambda: self._ground.kubectl.apply(manifest))
        self._ground.line.bytes_per_second = self._drawn.bytes_per_second
        striking = Striking(self._victims, strikes, phases, kind, name)
        started = time.monotonic()
        try:
            resource = self._follow(kind, name, striking, deleted=any(strike.kind == "deleted" for strike in strikes))
        finally:
            striking.end()
            self._outcome.told += striking.told
        seconds = time.monotonic() - started
        self._outcome.ends.append(f"{manifest['kind'].removeprefix('Weaviate')} {_words(resource)} {seconds:.0f}s")
        self._outcome.statuses.append(resource)
        if _phase(resource) not in (*TERMINAL, GONE):
            raise _Unjudged(f"{kind} {name} did not end within {END_SECONDS} s: {_words(resource)}")
        if _phase(resource) == "Failed" and not (
            _failure(resource).get("reason") and _failure(resource).get("message")
        ):
            self._outcome.broken.append(f"{kind} {name} is Failed without a reason and a message")
        return resource

    def _follow(self, kind: str, name: str, striking: Striking, *, deleted: bool) -> Any:
        deadline = time.monotonic() + END_SECONDS
        last: Any = {"metadata": {"name": name}, "status": {}}
        while time.monotonic() < deadline:
            try:
                found = read_operation(self._ground.lab.namespace, kind, name)
            except FAILURES:
                time.sleep(LOOK_SECONDS)
                continue
            if found is None:
                if not deleted:
                    raise _Unjudged(f"{kind} {name} is gone, and nobody deleted it")
                return {**last, "status": {**last.get("status", {}), "phase": GONE}}
            last = found
            if (uid := last["metadata"]["uid"]) not in self._uids:
                self._uids.append(uid)
            striking.saw(_phase(last))
            if _phase(last) in TERMINAL and not last["metadata"].get("deletionTimestamp"):
                return last
            time.sleep(LOOK_SECONDS)
        return last

    def _look_at_the_living(self, before: Observation, changes: Changes) -> Observation:
        """A backup harms nothing. What the database lost by its own deaths is not asked of the backup later; what lies
        on its volumes counts, since what is left of an index in its memory may hide that."""
        if _may_lose_writes(self._drawn.backup_strikes):
            self._ground.restart_weaviate()
        live = seeing.observe_at_once(self._ground.lab.weaviate_urls, self._dataset)
        lost = compare(before, live)
        if lost and _may_lose_writes(self._drawn.backup_strikes):
            self._outcome.notes.append(f"live: {len(lost)} things that nobody changed: {lost[0]}")
        else:
            self._outcome.broken += [f"live: {line}" for line in lost[:MOST_TOLD]]
        seen = seeing.see(self._ground, [*FACTORS])
        now = time.monotonic()
        self._excused = [*seeing.wrong(changes, seen, Span(now, now), [*FACTORS]), *seen.missed]
        if self._excused:
            self._outcome.notes.append(f"live: {len(self._excused)} changed things: {self._excused[0]}")
        return live

    def _after_backup(self, name: str, resource: Any) -> None:
        broken = self._outcome.broken
        broken += promises.left_overs(self._ground, self._uids, by_server=self._by_server)
        broken += promises.schema_faults(self._ground, by_server=self._by_server)
        if self._drawn.method == "Server":
            return
        if _phase(resource) == "Completed":
            broken += promises.stored_faults(self._ground, name)
        else:
            broken += promises.unnamed_debris(self._ground, name, resource)

    def _remove(self) -> None:
        """The accident, of what the backup has."""
        weaviate = self._ground.weaviate
        self._rounds.known = None
        weaviate.delete_alias(ALIAS)
        for alias, collection in self._dataset.aliases.items():
            if collection in self._drawn.collections:
                weaviate.delete_alias(alias)
        for name in self._drawn.collections:
            weaviate.delete_collection(name)

    def _restore(self, name: str) -> None:
        if self._drawn.by_server:
            server_backup.restore(self._ground.weaviate, name)
            self._outcome.ends.append("restored by the server")
            return
        source = {"locationRef": {"name": "s3" if self._drawn.method == "Server" else LOCATION}, "backupID": name}
        spec: dict[str, Any] = {"method": self._drawn.method, "timeout": TIMEOUT}
        resource = self._operate(
            manifests.restore(name, source=source, **spec), self._drawn.restore_strikes, RESTORE_PHASES
        )
        self._rounds.make_well(self._outcome)
        if PLACED_STAYS in str(resource.get("status", {})):
            self._outcome.notes.append("what was placed stays, its status says")
        else:
            self._outcome.broken += promises.left_overs(self._ground, self._uids, by_server=self._by_server)
        if _phase(resource) == "Completed":
            return
        self._outcome.broken += promises.schema_faults(self._ground, by_server=self._by_server)
        placed = sorted({*self._drawn.collections} & {*self._ground.weaviate.collections()})
        if placed:
            told = str(resource.get("status", {}))
            word = self._outcome.notes if "Unconfirmed" in told or _phase(resource) == GONE else self._outcome.broken
            word.append(f"a restore that ended {_words(resource)} left collections: {', '.join(placed)}")
            self._remove()
        again = self._operate(manifests.restore(f"{name}-again", source=source, **spec), (), RESTORE_PHASES)
        if _phase(again) != "Completed":
            raise _Unjudged(f"a restore to a healthy cluster ended {_words(again)}")

    def _compare(self, before: Observation, living: Observation, changes: Changes, span: Span) -> None:
        ground, wanted = self._ground, self._drawn.collections
        wait_until_answering(ground.lab.weaviate_urls, [name for name in wanted if name in STILL])
        after = seeing.observe_at_once(ground.lab.weaviate_urls, self._dataset)
        differ = compare(before, after)
        self._rounds.known = None if differ else before
        if _may_lose_writes((*self._drawn.backup_strikes, *self._drawn.restore_strikes)):
            differ = of_what_lived(differ, compare(living, after))
        broken = [f"restored: {line}" for line in (*differ, *uneven_replicas(after))]
        seen = seeing.see(ground, wanted)
        judged = [name for name in wanted if not self._drawn.by_server or name != "Visitors"]
        wrong = without_excused(seeing.wrong(changes, seen, span, judged), self._excused)
        broken += [f"restored: {line}" for line in wrong]
        if not self._drawn.by_server:  # it knows nothing of late writes, nor what the nodes say of their tenants
            missed = without_excused(seen.missed, [*self._excused, *self._written_again(changes, span)])
            broken += [f"restored: {line}" for line in missed]
        more = [f"… and {len(broken) - MOST_TOLD} more"] if len(broken) > MOST_TOLD else []
        self._outcome.broken += [*broken[:MOST_TOLD], *more]

    def _written_again(self, changes: Changes, span: Span) -> Iterator[str]:
        if _may_lose_writes(self._drawn.backup_strikes):
            for name, author in changes.authors.items():
                yield from written_again(name, author.history, span)

    def _finish(self) -> None:
        if self._by_server:
            promises.clear_after_server(self._ground)
        for kind in ("weaviaterestores", "weaviatebackups"):
            self._ground.kubectl.run("delete", kind, "--all", "--wait=true", timeout_seconds=180)
        self._outcome.broken += promises.left_overs(self._ground, self._uids, by_server=self._by_server)
        self._outcome.broken += promises.schema_faults(self._ground, by_server=self._by_server)
        store = self._ground.lab.store
        self._outcome.broken += promises.credentials_in(self._rounds._keeper.files(), [store.secret_key])


def _may_lose_writes(strikes: Sequence[Strike]) -> bool:
    return any(strike.kind in AT_THE_SERVER for strike in strikes)


def _phase(resource: Any) -> str:
    return str(resource.get("status", {}).get("phase", "Pending"))


def _failure(resource: Any) -> Any:
    return resource.get("status", {}).get("failure") or {}


def _words(resource: Any) -> str:
    failure = _failure(resource)
    return f"{_phase(resource)} {failure['reason']}" if failure.get("reason") else _phase(resource)
