"""What a user can see of a data set: read through the public API of every node, as plain values that can be compared.

Everything that search may order freely (equal scores, replicas) is brought into one order, nothing is left out: every
object is read with its vector and goes into a fingerprint.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy
from e2e.dataset.shapes import WORDS, Dataset, Shape
from e2e.dataset.weaviate_http import Weaviate, WeaviateError

QUERIES = 4
NEIGHBOURS = 10
_ACTIVE = ("ACTIVE", "HOT")


@dataclass(frozen=True)
class Hit:
    """One result of a search: a distance or a score."""

    id: str
    score: float


@dataclass(frozen=True)
class Observation:
    """Keys name what was asked and of which node; values are the answers."""

    definitions: Mapping[str, Any]
    counts: Mapping[str, int]
    fingerprints: Mapping[str, str]
    rankings: Mapping[str, tuple[Hit, ...]]
    selections: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str]
    tenants: Mapping[str, str]
    held: Mapping[str, Mapping[str, int]]
    """Objects of a shard by the node that holds it. A count is exact once the shard's memtables were flushed, as those
    of a restored shard always are."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    def of(self, collection: str) -> "Observation":
        """What was seen of one collection: every key begins with its name, up to a slash or a space."""

        def own(answers: Mapping[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in answers.items() if re.split("[/ ]", key)[0] == collection}

        return Observation(
            **{field.name: own(getattr(self, field.name)) for field in fields(self) if field.name != "aliases"},
            aliases={name: target for name, target in self.aliases.items() if target == collection},
        )

    @staticmethod
    def from_json(text: str) -> "Observation":
        data = json.loads(text)
        return Observation(
            definitions=data["definitions"],
            counts=data["counts"],
            fingerprints=data["fingerprints"],
            rankings={key: tuple(Hit(**hit) for hit in hits) for key, hits in data["rankings"].items()},
            selections={key: tuple(found) for key, found in data["selections"].items()},
            aliases=data["aliases"],
            tenants=data["tenants"],
            held=data["held"],
        )


def observe(urls: Sequence[str], dataset: Dataset, *, patience_seconds: float = 0) -> Observation:
    """Inactive tenants are looked at too: their status is noted, they are woken, read, and put to rest again.

    Where the servers index in the background, a woken tenant needs `patience_seconds` to work off its queues.
    """
    nodes = [Weaviate(url) for url in urls]
    first = nodes[0]
    definitions = first.collections()
    shapes = [shape for shape in dataset.shapes if shape.name in definitions]
    tenants = {
        f"{shape.name}/{tenant}": status
        for shape in shapes
        if shape.tenants != (None,)
        for tenant, status in sorted(first.tenants(shape.name).items())
    }
    resting = {
        shape.name: [name for name in shape.tenants if name and tenants.get(f"{shape.name}/{name}") not in _ACTIVE]
        for shape in shapes
    }
    _set_status(first, resting, "ACTIVE")
    time.sleep(patience_seconds)
    counts: dict[str, int] = {}
    fingerprints: dict[str, str] = {}
    rankings: dict[str, tuple[Hit, ...]] = {}
    selections: dict[str, tuple[str, ...]] = {}
    for shape in shapes:
        for tenant in shape.tenants:
            part = f"{shape.name}/{tenant}" if tenant else shape.name
            fingerprints[part] = _fingerprint(first, shape, tenant)
            for number, node in enumerate(nodes):
                key = f"{part} through node {number}"
                counts[key] = node.count(shape.name, tenant)
                rankings |= {f"{key}: {what}": hits for what, hits in _rankings(node, shape, tenant).items()}
                selections |= {f"{key}: {what}": ids for what, ids in _selections(node, shape, tenant).items()}
    aliases = {name: target for name, target in first.aliases().items() if name in dataset.aliases}
    for alias in aliases:
        counts[f"alias {alias}"] = first.count(alias)
    shards = {
        f"{shape.name}/{shard}": objects for shape in shapes for shard, objects in first.shards(shape.name).items()
    }
    _set_status(first, resting, "INACTIVE")
    wanted = {shape.name: definitions[shape.name] for shape in shapes}
    return Observation(wanted, counts, fingerprints, rankings, selections, aliases, tenants, shards)


def _set_status(weaviate: Weaviate, tenants: Mapping[str, Sequence[str | None]], status: str) -> None:
    for collection, names in tenants.items():
        if names:
            weaviate.set_tenants(collection, [name for name in names if name], status)


def _fingerprint(weaviate: Weaviate, shape: Shape, tenant: str | None) -> str:
    """Over every object: identifier, properties, vector and times, in the order of the identifiers."""
    lines = {entry["id"]: json.dumps(entry, sort_keys=True) for entry in weaviate.objects(shape.name, tenant)}
    digest = hashlib.sha256()
    for key in sorted(lines):
        digest.update(lines[key].encode())
    return f"{len(lines)} objects, sha256 {digest.hexdigest()}"


def _rankings(weaviate: Weaviate, shape: Shape, tenant: str | None) -> dict[str, tuple[Hit, ...]]:
    """Nearest neighbours of fixed vectors, also filtered, and keyword searches for fixed words."""
    random = numpy.random.default_rng(7)
    found = {}
    for number in range(QUERIES):
        vector = [float(value) for value in random.standard_normal(shape.dimensions, dtype=numpy.float32)]
        for name in shape.vectors or ("",):
            target = f', targetVectors: ["{name}"]' if name else ""
            near = f"nearVector: {{vector: {json.dumps(vector)}{target}}}, limit: {NEIGHBOURS}"
            found[f"nearVector {name}{number}"] = _hits(weaviate, shape, tenant, near, "distance")
            if _has(shape, "words"):
                near = f'{near}, where: {{path: ["words"], operator: LessThan, valueInt: 30}}'
                found[f"filtered nearVector {name}{number}"] = _hits(weaviate, shape, tenant, near, "distance")
        word = WORDS[(number * 331 + 17) % len(WORDS)]
        keyword = f'bm25: {{query: "{word}"}}, limit: 1000'
        found[f"bm25 {word}"] = _hits(weaviate, shape, tenant, keyword, "score")
    return found


def _selections(weaviate: Weaviate, shape: Shape, tenant: str | None) -> dict[str, tuple[str, ...]]:
    """Filters by number, date, word and place."""
    filters = {f"title {WORDS[5]}": f'{{path: ["title"], operator: Equal, valueText: "{WORDS[5]}"}}'}
    if _has(shape, "words"):
        filters["words"] = '{path: ["words"], operator: Equal, valueInt: 23}'
    if _has(shape, "rating"):
        filters["rating"] = '{path: ["rating"], operator: GreaterThan, valueNumber: 4.9}'
    if _has(shape, "published"):
        filters["published"] = '{path: ["published"], operator: GreaterThan, valueDate: "2025-06-01T00:00:00Z"}'
    if shape.geo_property:
        for latitude, longitude in ((48.1, 11.6), (-33.9, 151.2)):
            place = f"{{latitude: {latitude}, longitude: {longitude}}}"
            within = f"{{geoCoordinates: {place}, distance: {{max: 2500000}}}}"
            filters[f"near {latitude} {longitude}"] = (
                f'{{path: ["{shape.geo_property}"], operator: WithinGeoRange, valueGeoRange: {within}}}'
            )
    found = {}
    for what, where in filters.items():
        hits = _hits(weaviate, shape, tenant, f"where: {where}, limit: 5000", None)
        found[what] = tuple(hit.id for hit in hits)
    return found


def _hits(weaviate: Weaviate, shape: Shape, tenant: str | None, arguments: str, score: str | None) -> tuple[Hit, ...]:
    """Neighbours by distance, then identifier: among equal ones the order is Weaviate's to choose. Keyword searches
    ask for every match, so they are put in the order of the identifiers, and their scores tell Weaviate's order."""
    scope = f', tenant: "{tenant}"' if tenant else ""
    wanted = f"_additional {{ id {score or ''} }}"
    data = weaviate.graphql(f"{{ Get {{ {shape.name}({arguments}{scope}) {{ {wanted} }} }} }}")
    hits = [
        Hit(entry["_additional"]["id"], float(entry["_additional"][score]) if score else 0.0)
        for entry in data["Get"][shape.name] or []
    ]
    if score == "score":
        return tuple(sorted(hits, key=lambda hit: hit.id))
    return tuple(sorted(hits, key=lambda hit: (round(hit.score, 4), hit.id)))


def _has(shape: Shape, name: str) -> bool:
    return any(entry["name"] == name for entry in shape.definition["properties"])


def wait_until_answering(urls: Sequence[str], collections: Sequence[str], *, timeout_seconds: float = 60) -> None:
    """Until every node knows the collections: a node's schema is loaded a little later than its API answers."""
    deadline = time.monotonic() + timeout_seconds
    for url in urls:
        weaviate = Weaviate(url)
        while True:
            try:
                missing = set(collections) - set(weaviate.collections())
            except WeaviateError as error:
                missing = {str(error)}
            if not missing:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} does not know {', '.join(sorted(missing))}")
            time.sleep(0.3)
