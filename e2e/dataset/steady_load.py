"""A steady stream of writes and queries, and a history of what was acknowledged when: what an application would see.

Every object has one writer, so its history is a sequence. Whatever a backup brings back of an object must be a state
from that sequence that could have been there at the cut of its shard.
"""

import json
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy
from e2e.dataset.shapes import definition_of, property_of
from e2e.dataset.weaviate_http import Weaviate

BATCH = 10
DIMENSIONS = 32
PRELOADED = 400
PAUSE_SECONDS = 0.02
QUERIES_PER_CALL = 50


@dataclass(frozen=True)
class Write:
    """One acknowledged write of one object: its new `tag`, or None for a deletion."""

    tag: int | None
    sent_at: datetime
    acknowledged_at: datetime


@dataclass(frozen=True)
class Request:
    """One request of the application. `failure` is empty when it was answered."""

    kind: str
    started_seconds: float
    took_seconds: float
    failure: str


class SteadyLoad:
    """Writers and readers on collections of one shard each; collection -> replication factor. Starts on `start`."""

    def __init__(self, urls: Sequence[str], collections: Mapping[str, int]) -> None:
        self.collections = dict(collections)
        self.requests: list[Request] = []
        self.history: dict[str, dict[str, list[Write]]] = {name: defaultdict(list) for name in collections}
        self._nodes = [Weaviate(url, strict=True) for url in urls]
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def prepare(self) -> None:
        """The collections, with some objects in them."""
        properties = [property_of("tag", "int"), property_of("title", "text"), property_of("place", "geoCoordinates")]
        for name, factor in self.collections.items():
            self._nodes[0].create_collection(definition_of(name, properties, "hnsw", {}, factor=factor, shards=1))
            writer = _Writer(self, name, self._nodes[0])
            for _ in range(PRELOADED // BATCH):
                writer.insert()
            self._threads += [
                threading.Thread(target=self._repeat, args=(writer.write,)),
                threading.Thread(target=self._repeat, args=(_Reader(self, name, self._nodes[-1]).read,)),
            ]
        self.requests.clear()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def timed(self, kind: str, request: Callable[[], Any]) -> bool:
        """Whether it was answered; either way it is noted."""
        started = time.monotonic()
        failure = ""
        try:
            request()
        except Exception as error:  # noqa: BLE001 - whatever it is, the application's request was not answered
            failure = f"{type(error).__name__}: {error}"
        self.requests.append(Request(kind, started, time.monotonic() - started, failure))
        return not failure

    def _repeat(self, action: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            action()
            time.sleep(PAUSE_SECONDS)


class _Writer:
    """The only writer of a collection: inserts most, updates some, deletes a few."""

    def __init__(self, load: SteadyLoad, collection: str, node: Weaviate) -> None:
        self._load, self._collection, self._node = load, collection, node
        self._random = random.Random(collection)
        self._history = load.history[collection]
        self._live: list[str] = []
        self._tag = 0

    def write(self) -> None:
        chance = self._random.random()
        if chance < 0.6:
            self.insert()
        elif chance < 0.9:
            self._put("update", self._random.sample(self._live, BATCH))
        else:
            self._delete(self._live.pop(self._random.randrange(len(self._live))))

    def insert(self) -> None:
        fresh = [str(uuid.UUID(int=self._random.getrandbits(128))) for _ in range(BATCH)]
        if self._put("insert", fresh):
            self._live += fresh

    def _put(self, kind: str, identifiers: list[str]) -> bool:
        objects = [self._object(identifier) for identifier in identifiers]
        sent_at = datetime.now(UTC)
        answered = self._load.timed(kind, lambda: self._node.insert(objects))
        if answered:
            done_at = datetime.now(UTC)
            for entry in objects:
                self._history[entry["id"]].append(Write(entry["properties"]["tag"], sent_at, done_at))
        return answered

    def _delete(self, identifier: str) -> None:
        path = f"/v1/objects/{self._collection}/{identifier}?consistency_level=ALL"
        sent_at = datetime.now(UTC)
        if self._load.timed("delete", lambda: self._node.call("DELETE", path)):
            self._history[identifier].append(Write(None, sent_at, datetime.now(UTC)))

    def _object(self, identifier: str) -> dict[str, Any]:
        self._tag += 1
        place = {
            "latitude": round(self._random.uniform(-60, 60), 4),
            "longitude": round(self._random.uniform(0, 90), 4),
        }
        return {
            "class": self._collection,
            "id": identifier,
            "properties": {"tag": self._tag, "title": f"number {self._tag}", "place": place},
            "vector": [self._random.gauss(0, 1) for _ in range(DIMENSIONS)],
        }


class _Reader:
    """Searches by vector, by filter and counts, in turn."""

    def __init__(self, load: SteadyLoad, collection: str, node: Weaviate) -> None:
        self._load, self._collection, self._node = load, collection, node
        self._random = random.Random(collection)

    def read(self) -> None:
        vector = [self._random.gauss(0, 1) for _ in range(DIMENSIONS)]
        tag = self._random.randrange(1000)
        for kind, arguments in (
            ("nearVector", f"nearVector: {{vector: {json.dumps(vector)}}}, limit: 10"),
            ("filter", f'where: {{path: ["tag"], operator: GreaterThan, valueInt: {tag}}}, limit: 10'),
        ):
            query = f"{{ Get {{ {self._collection}({arguments}) {{ tag _additional {{ id }} }} }} }}"
            self._load.timed(kind, lambda query=query: self._node.graphql(query))  # type: ignore[misc]


def percentiles(requests: Sequence[Request], kind: str, since: float, until: float) -> tuple[int, float, float]:
    """Requests that began in a span of monotonic seconds: how many, and their p50 and p99 in milliseconds."""
    took = [each.took_seconds for each in requests if each.kind == kind and since <= each.started_seconds < until]
    p50, p99 = numpy.percentile(took, [50, 99]) if took else (0.0, 0.0)
    return len(took), 1000 * float(p50), 1000 * float(p99)


def impossible(
    history: Mapping[str, Sequence[Write]], restored: Mapping[str, int], *, cut_began: datetime, cut_ended: datetime
) -> list[str]:
    """Objects whose state no cut in that span can have had: lost, undone, come back, or from the future.

    Possible is a write that was sent before the end of the cut and not followed by one acknowledged before its start.
    """
    wrong = [f"{identifier}: nobody wrote it" for identifier in restored.keys() - history.keys()]
    for identifier, writes in history.items():
        settled = [n for n, write in enumerate(writes) if write.acknowledged_at < cut_began]
        possible: set[int | None] = {
            write.tag for n, write in enumerate(writes) if n >= max(settled, default=0) and write.sent_at < cut_ended
        }
        if not settled:
            possible.add(None)
        if (found := restored.get(identifier)) not in possible:
            wrong.append(f"{identifier}: is {found}, possible is {possible}")
    return wrong


def missed(weaviate: Weaviate, collection: str) -> tuple[dict[str, int], list[str], list[str]]:
    """Tag of every object, and those that neither their own vector nor their own tag finds."""
    objects = {entry["id"]: entry for entry in weaviate.objects(collection)}
    tags = {identifier: int(entry["properties"]["tag"]) for identifier, entry in objects.items()}

    def unfound(argument: Callable[[str], str]) -> list[str]:
        identifiers, lost = list(objects), list[str]()
        for start in range(0, len(identifiers), QUERIES_PER_CALL):
            part = identifiers[start : start + QUERIES_PER_CALL]
            queries = " ".join(
                f"q{n}: {collection}(limit: 3, {argument(each)}) {{ _additional {{ id }} }}"
                for n, each in enumerate(part)
            )
            answers = weaviate.graphql(f"{{ Get {{ {queries} }} }}")["Get"]
            hits = [{hit["_additional"]["id"] for hit in answers[f"q{n}"] or []} for n in range(len(part))]
            lost += [each for each, found in zip(part, hits, strict=True) if each not in found]
        return lost

    by_vector = unfound(lambda each: f"nearVector: {{ vector: {objects[each]['vector']} }}")
    by_tag = unfound(lambda each: f'where: {{ path: ["tag"], operator: Equal, valueInt: {tags[each]} }}')
    return tags, by_vector, by_tag
