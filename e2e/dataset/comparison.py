"""Two observations in, differences out, in words a person can act on. Only scores may differ, in their last digits."""

from collections.abc import Iterator, Mapping
from typing import Any

from e2e.dataset.observation import Hit, Observation

TOLERANCE = 1e-4
"""Distances differ in the last digits between versions of the server."""
KEYWORD_TOLERANCE = 1e-3
"""Relative. A keyword score depends on the average length of a property, which the server reckons from a memtable in
another way than from segments: the same objects score a little differently once they are flushed or compacted."""


def compare(before: Observation, after: Observation) -> list[str]:
    """Empty when a user could not tell them apart."""
    return [
        *_exact("definition of", before.definitions, after.definitions),
        *_exact("count of", before.counts, after.counts),
        *_exact("contents of", before.fingerprints, after.fingerprints),
        *_exact("filter", before.selections, after.selections),
        *_exact("alias", before.aliases, after.aliases),
        *_exact("tenant", before.tenants, after.tenants),
        *_exact("nodes of shard", _nodes(before), _nodes(after)),
        *_rankings(before.rankings, after.rankings),
    ]


def _exact(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *after}):
        if key not in after:
            yield f"{what} {key}: gone, was {_show(before[key])}"
        elif key not in before:
            yield f"{what} {key}: new, is {_show(after[key])}"
        elif before[key] != after[key]:
            yield f"{what} {key}: was {_show(before[key])}, is {_show(after[key])}"


def _rankings(before: Mapping[str, tuple[Hit, ...]], after: Mapping[str, tuple[Hit, ...]]) -> Iterator[str]:
    yield from _exact(
        "search", {key: _ids(hits) for key, hits in before.items()}, {k: _ids(h) for k, h in after.items()}
    )
    for key in sorted({*before} & {*after}):
        if _ids(before[key]) != _ids(after[key]):
            continue
        for old, new in zip(before[key], after[key], strict=True):
            if abs(old.score - new.score) > (KEYWORD_TOLERANCE * old.score if "bm25" in key else TOLERANCE):
                yield f"search {key}: {old.id} scored {old.score:.6f}, now {new.score:.6f}"


def _nodes(observed: Observation) -> dict[str, tuple[str, ...]]:
    return {shard: tuple(sorted(nodes)) for shard, nodes in observed.held.items()}


def uneven_replicas(restored: Observation) -> Iterator[str]:
    """Every replica of a shard must hold as much as the others, and the shards together what the collection counts.

    Only of data that was restored: the server's counts leave out what is in memtables still.
    """
    total: dict[str, int] = {}
    for shard, nodes in sorted(restored.held.items()):
        collection = shard.split("/")[0]
        total[collection] = total.get(collection, 0) + max(nodes.values(), default=0)
        if len(set(nodes.values())) > 1:
            yield f"replicas of shard {shard}: {', '.join(f'{node} has {n}' for node, n in sorted(nodes.items()))}"
    for collection, count in total.items():
        parts = {
            key.split(" ")[0]: n for key, n in restored.counts.items() if key.split(" ")[0].split("/")[0] == collection
        }
        if parts and sum(parts.values()) != count:
            yield f"shards of {collection}: hold {count} objects, {sum(parts.values())} are counted"


def _ids(hits: tuple[Hit, ...]) -> tuple[str, ...]:
    return tuple(hit.id for hit in hits)


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} results ({', '.join(str(entry)[:8] for entry in value[:6])}…)"
    text = str(value)
    return text if len(text) <= 160 else text[:159] + "…"
