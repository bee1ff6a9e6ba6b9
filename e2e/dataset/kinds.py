"""One collection per kind of data that a server keeps in files of its own: what a backup must not forget.

Searches are set up to be exact (wide, and rescored where vectors are compressed), so that an answer may be compared
with the one before: a difference is a loss and not an approximation.
"""

import time
from collections.abc import Callable
from typing import Any

from e2e.dataset.shapes import Dataset, Shape, definition_of, property_of
from e2e.dataset.weaviate_http import Weaviate, WeaviateError

OBJECTS = 320
"""Of each collection: enough for product quantization to learn from."""
DIMENSIONS = 32
LEARNT_FROM = 256
"""Objects after which a compression that learns from them begins."""
SWITCH_AT = 100
"""Objects of a shard at which a dynamic index becomes an HNSW index."""
SETTLED_SECONDS = 120
ALIAS = "Favourite"

EXACT: dict[str, Any] = {"ef": 1024, "efConstruction": 256, "maxConnections": 64, "distance": "cosine"}
RESCORED: dict[str, Any] = {"enabled": True, "rescoreLimit": 2 * OBJECTS}

TITLES: dict[str, str] = {
    "Replicated": "replication factor 2, geo, alias",
    "Flat": "flat",
    "FlatBinary": "flat, BQ",
    "Hnsw": "hnsw, factor 1, geo",
    "HnswProduct": "hnsw, PQ",
    "HnswScalar": "hnsw, SQ",
    "HnswRotational": "hnsw, RQ",
    "HnswBinary": "hnsw, BQ",
    "Named": "named vectors: hnsw, flat, BQ",
    "Tenants": "tenants, active and inactive",
    "TenantsInLogs": "inactive tenants with data in write-ahead logs only",
    "DynamicBefore": "dynamic, before its switch",
    "DynamicAfter": "dynamic, after its switch",
}
"""Collection -> the kind of data it stands for."""


def kinds_dataset(*, asynchronous: bool, replicas: int) -> Dataset:
    """All kinds. Dynamic indexes exist only where the servers index asynchronously."""
    shapes = [
        _shape("Replicated", "hnsw", EXACT, factor=min(2, replicas)),
        _shape("Flat", "flat", {"distance": "l2-squared"}),
        _shape("FlatBinary", "flat", {"distance": "cosine", "bq": RESCORED}),
        _shape("Hnsw", "hnsw", EXACT, shards=3),
        _trained("HnswProduct", {"pq": {**RESCORED, "trainingLimit": LEARNT_FROM, "segments": 16}}, asynchronous),
        _trained("HnswScalar", {"sq": {**RESCORED, "trainingLimit": LEARNT_FROM}}, asynchronous),
        _shape("HnswRotational", "hnsw", {**EXACT, "rq": RESCORED}),
        _shape("HnswBinary", "hnsw", {**EXACT, "bq": RESCORED}),
        _named(),
        _tenants("Tenants", objects=60),
        _tenants("TenantsInLogs", objects=8),
    ]
    if asynchronous:
        switch = {"threshold": SWITCH_AT, "hnsw": EXACT, "flat": {}, "distance": "cosine"}
        shapes += [
            _shape("DynamicBefore", "dynamic", switch | {"threshold": 100 * OBJECTS}),
            _shape("DynamicAfter", "dynamic", switch),
        ]
    return Dataset(tuple(shapes), {ALIAS: "Replicated"})


def settle(weaviate: Weaviate, dataset: Dataset, *, switched: Callable[[str], bool]) -> None:
    """Until every vector is in its index and every dynamic index that has to be is an HNSW index.

    `switched` says so of a collection. Raises TimeoutError with what is not done.
    """
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        try:
            undone = [line for shape in dataset.shapes for line in weaviate.unfinished(shape.name)]
        except WeaviateError as error:  # one of the nodes does not know a new collection yet
            undone = [str(error)]
        names = {shape.name for shape in dataset.shapes} & {"DynamicAfter"}
        undone += [f"{name}: has not become an HNSW index" for name in names if not switched(name)]
        if not undone:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("; ".join(undone))
        time.sleep(0.5)


def _shape(
    name: str, index_type: str, index: dict[str, Any], *, factor: int = 1, shards: int = 1, trained: Any = None
) -> Shape:
    properties = [property_of("title", "text"), property_of("words", "int"), property_of("place", "geoCoordinates")]
    definition = definition_of(name, properties, index_type, index, factor=factor, shards=shards)
    return Shape(name, definition, OBJECTS, DIMENSIONS, geo_property="place", trained=trained)


def _trained(name: str, compression: dict[str, Any], asynchronous: bool) -> Shape:
    """A server that indexes in the background compresses by itself, another one when told, and then at once."""
    if asynchronous:
        return _shape(name, "hnsw", EXACT | compression)
    return _shape(name, "hnsw", EXACT, trained=compression)


def _named() -> Shape:
    """Each vector with an index of its own kind."""
    definition = definition_of("Named", [property_of("title", "text"), property_of("words", "int")], "", {}, factor=1)
    del definition["vectorizer"], definition["vectorIndexType"], definition["vectorIndexConfig"]
    definition["shardingConfig"] = {"desiredCount": 1}
    definition["vectorConfig"] = {
        "graph": _vector("hnsw", EXACT),
        "list": _vector("flat", {"distance": "cosine"}),
        "small": _vector("hnsw", {**EXACT, "bq": RESCORED}),
    }
    return Shape("Named", definition, OBJECTS, DIMENSIONS, vectors=tuple(definition["vectorConfig"]))


def _vector(index_type: str, index: dict[str, Any]) -> dict[str, Any]:
    return {"vectorizer": {"none": {}}, "vectorIndexType": index_type, "vectorIndexConfig": index}


def _tenants(name: str, *, objects: int) -> Shape:
    """Of few objects an inactive tenant has only write-ahead logs: a server makes no segment of less than 4 KiB."""
    properties = [property_of("title", "text"), property_of("words", "int"), property_of("place", "geoCoordinates")]
    definition = definition_of(name, properties, "hnsw", EXACT, factor=1)
    definition["multiTenancyConfig"] = {"enabled": True}
    active, inactive = tuple(f"active{n}" for n in range(4)), tuple(f"inactive{n}" for n in range(4))
    return Shape(name, definition, objects, DIMENSIONS, active, inactive, geo_property="place")
