"""Whether a collection that raft has is the one that a restore told it to make. Pure.

A collection has no identity but its name, and the answer to a restore may be lost. So it is known by what another's of
that name would not have:

* Without tenants: its shards. Their names are drawn at random, twelve characters each.
* With tenants: all that were sent are there, on the nodes that were sent; and the files on disk, which the caller asks.
  Tenants that were made since do not count against it: applications make them by writing.
* With tenants, but none of them sent: nothing tells. Then what was sent is a definition and no data. A collection
  with that very definition is what the restore was to make, whoever made it, and is taken for it: to refuse it would
  have people delete what others wrote there since, and gain them the same empty collection. Any other one is refused.
"""

from collections.abc import Mapping
from typing import Any

from weaviate_backup.layout.definitions import Definition, contradiction, in_one_alone
from weaviate_backup.layout.sharding_state import nodes_of

State = Mapping[str, Any]


def unlike_sent(sent: tuple[Definition, State], there: tuple[Definition, State], *, taken: bool = False) -> str | None:
    """What tells that the collection there is not the one that was sent, in words; None when nothing does.

    Each is the class and its sharding state. `taken`: it is known to use the files that were placed for it, so that
    tenants that are gone were deleted since.
    """
    (sent_class, sent_state), (class_there, state_there) = sent, there
    different = contradiction(sent_class, class_there)
    if different or taken:
        return different
    shards, found = sent_state.get("physical") or {}, state_there.get("physical") or {}
    if not shards:
        return in_one_alone(sent_class, class_there)
    tenants = bool(sent_state.get("partitioningEnabled"))
    for name, shard in shards.items():
        if name not in found:
            return f"it has no {'tenant' if tenants else 'shard'} {name}"
        at, wanted = sorted(nodes_of(found[name])), sorted(nodes_of(shard))
        if tenants and at != wanted:
            return f"tenant {name} is on {', '.join(at)}, not on {', '.join(wanted)}"
    return None
