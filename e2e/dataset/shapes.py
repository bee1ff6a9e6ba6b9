"""The collections of the data set: their definitions and their objects, the same ones in every run.

Article   replication factor 2, three shards, HNSW; text, number, date and geo properties; alias Headline
Photo     replication factor 1, three shards, flat index
Note      one shard per tenant: active tenants and inactive ones
Draft     no object at all: an empty collection must come back too
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy

ALIASES = {"Headline": "Article"}
_NAMESPACE = uuid.UUID("6e0fe1a5-6d0c-4c39-9bd5-94d2d1a3b6b0")
_SYLLABLES = ("ba", "ko", "mi", "tu", "ra", "se", "lo", "ni", "du", "pe", "va", "zo", "fi", "gu")
WORDS = tuple(a + b + c for a in _SYLLABLES for b in _SYLLABLES for c in _SYLLABLES)[:2000]


@dataclass(frozen=True)
class Shape:
    """A collection as it is to be made. `objects` counts per tenant when there are tenants."""

    name: str
    definition: dict[str, Any]
    objects: int
    dimensions: int
    active_tenants: tuple[str, ...] = ()
    inactive_tenants: tuple[str, ...] = ()
    geo_property: str | None = None
    vectors: tuple[str, ...] = ()
    """Names of its vectors; none: it has one without a name."""
    trained: dict[str, Any] | None = None
    """Settings of its vector index that follow once the objects are there: compression that learns from them."""

    @property
    def tenants(self) -> tuple[str | None, ...]:
        """All of them, or the one absent tenant of a collection without."""
        return (*self.active_tenants, *self.inactive_tenants) or (None,)


@dataclass(frozen=True)
class Dataset:
    """What is loaded, and which aliases are made."""

    shapes: tuple[Shape, ...]
    aliases: dict[str, str]

    @property
    def total_objects(self) -> int:
        return sum(shape.objects * len(shape.tenants) for shape in self.shapes)


def small_dataset(*, objects: int = 3000, replicas: int = 3) -> Dataset:
    """About `objects` in all, a third of each kind; replication factor 2 needs two nodes at least."""
    return dataset(articles=objects // 3, photos=objects // 3, notes=objects // 15, replicas=replicas)


def demo_dataset(*, objects: int, replicas: int) -> Dataset:
    """Mostly photos: a flat index takes many objects quickly, so that there is something to carry."""
    few = min(1500, objects // 3)
    return dataset(articles=few, photos=objects - 2 * few, notes=few // 5, replicas=replicas)


def dataset(*, articles: int, photos: int, notes: int, replicas: int) -> Dataset:
    """Four collections and an alias; `notes` counts per tenant."""
    tenants = ("acme", "globex", "initech", "umbrella", "hooli")
    article = definition_of(
        "Article",
        properties=[
            property_of("title", "text"),
            property_of("body", "text"),
            property_of("words", "int"),
            property_of("rating", "number"),
            property_of("published", "date"),
            property_of("place", "geoCoordinates"),
        ],
        index_type="hnsw",
        # a search this wide finds the true neighbours, so that replicas and restarts cannot change the answer
        index={"ef": 1024, "efConstruction": 256, "maxConnections": 64, "distance": "cosine"},
        factor=min(2, replicas),
        shards=3,
    )
    photo = definition_of(
        "Photo",
        properties=[property_of("title", "text"), property_of("words", "int"), property_of("place", "geoCoordinates")],
        index_type="flat",
        index={"distance": "l2-squared"},
        factor=1,
        shards=3,
    )
    note = definition_of(
        "Note",
        properties=[property_of("title", "text"), property_of("rating", "number")],
        index_type="hnsw",
        index={"ef": 1024, "distance": "cosine"},
        factor=1,
    )
    note["multiTenancyConfig"] = {"enabled": True}
    draft = definition_of("Draft", [property_of("title", "text")], "hnsw", {"distance": "cosine"}, factor=1, shards=3)
    return Dataset(
        shapes=(
            Shape("Article", article, objects=articles, dimensions=96, geo_property="place"),
            Shape("Photo", photo, objects=photos, dimensions=256, geo_property="place"),
            Shape("Note", note, notes, 64, active_tenants=tenants[:3], inactive_tenants=tenants[3:]),
            Shape("Draft", draft, objects=0, dimensions=32),
        ),
        aliases=dict(ALIASES),
    )


def objects_of(shape: Shape, tenant: str | None) -> Iterator[dict[str, Any]]:
    """The same objects in every run, as the batch API takes them."""
    key = f"{shape.name}/{tenant or ''}"
    random = numpy.random.default_rng(list(key.encode()))
    wanted = {entry["name"] for entry in shape.definition["properties"]}
    for number in range(shape.objects):
        vector = random.standard_normal(shape.dimensions, dtype=numpy.float32)
        words = [WORDS[index] for index in random.integers(0, len(WORDS), size=int(random.integers(8, 60)))]
        properties = {
            "title": " ".join(words[:6]),
            "body": " ".join(words),
            "words": len(words),
            "rating": round(float(random.uniform(0, 5)), 3),
            "published": f"20{int(random.integers(10, 26))}-{int(random.integers(1, 13)):02d}-11T10:00:00Z",
            "place": {
                "latitude": round(float(random.uniform(-60, 60)), 5),
                "longitude": round(float(random.uniform(-170, 170)), 5),
            },
        }
        entry: dict[str, Any] = {
            "class": shape.name,
            "id": identifier(shape.name, tenant, number),
            "properties": {name: value for name, value in properties.items() if name in wanted},
        }
        values = [float(value) for value in vector]
        if shape.vectors:  # of each a turned one, so that an answer from another vector's index is a wrong one
            entry["vectors"] = {name: values[turn:] + values[:turn] for turn, name in enumerate(shape.vectors)}
        else:
            entry["vector"] = values
        if tenant:
            entry["tenant"] = tenant
        yield entry


def identifier(collection: str, tenant: str | None, number: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{collection}/{tenant or ''}/{number}"))


def property_of(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "dataType": [kind]}


def definition_of(
    name: str,
    properties: list[dict[str, Any]],
    index_type: str,
    index: dict[str, Any],
    *,
    factor: int,
    shards: int | None = None,
) -> dict[str, Any]:
    definition: dict[str, Any] = {
        "class": name,
        "properties": properties,
        "vectorizer": "none",
        "vectorIndexType": index_type,
        "vectorIndexConfig": index,
        "replicationConfig": {"factor": factor},
    }
    if shards:
        definition["shardingConfig"] = {"desiredCount": shards}
    return definition
