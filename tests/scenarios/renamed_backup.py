"""Copies a stored backup under another id with other node names, as another cluster of the user would have made it."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from e2e.cluster import bucket
from e2e.cluster.surroundings import Store

_OURS = ("manifest.json", "manifest.json.zst", "schema.json.zst")


def copy_backup(store: Store, source: str, target: str, nodes: Mapping[str, str | None]) -> None:
    """`nodes`: new name by old name, None drops the node. Our manifests stay behind: the copy is a native backup."""
    client = bucket.client(store)
    for key in bucket.listing(store, f"{source}/"):
        relative = key.removeprefix(f"{source}/")
        node, _, rest = relative.partition("/")
        if relative.rsplit("/", 1)[-1] in _OURS or (rest and nodes.get(node, node) is None):
            continue
        body = client.get_object(Bucket=store.bucket, Key=key)["Body"].read()
        if relative == "backup_config.json":
            body = _rename(body, target, nodes)
        elif rest == "backup.json":
            body = _describe(body, target, nodes)
        name = f"{nodes.get(node, node)}/{rest}" if rest else relative
        client.put_object(Bucket=store.bucket, Key=f"{target}/{name}", Body=body)


def _rename(body: bytes, target: str, nodes: Mapping[str, str | None]) -> bytes:
    config = json.loads(body)
    config["id"] = target
    leader = config.get("leader", "")
    config["leader"] = nodes.get(leader, leader) or ""
    config["nodes"] = {
        nodes.get(node, node): entry for node, entry in config["nodes"].items() if nodes.get(node, node) is not None
    }
    return json.dumps(config).encode()


def _describe(body: bytes, target: str, nodes: Mapping[str, str | None]) -> bytes:
    descriptor = {**json.loads(body), "id": target}
    for collection in descriptor["classes"]:
        state = json.loads(base64.b64decode(collection["shardingState"]))
        _move(state["physical"], nodes)
        collection["shardingState"] = base64.b64encode(json.dumps(state).encode()).decode()
    return json.dumps(descriptor).encode()


def _move(physical: dict[str, Any], nodes: Mapping[str, str | None]) -> None:
    """Shards whose nodes are all dropped are dropped, too."""
    for name, shard in list(physical.items()):
        names = [nodes.get(node, node) for node in shard["belongsToNodes"]]
        shard["belongsToNodes"] = [node for node in names if node is not None]
        if not shard["belongsToNodes"]:
            del physical[name]
