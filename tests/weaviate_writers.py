"""Kinds of index, and writers that keep a collection of one of them busy: acknowledged inserts, updates and deletes.

Every object has a `tag` and a place that nothing else ever has, so that a search for them finds it alone.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.weaviate_server import WeaviateCluster

DIMENSIONS = 32
EVERYTHING = 'path: ["all"], operator: Equal, valueBoolean: true'
PROPERTIES = [
    {"name": "tag", "dataType": ["int"]},
    {"name": "title", "dataType": ["text"]},
    {"name": "all", "dataType": ["boolean"]},
]
PLACE = {"name": "place", "dataType": ["geoCoordinates"]}
TRAINED_AT = 200
"""Objects after which a quantizer is trained, or a dynamic index switches."""


@dataclass(frozen=True)
class IndexKind:
    """How a collection indexes its vectors. `index` is the class's part; named vectors are `vectors`.

    `asynchronous` is a setting of the whole server; dynamic indexes need it.
    """

    name: str
    index: dict[str, Any] = field(default_factory=dict)
    vectors: tuple[str, ...] = ()
    asynchronous: bool = False
    geo: bool = False

    def definition(self, collection: str, *, tenants: bool = False) -> dict[str, Any]:
        properties = [*PROPERTIES, PLACE] if self.geo else PROPERTIES
        own = {name: {"vectorizer": {"none": {}}, **self.index} for name in self.vectors}
        return {
            "class": collection,
            "properties": properties,
            "multiTenancyConfig": {"enabled": tenants},
            **({"vectorConfig": own} if own else self.index),
        }


def hnsw(**config: Any) -> dict[str, Any]:
    return {"vectorIndexType": "hnsw", "vectorIndexConfig": config}


def dynamic(threshold: int) -> dict[str, Any]:
    return {"vectorIndexType": "dynamic", "vectorIndexConfig": {"threshold": threshold}}


def flat(**config: Any) -> dict[str, Any]:
    return {"vectorIndexType": "flat", "vectorIndexConfig": config}


KINDS = {
    kind.name: kind
    for kind in (
        IndexKind("hnsw", hnsw()),
        IndexKind("hnsw-async", hnsw(), asynchronous=True),
        IndexKind("sq", hnsw(sq={"enabled": True, "trainingLimit": TRAINED_AT})),
        IndexKind("rq", hnsw(rq={"enabled": True})),
        IndexKind("rq-async", hnsw(rq={"enabled": True}), asynchronous=True),
        IndexKind("pq", hnsw(pq={"enabled": True, "trainingLimit": TRAINED_AT, "segments": DIMENSIONS})),
        IndexKind("bq", hnsw(bq={"enabled": True})),
        IndexKind("named", hnsw(), vectors=("one", "two")),
        IndexKind("flat", flat()),
        IndexKind("flat-bq", flat(bq={"enabled": True, "rescoreLimit": 100000})),
        IndexKind("dynamic-flat", dynamic(1_000_000), asynchronous=True),
        IndexKind("dynamic-hnsw", dynamic(TRAINED_AT), asynchronous=True),
        IndexKind("geo", hnsw(), geo=True),
        IndexKind("geo-async", hnsw(), geo=True, asynchronous=True),
    )
}


class Writers:
    """Acknowledged writes while `running`. An update changes vector, tag and place, and with them the doc id.

    No object is ever in two writes at once: a server (1.37.14, 1.39.1) writes the postings of an update after it has
    let go of the object, so that of two writes at once the earlier one may leave postings that no object has. That is
    in the server before anything is cut, and would be counted against the cut.
    """

    def __init__(
        self, cluster: WeaviateCluster, collection: str, kind: IndexKind, *, tenant: str = "", kinds: str = "iud"
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._of = {"class": collection} | ({"tenant": tenant} if tenant else {})
        self._suffix = f"?tenant={tenant}" if tenant else ""
        self._kinds = kinds
        self._random = random.Random(5)
        self._tag = 0
        self._ids: list[str] = []
        self.written = 0
        self._stopping = False

    def item(self, identity: str) -> dict[str, Any]:
        self._tag += 1
        vectors = [[self._random.gauss(0, 1) for _ in range(DIMENSIONS)] for _ in self._kind.vectors or ("",)]
        properties: dict[str, Any] = {"tag": self._tag, "title": f"word{self._tag % 50} text", "all": True}
        if self._kind.geo:
            row, column = divmod(self._tag, 3000)
            properties["place"] = {"latitude": -80 + row * 0.1, "longitude": -170 + column * 0.1}
        return {
            **self._of,
            "id": identity,
            "properties": properties,
            **(
                {"vectors": dict(zip(self._kind.vectors, vectors, strict=True))}
                if self._kind.vectors
                else {"vector": vectors[0]}
            ),
        }

    async def insert(self, count: int) -> None:
        new = [str(uuid.UUID(int=self._random.getrandbits(128))) for _ in range(count)]
        await self._cluster.insert([self.item(each) for each in new])
        self._ids += new
        self.written += count

    def _taken(self) -> str:
        """An object that no other write is busy with, and none will be until it is put back."""
        return self._ids.pop(self._random.randrange(len(self._ids)))

    @asynccontextmanager
    async def running(self, count: int, *, batch: int, pause_seconds: float = 0.0) -> AsyncIterator[None]:
        """That many at once while the block runs; at its end they finish what they are at."""
        tasks = [asyncio.create_task(self._run(batch=batch, pause_seconds=pause_seconds)) for _ in range(count)]
        try:
            yield
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)

    async def _run(self, *, batch: int, pause_seconds: float) -> None:
        while not self._stopping:
            if "i" in self._kinds:
                await self.insert(max(1, batch // 2))
            if "u" in self._kinds:
                some = [self._taken() for _ in range(batch)]
                await self._cluster.insert([self.item(each) for each in some])
                self._ids += some
                self.written += len(some)
            if "d" in self._kinds:
                gone = self._taken()
                await self._cluster.call("DELETE", f"/v1/objects/{self._of['class']}/{gone}{self._suffix}")
                self.written += 1
            await asyncio.sleep(pause_seconds)
