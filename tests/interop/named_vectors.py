"""A collection with two named vectors, one in a graph and one flat, and what a search by each of them finds."""

import json
from typing import Any

import numpy
from tests.weaviate_server import WeaviateCluster

NAME = "Poster"
OBJECTS = 120
DIMENSIONS = {"image": 24, "caption": 12}
DEFINITION: dict[str, Any] = {
    "class": NAME,
    "properties": [{"name": "number", "dataType": ["int"]}],
    "replicationConfig": {"factor": 2},
    "shardingConfig": {"desiredCount": 2},
    "vectorConfig": {
        "image": {"vectorIndexType": "hnsw", "vectorizer": {"none": {}}, "vectorIndexConfig": {"ef": 512}},
        "caption": {"vectorIndexType": "flat", "vectorizer": {"none": {}}},
    },
}


async def load_posters(cluster: WeaviateCluster) -> None:
    random = numpy.random.default_rng(11)
    await cluster.create(DEFINITION)
    await cluster.insert(
        [
            {
                "class": NAME,
                "properties": {"number": number},
                "vectors": {name: random.standard_normal(size).tolist() for name, size in DIMENSIONS.items()},
            }
            for number in range(OBJECTS)
        ]
    )


async def nearest_posters(cluster: WeaviateCluster) -> dict[str, list[int]]:
    """By vector and query, the numbers of the ten nearest posters; and how many there are at all."""
    random = numpy.random.default_rng(12)
    found: dict[str, list[int]] = {}
    for name, size in DIMENSIONS.items():
        for query in range(3):
            vector = json.dumps(random.standard_normal(size).tolist())
            near = f'nearVector: {{vector: {vector}, targetVectors: ["{name}"]}}, limit: 10'
            data = await cluster.graphql(f"{{ Get {{ {NAME}({near}) {{ number }} }} }}")
            found[f"{name} {query}"] = [entry["number"] for entry in data["Get"][NAME]]
    counted = await cluster.graphql(f"{{ Aggregate {{ {NAME} {{ meta {{ count }} }} }} }}")
    found["count"] = [counted["Aggregate"][NAME][0]["meta"]["count"]]
    return found
