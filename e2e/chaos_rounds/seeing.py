"""What is there of the data that changes: read from every node, with what is torn or not found by a search."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from e2e.chaos_rounds.changing import ALIAS, CLEANUP_SECONDS, DIMENSIONS, FACTORS, Changes, vector_of
from e2e.chaos_rounds.ground import Ground, patiently
from e2e.chaos_rounds.judging import Span, State, impossible
from e2e.dataset.observation import Observation, observe
from e2e.dataset.shapes import Dataset
from e2e.dataset.weaviate_http import Weaviate

QUERIES_PER_CALL = 50
READERS = 6
SETTLING_SECONDS = 3.0 * CLEANUP_SECONDS
"""So long a miss of a search may last. A node asks any replica of a shard that it does not hold, for the object one and
for the search another, and each replica is of its own instant. And a server that loads an index, when it restarts or
after a restore, does not pass by the objects that were deleted, and so reaches what only they were connected with after
its next cleanup. What a backup lacks is missed for ever."""
BETWEEN_LOOKS_SECONDS = 3.0
TOLERANCE = 1e-4


@dataclass
class Seen:
    """By `collection node` or by tenant: tag by identifier. `torn`, `missed`: in words."""

    tags: dict[str, dict[str, int]] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=dict)
    alias: str | None = None
    torn: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def see(ground: Ground, collections: Sequence[str]) -> Seen:
    """Tenants are woken to be read and put to rest again. Replicas are read through every node, which asks its own."""
    seen = Seen()
    with ThreadPoolExecutor(READERS) as pool:
        reading = {key: pool.submit(_read, seen, *what) for key, what in _parts(ground, collections)}
        seen.tags = {key: future.result() for key, future in reading.items()}
    first = ground.weaviate
    if "Visitors" in collections and "Visitors" in first.collections():
        _see_tenants(seen, first)
    seen.alias = first.aliases().get(ALIAS)
    return seen


def observe_at_once(urls: Sequence[str], dataset: Dataset) -> Observation:
    """The same as `observe`, all collections at a time: on a busy machine each answer is waited for, and nodes lose
    sight of each other for a moment."""
    shapes = [
        Dataset((shape,), {alias: name for alias, name in dataset.aliases.items() if name == shape.name})
        for shape in dataset.shapes
    ]
    with ThreadPoolExecutor(READERS) as pool:
        parts = list(pool.map(lambda shape: patiently(partial(observe, urls, shape)), shapes))
    merged: dict[str, dict[str, Any]] = {field.name: {} for field in fields(Observation)}
    for part in parts:
        for name, answers in merged.items():
            answers.update(getattr(part, name))
    return Observation(**merged)


def _parts(ground: Ground, collections: Sequence[str]) -> Iterator[tuple[str, tuple[Weaviate, str, None]]]:
    """Name, node and collection of each replica that is read."""
    for url, name in zip(ground.lab.weaviate_urls, ground.lab.weaviate_nodes, strict=True):
        node = Weaviate(url, read_seconds=60)
        there = node.collections()
        for collection in collections:
            own = FACTORS.get(collection, 0) > 1 or name == ground.lab.weaviate_nodes[0]
            if collection in there and collection in FACTORS and collection != "Visitors" and own:
                yield f"{collection} {name}", (node, collection, None)


def _see_tenants(seen: Seen, weaviate: Weaviate) -> None:
    words = {"HOT": "ACTIVE", "COLD": "INACTIVE"}
    seen.tenants = {name: words.get(status, status) for name, status in weaviate.tenants("Visitors").items()}
    resting = [name for name, status in seen.tenants.items() if status == "INACTIVE"]
    if resting:
        weaviate.set_tenants("Visitors", resting, "ACTIVE")
    with ThreadPoolExecutor(READERS) as pool:
        read = pool.map(lambda name: _read(seen, weaviate, "Visitors", name), seen.tenants)
        seen.tags |= {f"Visitors/{name}": tags for name, tags in zip(seen.tenants, read, strict=True)}
    if resting:
        weaviate.set_tenants("Visitors", resting, "INACTIVE")


def _read(seen: Seen, weaviate: Weaviate, collection: str, tenant: str | None) -> dict[str, int]:
    objects = _listed(weaviate, collection, tenant)
    tags = {identifier: int(entry["properties"]["tag"]) for identifier, entry in objects.items()}
    where = f"{collection}/{tenant}" if tenant else collection
    seen.torn += [f"{where} {key}: is torn: {entry['properties']}" for key, entry in objects.items() if _is_torn(entry)]
    for how, argument in (("its vector", _by_vector), ("a filter", _by_tag)):
        lost = _unfound(weaviate, collection, tenant, objects, argument)
        deadline = time.monotonic() + SETTLING_SECONDS
        while lost and time.monotonic() < deadline:
            time.sleep(BETWEEN_LOOKS_SECONDS)
            again = _listed(weaviate, collection, tenant)
            there = {key: again[key] for key in lost if key in again}
            lost = _unfound(weaviate, collection, tenant, there, argument)
        seen.missed += [f"{where} {key}: not found by {how} at {weaviate.url}" for key in lost]
    return tags


def _listed(weaviate: Weaviate, collection: str, tenant: str | None) -> dict[str, Any]:
    return patiently(lambda: {entry["id"]: entry for entry in weaviate.objects(collection, tenant)})


def _by_vector(entry: Any) -> str:
    return f"nearVector: {{ vector: {entry['vector']} }}"


def _by_tag(entry: Any) -> str:
    return f'where: {{ path: ["tag"], operator: Equal, valueInt: {int(entry["properties"]["tag"])} }}'


def _is_torn(entry: dict[str, Any]) -> bool:
    tag = int(entry["properties"]["tag"])
    vector = entry.get("vector") or [0.0] * DIMENSIONS
    far = any(abs(one - other) > TOLERANCE for one, other in zip(vector, vector_of(tag), strict=True))
    return far or entry["properties"]["title"] != f"number {tag}"


def _unfound(
    weaviate: Weaviate,
    collection: str,
    tenant: str | None,
    objects: Mapping[str, Any],
    argument: Callable[[Any], str],
) -> list[str]:
    lost, identifiers = list[str](), list(objects)
    scope = f', tenant: "{tenant}"' if tenant else ""
    for start in range(0, len(identifiers), QUERIES_PER_CALL):
        part = identifiers[start : start + QUERIES_PER_CALL]
        queries = " ".join(
            f"q{n}: {collection}(limit: 3, {argument(objects[each])}{scope}) {{ _additional {{ id }} }}"
            for n, each in enumerate(part)
        )
        answers = patiently(partial(weaviate.graphql, f"{{ Get {{ {queries} }} }}"))["Get"]
        found = [{hit["_additional"]["id"] for hit in answers[f"q{n}"] or []} for n in range(len(part))]
        lost += [each for each, hits in zip(part, found, strict=True) if each not in hits]
    return lost


def wrong(changes: Changes, seen: Seen, span: Span, collections: Sequence[str]) -> list[str]:
    """What cannot be, of the collections that were to come back."""
    found = list(seen.torn)
    for name in FACTORS:
        if name in collections and name != "Visitors":
            history = changes.authors[name].history
            replicas = {key: tags for key, tags in seen.tags.items() if key.split(" ")[0] == name} or {f"{name} -": {}}
            for key, tags in replicas.items():
                found += impossible(key, history, tags, span)
    if "Visitors" in collections:
        found += _wrong_tenants(changes, seen, span)
    if ALIAS in changes.authors and {"Moving", "MovingTwice"} <= {*collections}:
        found += impossible("alias", {ALIAS: changes.authors[ALIAS].alias}, {ALIAS: seen.alias}, span)
    return found


def _wrong_tenants(changes: Changes, seen: Seen, span: Span) -> list[str]:
    """Of a tenant that is not there, its objects are not asked for."""
    author = changes.authors["Visitors"]
    states: dict[str, State] = dict(seen.tenants)
    found = list(impossible("tenant", author.tenants, states, span))
    for name in seen.tenants:
        history = {key.split("/")[1]: changes for key, changes in author.history.items() if key.split("/")[0] == name}
        found += impossible(f"Visitors/{name}", history, seen.tags[f"Visitors/{name}"], span)
    return found
