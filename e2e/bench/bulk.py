"""Much data, quickly: random vectors in a flat index, which costs the server little and gives it much to store."""

import json
from collections.abc import Callable

import numpy
from e2e.dataset.shapes import identifier
from e2e.dataset.weaviate_http import Weaviate

COLLECTION = "Bulk"
BATCH = 1000


def create(weaviate: Weaviate, *, shards: int) -> None:
    weaviate.create_collection(
        {
            "class": COLLECTION,
            "vectorizer": "none",
            "vectorIndexType": "flat",
            "properties": [{"name": "number", "dataType": ["int"]}, {"name": "text", "dataType": ["text"]}],
            "replicationConfig": {"factor": 1},
            "shardingConfig": {"desiredCount": shards},
        }
    )


def fill(weaviate: Weaviate, *, objects: int, dimensions: int, on_batch: Callable[[int], None]) -> None:
    """Objects with incompressible vectors and a little text."""
    random = numpy.random.default_rng(11)
    for start in range(0, objects, BATCH):
        count = min(BATCH, objects - start)
        vectors = random.standard_normal((count, dimensions), dtype=numpy.float32).round(6).tolist()
        weaviate.insert(
            [
                {
                    "class": COLLECTION,
                    "id": identifier(COLLECTION, None, number),
                    "properties": {"number": number, "text": f"object {number} of {objects}"},
                    "vector": vector,
                }
                for number, vector in enumerate(vectors, start)
            ]
        )
        on_batch(count)


def fingerprint(weaviate: Weaviate, *, objects: int, dimensions: int) -> str:
    """Count, a sample of the objects and some neighbours: enough to see whether a restore brought the same data."""
    sample = [
        weaviate.call("GET", f"/v1/objects/{COLLECTION}/{identifier(COLLECTION, None, number)}?include=vector")
        for number in range(0, objects, max(1, objects // 50))
    ]
    random = numpy.random.default_rng(13)
    vector = json.dumps([float(value) for value in random.standard_normal(dimensions, dtype=numpy.float32)])
    near = weaviate.graphql(
        f"{{ Get {{ {COLLECTION}(nearVector: {{vector: {vector}}}, limit: 20) {{ _additional {{ id }} }} }} }}"
    )
    return json.dumps([weaviate.count(COLLECTION), sample, near], sort_keys=True)
