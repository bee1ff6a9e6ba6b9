"""Data that changes while a round runs, and the history of every change: each collection has one author."""

import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from e2e.chaos_rounds.ground import FAILURES, Ground
from e2e.chaos_rounds.judging import Change, State
from e2e.dataset.shapes import definition_of, property_of
from e2e.dataset.weaviate_http import Weaviate

BATCH = 10
DIMENSIONS = 16
PRELOADED = 120
MOST_OBJECTS = 160
"""Of a collection: each is looked for by itself, on every node, and more than once in a round."""
TENANTS, MOST_TENANTS = 5, 9
TENANT_OBJECTS = 12
FAILED_PAUSE_SECONDS = 0.5
ANSWER_SECONDS = 10
ALIAS, ALIAS_TARGETS = "Wanderer", ("Moving", "MovingTwice")
FACTORS = {"Moving": 1, "MovingTwice": 2, "Visitors": 1, "Passing": 1}
PAUSES_SECONDS = {"Moving": 0.1, "MovingTwice": 0.1, "Visitors": 0.1, "Passing": 1.0, ALIAS: 1.0}
"""Between two changes of an author."""
CLEANUP_SECONDS = 15
"""After so long the server has reconnected what an index had connected by deleted objects alone."""
INDEX = {"cleanupIntervalSeconds": CLEANUP_SECONDS}
PROPERTIES = (property_of("tag", "int"), property_of("title", "text"))

History = dict[str, list[Change]]


def vector_of(tag: int) -> list[float]:
    chance = random.Random(tag)
    return [chance.gauss(0, 1) for _ in range(DIMENSIONS)]


def object_of(collection: str, identifier: str, tag: int, tenant: str | None = None) -> dict[str, Any]:
    """All of an object follows from its tag, so that one that is torn shows."""
    properties = {"tag": tag, "title": f"number {tag}"}
    entry = {"class": collection, "id": identifier, "properties": properties, "vector": vector_of(tag)}
    return entry | ({"tenant": tenant} if tenant else {})


def definition(collection: str) -> dict[str, Any]:
    made = definition_of(collection, list(PROPERTIES), "hnsw", INDEX, factor=FACTORS[collection])
    if collection == "Visitors":
        made["multiTenancyConfig"] = {"enabled": True}
    else:
        made["shardingConfig"] = {"desiredCount": 2}
    return made


