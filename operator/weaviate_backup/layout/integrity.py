"""What is wrong with a backup, found by comparing values: what should be stored with what is, who should hold a shard
with who does. Nothing is read here; findings are data, and an empty list is the only good answer.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from weaviate_backup.errors import excerpt
from weaviate_backup.layout.sharding_state import COVERED_STATUSES

MESSAGE_LIMIT = 1500


@dataclass(frozen=True)
class Finding:
    """One defect, named. `reason` is a CamelCase word, `subject` a key or a shard. `message` is short and can be shown,
    whatever it quotes of the backup."""

    reason: str
    subject: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", excerpt(self.message, MESSAGE_LIMIT))


def compare_listing(expected: Mapping[str, int], listed: Mapping[str, int]) -> tuple[Finding, ...]:
    """Missing, of another size, or there though nobody wrote it."""
    findings: list[Finding] = []
    for key, size_bytes in sorted(expected.items()):
        found = listed.get(key)
        if found is None:
            findings.append(Finding("ObjectMissing", key, f"{key} is not in the store"))
        elif found != size_bytes:
            findings.append(Finding("ObjectSizeWrong", key, f"{key} has {found} bytes in the store, not {size_bytes}"))
    findings.extend(
        Finding("ObjectUnexpected", key, f"{key} is in the store and belongs to no node of the backup")
        for key in sorted(set(listed) - set(expected))
    )
    return tuple(findings)


def compare_shards(
    states: Mapping[str, Mapping[str, Any]], held: Mapping[str, Mapping[str, Iterable[str]]]
) -> tuple[Finding, ...]:
    """Every shard on every node that the sharding state names must be in that node's backup.

    `states`: collection -> sharding state as raft gives it. `held`: node -> collection -> shards in its backup. Tenants
    may have come or gone between the cuts of two nodes, so a shard held but not named is no defect.
    """
    findings: list[Finding] = []
    sets = {node: {name: set(shards) for name, shards in of.items()} for node, of in held.items()}
    for collection, state in sorted(states.items()):
        for shard, physical in sorted((state.get("physical") or {}).items()):
            if physical.get("status", "") not in COVERED_STATUSES:
                continue
            for node in physical.get("belongsToNodes") or ():
                where = f"{collection}/{shard}"
                if node not in sets:
                    message = f"{where} belongs to node {node}, which is not in the backup"
                    findings.append(Finding("NodeMissing", where, message))
                elif shard not in sets[node].get(collection, ()):
                    message = f"{where} belongs to node {node}, whose backup does not hold it"
                    findings.append(Finding("ShardMissing", where, message))
    return tuple(findings)


def sha256_of_all(documents: Mapping[str, str]) -> str:
    """One digest of many: of the lines `key, space, SHA-256`, sorted. `documents`: key -> SHA-256."""
    lines = (f"{key} {sha256}\n" for key, sha256 in sorted(documents.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def summarize(findings: Iterable[Finding], *, limit: int = 3) -> str:
    """The first few messages and how many more there are."""
    messages = [finding.message for finding in findings]
    more = len(messages) - limit
    return "; ".join(messages[:limit]) + (f"; and {more} more" if more > 0 else "")
