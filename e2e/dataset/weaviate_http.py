"""Weaviate's public REST and GraphQL API for data sets, demo and scenarios: synchronous, plain, one node per client.

It knows routes and answers, not what is stored. It is apart from the product's own client, so that a fault in that one
cannot hide from the end-to-end tests.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import urllib3

Json = Any
PAGE = 500
IDLE = urllib3.Retry(total=1, connect=0, redirect=0, status=0, other=0, read=1)
"""Asks once more, where asking twice does no harm, when a connection ended without an answer: the server closes those
that nobody used for a while, now and then just as one is used."""


class WeaviateError(Exception):
    """An answer that was not the wanted one."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body[:400]}")
        self.status = status
        self.body = body


class Weaviate:
    """One node's API. Strict: a connection that ends without an answer is an error at once. `read_seconds`: how long an
    answer is waited for."""

    def __init__(self, url: str, *, strict: bool = False, read_seconds: float = 180) -> None:
        self.url = url.rstrip("/")
        retries = False if strict else IDLE
        self._pool = urllib3.PoolManager(
            maxsize=8, timeout=urllib3.Timeout(connect=5, read=read_seconds), retries=retries
        )

    def call(self, method: str, path: str, body: Json = None, *, missing_ok: bool = False) -> Json:
        """The decoded answer; None for an empty one, and for a 404 when `missing_ok`."""
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if payload else {}
        answer = self._pool.request(method, f"{self.url}{path}", body=payload, headers=headers)
        if answer.status == 404 and missing_ok:
            return None
        if answer.status >= 300:
            raise WeaviateError(method, path, answer.status, answer.data.decode(errors="replace"))
        return json.loads(answer.data) if answer.data else None

    def version(self) -> str:
        return str(self.call("GET", "/v1/meta")["version"])

    def wait_until_synchronized(self, *, nodes: int, timeout_seconds: float = 120) -> None:
        """Until this node sees that many healthy nodes and its schema is loaded."""
        deadline = time.monotonic() + timeout_seconds
        state: Json = None
        while time.monotonic() < deadline:
            try:
                state = self.call("GET", "/v1/cluster/statistics")
                healthy = [node for node in state["statistics"] if node.get("status") == "HEALTHY"]
                if state.get("synchronized") and len(healthy) == nodes:
                    return
            except (urllib3.exceptions.HTTPError, WeaviateError) as error:
                state = repr(error)
            time.sleep(0.5)
        raise TimeoutError(f"{self.url} sees no {nodes} synchronized nodes after {timeout_seconds:g} s: {state!s:.600}")

    def collections(self) -> dict[str, Json]:
        """Definition by name."""
        return {entry["class"]: entry for entry in self.call("GET", "/v1/schema").get("classes") or []}

    def create_collection(self, definition: Mapping[str, Json]) -> None:
        self.call("POST", "/v1/schema", dict(definition))

    def change_vector_index(self, name: str, settings: Mapping[str, Json]) -> None:
        """More settings of a collection's vector index, such as its compression."""
        definition = self.call("GET", f"/v1/schema/{name}")
        definition["vectorIndexConfig"] |= settings
        self.call("PUT", f"/v1/schema/{name}", definition)

    def delete_collection(self, name: str) -> None:
        """No error when there is none."""
        self.call("DELETE", f"/v1/schema/{name}", missing_ok=True)

    def tenants(self, collection: str) -> dict[str, str]:
        """Activity status by tenant, in the server's words: HOT and COLD, or the newer ACTIVE and INACTIVE."""
        return {
            entry["name"]: entry["activityStatus"] for entry in self.call("GET", f"/v1/schema/{collection}/tenants")
        }

    def add_tenants(self, collection: str, names: Sequence[str]) -> None:
        self.call("POST", f"/v1/schema/{collection}/tenants", [{"name": name} for name in names])

    def set_tenants(self, collection: str, names: Sequence[str], status: str) -> None:
        body = [{"name": name, "activityStatus": status} for name in names]
        self.call("PUT", f"/v1/schema/{collection}/tenants", body)

    def aliases(self) -> dict[str, str]:
        """Collection by alias."""
        found = self.call("GET", "/v1/aliases").get("aliases") or []
        return {entry["alias"]: entry["class"] for entry in found}

    def create_alias(self, alias: str, collection: str) -> None:
        self.call("POST", "/v1/aliases", {"alias": alias, "class": collection})

    def delete_alias(self, alias: str) -> None:
        """No error when there is none."""
        self.call("DELETE", f"/v1/aliases/{alias}", missing_ok=True)

    def insert(self, objects: Sequence[Json]) -> None:
        """One batch, every object acknowledged."""
        answers = self.call("POST", "/v1/batch/objects?consistency_level=ALL", {"objects": list(objects)})
        for answer in answers:
            if answer["result"].get("status") != "SUCCESS":
                raise WeaviateError("POST", "/v1/batch/objects", 200, json.dumps(answer["result"]))

    def graphql(self, query: str) -> Json:
        answer = self.call("POST", "/v1/graphql", {"query": query})
        if answer.get("errors"):
            raise WeaviateError("POST", "/v1/graphql", 200, json.dumps(answer["errors"]) + " " + query)
        return answer["data"]

    def count(self, collection: str, tenant: str | None = None) -> int:
        scope = f'(tenant: "{tenant}")' if tenant else ""
        data = self.graphql(f"{{ Aggregate {{ {collection}{scope} {{ meta {{ count }} }} }} }}")
        return int(data["Aggregate"][collection][0]["meta"]["count"])

    def objects(self, collection: str, tenant: str | None = None) -> Iterator[Json]:
        """Every object with its vectors, by the cursor API."""
        scope = f"&tenant={quote(tenant)}" if tenant else ""
        after = ""
        while True:
            path = f"/v1/objects?class={collection}&limit={PAGE}&include=vector&after={after}{scope}"
            page = self.call("GET", path).get("objects") or []
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1]["id"]

    def unfinished(self, collection: str) -> list[str]:
        """Shards whose vectors are not all in the index, with what is left to do."""
        return [
            f"{collection}/{shard['name']} on {node['name']}: {shard['vectorIndexingStatus']}, {queued} vectors queued"
            for node in self.call("GET", f"/v1/nodes/{collection}?output=verbose")["nodes"]
            for shard in node.get("shards") or []
            if (queued := shard.get("vectorQueueLength") or 0) or shard["vectorIndexingStatus"] != "READY"
        ]

    def shards(self, collection: str) -> dict[str, dict[str, int]]:
        """Objects that each node counts in its own replica, by shard and node."""
        found: dict[str, dict[str, int]] = {}
        for node in self.call("GET", f"/v1/nodes/{collection}?output=verbose")["nodes"]:
            for shard in node.get("shards") or []:
                found.setdefault(shard["name"], {})[node["name"]] = shard["objectCount"]
        return found