class Author:
    """Who changes one collection. `history`: of its objects by identifier, with tenants by tenant and identifier."""

    def __init__(self, ground: Ground, chance: random.Random, collection: str) -> None:
        self.collection = collection
        self.history: History = defaultdict(list)
        self.tenants: History = defaultdict(list)
        self.alias: list[Change] = []
        self._ground, self._chance = ground, chance
        self._tag = 0
        self._live: dict[str, str] = {}

    def prepare(self) -> None:
        weaviate = self._ground.weaviate
        weaviate.create_collection(definition(self.collection))
        if self.collection == "Visitors":
            for _ in range(TENANTS):
                self._add_tenant()
            return
        for _ in range((PRELOADED if self.collection != "Passing" else BATCH) // BATCH):
            self._put([self._fresh() for _ in range(BATCH)])

    def act(self) -> None:
        """One change of the kind that this collection sees."""
        if self.collection == "Visitors":
            self._act_on_tenants()
        elif self.collection == "Passing":
            self._make_anew()
        else:
            self._write()

    def move_alias(self) -> None:
        target = ALIAS_TARGETS[len(self.alias) % 2]
        method, path = ("PUT", f"/v1/aliases/{ALIAS}") if self.alias else ("POST", "/v1/aliases")
        body = {"class": target} if self.alias else {"alias": ALIAS, "class": target}
        self._note(self.alias, target, lambda node: node.call(method, path, body))

    def _write(self) -> None:
        chance = self._chance.random()
        if len(self._live) < 2 * BATCH or (chance < 0.5 and len(self._live) < MOST_OBJECTS):
            self._put([self._fresh() for _ in range(BATCH)])
        elif chance < 0.7:
            self._put(self._chance.sample(sorted(self._live), BATCH))
        else:
            self._delete(self._chance.choice(sorted(self._live)))

    def _act_on_tenants(self) -> None:
        last = {name: changes[-1] for name, changes in self.tenants.items()}
        known = {name: each for name, each in last.items() if each.acknowledged_at is not None and each.state}
        active = sorted(name for name, each in known.items() if each.state == "ACTIVE")
        resting = sorted(name for name, each in known.items() if each.state == "INACTIVE")
        chance = self._chance.random()
        if len(active) < 3 or (chance < 0.25 and len(known) < MOST_TENANTS):
            self._add_tenant()
        elif chance < 0.5:
            self._put([self._fresh() for _ in range(4)], tenant=self._chance.choice(active))
        elif chance < 0.7:
            self._set_tenant(self._chance.choice(active), "INACTIVE")
        elif chance < 0.85 and resting:
            self._set_tenant(self._chance.choice(resting), "ACTIVE")
        else:
            self._delete_tenant(self._chance.choice(active + resting))

    def _add_tenant(self) -> None:
        name = f"t{len(self.tenants)}"
        made = self._note(self.tenants[name], "ACTIVE", lambda node: node.add_tenants(self.collection, [name]))
        if made:
            self._put([self._fresh() for _ in range(TENANT_OBJECTS)], tenant=name)

    def _set_tenant(self, name: str, status: str) -> None:
        self._note(self.tenants[name], status, lambda node: node.set_tenants(self.collection, [name], status))

    def _delete_tenant(self, name: str) -> None:
        path = f"/v1/schema/{self.collection}/tenants"
        self._note(self.tenants[name], None, lambda node: node.call("DELETE", path, [name]))

    def _make_anew(self) -> None:
        """Deletes the collection, and makes one of the same name with other objects."""
        gone: list[Change] = []
        self._note(gone, None, lambda node: node.delete_collection(self.collection))
        for changes in self.history.values():
            if changes[-1].state is not None:
                changes.append(gone[0])
        made: list[Change] = []
        if self._note(made, "made", lambda node: node.create_collection(definition(self.collection))):
            self._put([self._fresh() for _ in range(BATCH)])

    def _fresh(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128)))

    def _put(self, identifiers: Sequence[str], *, tenant: str | None = None) -> None:
        entries = []
        for identifier in identifiers:
            self._tag += 1
            entries.append(object_of(self.collection, identifier, self._tag, tenant))
        made: list[Change] = []
        done = self._note(made, None, lambda node: node.insert(entries))
        for entry in entries:
            key = f"{tenant}/{entry['id']}" if tenant else entry["id"]
            self.history[key].append(Change(entry["properties"]["tag"], made[0].sent_at, made[0].acknowledged_at))
            if tenant is None:
                self._live[entry["id"]] = key
                if not done:
                    del self._live[entry["id"]]

    def _delete(self, identifier: str) -> None:
        path = f"/v1/objects/{self.collection}/{identifier}?consistency_level=ALL"
        self._note(self.history[identifier], None, lambda node: node.call("DELETE", path))
        del self._live[identifier]

    def _note(self, changes: list[Change], state: State, request: Callable[[Weaviate], object]) -> bool:
        """Whether it was acknowledged. The thing it was about is left alone from then on if it was not."""
        url = self._chance.choice(self._ground.lab.weaviate_urls)
        sent_at = time.monotonic()
        try:
            request(Weaviate(url, strict=True, read_seconds=ANSWER_SECONDS))
        except FAILURES:
            changes.append(Change(state, sent_at, None))
            time.sleep(FAILED_PAUSE_SECONDS)
            return False
        changes.append(Change(state, sent_at, time.monotonic()))
        return True


class Changes:
    """All authors of a round, of which some go on writing while it runs."""

    def __init__(self, ground: Ground, *, seed: str, kinds: Sequence[str]) -> None:
        self.authors = {name: Author(ground, random.Random(f"{seed}/{name}"), name) for name in FACTORS}
        busy = {"writes": "Moving", "replicated writes": "MovingTwice", "tenants": "Visitors", "anew": "Passing"}
        acts = [(self.authors[name].act, PAUSES_SECONDS[name]) for kind, name in busy.items() if kind in kinds]
        if "alias" in kinds:  # its own author, so that nobody waits for another
            self.authors[ALIAS] = Author(ground, random.Random(f"{seed}/{ALIAS}"), ALIAS)
            acts.append((self.authors[ALIAS].move_alias, PAUSES_SECONDS[ALIAS]))
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=each, daemon=True) for each in acts]

    def prepare(self) -> None:
        for name in FACTORS:
            self.authors[name].prepare()
        if ALIAS in self.authors:
            self.authors[ALIAS].move_alias()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, act: Callable[[], None], pause_seconds: float) -> None:
        while not self._stopping.wait(pause_seconds):
            act()
