"""Puts a data set into a cluster, and takes it out again. Every object is acknowledged by all its replicas."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from e2e.dataset.shapes import Dataset, Shape, objects_of
from e2e.dataset.weaviate_http import Weaviate

BATCH = 500


def load(weaviate: Weaviate, dataset: Dataset, *, on_batch: Callable[[int], None] = lambda _: None) -> None:
    """Collections, tenants, objects, aliases; the inactive tenants are put to rest last. `on_batch`: objects sent."""
    for shape in dataset.shapes:
        weaviate.create_collection(shape.definition)
        if shape.active_tenants or shape.inactive_tenants:
            weaviate.add_tenants(shape.name, [*shape.active_tenants, *shape.inactive_tenants])
        insert(weaviate, shape, on_batch=on_batch)
        if shape.trained:
            weaviate.change_vector_index(shape.name, shape.trained)
        if shape.inactive_tenants:
            weaviate.set_tenants(shape.name, shape.inactive_tenants, "INACTIVE")
    for alias, collection in dataset.aliases.items():
        weaviate.create_alias(alias, collection)


def insert(weaviate: Weaviate, shape: Shape, *, on_batch: Callable[[int], None] = lambda _: None) -> None:
    """The objects of one collection, which exists."""
    for tenant in shape.tenants:
        for batch in _batches(objects_of(shape, tenant)):
            weaviate.insert(batch)
            on_batch(len(batch))


def remove(weaviate: Weaviate, dataset: Dataset) -> None:
    """Aliases and collections, as far as they are there."""
    for alias in dataset.aliases:
        weaviate.delete_alias(alias)
    for shape in dataset.shapes:
        weaviate.delete_collection(shape.name)


def _batches(objects: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    source = iter(objects)
    while batch := list(islice(source, BATCH)):
        yield batch
