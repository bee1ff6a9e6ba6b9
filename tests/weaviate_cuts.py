"""What tests and benchmarks do with a cut: take its files, restore them into another cluster, ask for every object.

The restore is the product's own way in small: files under `.backup.tmp/<Class>`, then one raft RESTORE_CLASS.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.places import path_of
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.shard_source import ShardCut

QUERIES_PER_CALL = 50


def take(cut: ShardCut, directory: Path) -> None:
    """Link sealed files and copy the others to `directory/<class>/<shard>/…`, as an agent does before it releases."""
    for file in cut.files:
        target = directory / cut.collection.lower() / cut.shard / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.mutable:
            shutil.copy2(path_of(file.source), target)
        else:
            os.link(path_of(file.source), target)


async def restore(
    target: WeaviateCluster, collection: str, taken: Path, *, class_json: dict[str, Any], state: dict[str, Any]
) -> None:
    """Put the taken files of a collection into a single-node cluster."""
    node = target.nodes[0]
    place = node.data_path / ".backup.tmp" / collection
    (place / collection.lower()).mkdir(parents=True)
    for shard in (taken / collection.lower()).iterdir():
        shutil.copytree(shard, place / collection.lower() / shard.name)
    async with RaftClient(node.host, node.raft_rpc_port) as raft:
        await raft.restore_class(collection, class_json, state)


async def all_objects(cluster: WeaviateCluster, collection: str, *, tenant: str = "") -> dict[str, dict[str, Any]]:
    """Every object by its id, vectors included, read page by page."""
    found: dict[str, dict[str, Any]] = {}
    after, of = "", f"&tenant={tenant}" if tenant else ""
    while True:
        page = await cluster.call("GET", f"/v1/objects?class={collection}&include=vector&limit=500&after={after}{of}")
        objects = page["objects"]
        found.update((each["id"], each) for each in objects)
        if len(objects) < 500:
            return found
        after = objects[-1]["id"]


@dataclass(frozen=True)
class Answers:
    """What a restored collection answers. The misses are ids that are there but were not found by their own value."""

    objects: int
    vector_misses: tuple[str, ...]
    filter_misses: tuple[str, ...]
    counted: int
    counted_filtered: int
    """Counts by Aggregate, plain and through a filter that every object passes."""

    @property
    def extra_postings(self) -> int:
        """Postings of a filter that have no object."""
        return self.counted_filtered - self.counted


async def ask(cluster: WeaviateCluster, collection: str, *, tag: str, everything: str, tenant: str = "") -> Answers:
    """Search every object by each of its vectors, by its own value of `tag` (an int property that is unique), and by
    its place, if it has one that is 100 m from any other."""
    objects = await all_objects(cluster, collection, tenant=tenant)
    of = f'tenant: "{tenant}", ' if tenant else ""

    async def misses(render: Callable[[dict[str, Any]], str]) -> tuple[str, ...]:
        ids = list(objects)
        missed: list[str] = []
        for start in range(0, len(ids), QUERIES_PER_CALL):
            part = ids[start : start + QUERIES_PER_CALL]
            fields = " ".join(
                f"q{i}: {collection}({of}limit: 5, {render(objects[each])}) {{ _additional {{ id }} }}"
                for i, each in enumerate(part)
            )
            data = (await cluster.graphql(f"{{ Get {{ {fields} }} }}"))["Get"]
            missed += [
                each
                for i, each in enumerate(part)
                if each not in [found["_additional"]["id"] for found in data[f"q{i}"]]
            ]
        return tuple(missed)

    def by_vector(item: dict[str, Any]) -> str:
        return f"nearVector: {{ vector: {item['vector']} }}"

    def by_named_vector(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda item: f'nearVector: {{ vector: {item["vectors"][name]}, targetVectors: ["{name}"] }}'

    def by_place(item: dict[str, Any]) -> str:
        place = item["properties"]["place"]
        where = f"geoCoordinates: {{ latitude: {place['latitude']}, longitude: {place['longitude']} }}"
        within = f"valueGeoRange: {{ {where}, distance: {{ max: 100 }} }}"
        return f'where: {{ path: ["place"], operator: WithinGeoRange, {within} }}'

    def by_tag(item: dict[str, Any]) -> str:
        return f'where: {{ path: ["{tag}"], operator: Equal, valueInt: {int(item["properties"][tag])} }}'

    first = next(iter(objects.values()), {})
    named = [by_named_vector(name) for name in first.get("vectors") or ()]
    filters = [by_tag, by_place] if "place" in first.get("properties", ()) else [by_tag]
    vector_misses = [missed for render in named or [by_vector] for missed in await misses(render)]
    filter_misses = [missed for render in filters for missed in await misses(render)]
    tenant_argument = f'(tenant: "{tenant}")' if tenant else ""
    counts = await cluster.graphql(
        f"{{ Aggregate {{ plain: {collection}{tenant_argument} {{ meta {{ count }} }} "
        f"filtered: {collection}({of}where: {{ {everything} }}) {{ meta {{ count }} }} }} }}"
    )
    plain, filtered = (counts["Aggregate"][key][0]["meta"]["count"] for key in ("plain", "filtered"))
    return Answers(len(objects), tuple(vector_misses), tuple(filter_misses), plain, filtered)
