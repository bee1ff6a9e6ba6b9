"""APPLY: one raft RESTORE_CLASS per collection, in order, then aliases, roles and users. One agent does it for all.

The journal says what is about to be applied before it is, because the answer may be lost, and because a server repeats
a command by itself and then refuses the second of them. So a collection that is there after we asked for it may be
ours or another's of that name, and is judged by what it is. One that we never asked for is another's, and not touched.
"""

import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Self

from weaviate_backup.agent.access_restore import WantedAccess, apply_access, read_wanted
from weaviate_backup.agent.aliases import apply_aliases
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.judged import judged_backup
from weaviate_backup.agent.placed_records import placed_of
from weaviate_backup.agent.sweep import lies_at
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import Applied, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.layout.sent_collection import unlike_sent
from weaviate_backup.layout.sharding_state import nodes_of
from weaviate_backup.stored.backup_reading import RestoredClass
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread, to_its_end
from weaviate_backup.weaviate.raft import RaftClient, if_there

log = logging.getLogger(__name__)


async def apply(workspace: Workspace, command: StepCommand, meter: Meter) -> Applied:
    """The step."""
    classes, access = await in_thread(_read, workspace, command)
    endpoint = workspace.weaviate
    async with workspace.watched(RaftClient(endpoint.host, endpoint.raft_port)) as raft:
        index, so_far = 0, SoFar.told_by(workspace.journal)
        in_use = await NamesInUse.told_by(raft)
        for restored in classes:  # none is made known when one of them cannot be
            if restored.name not in {*so_far.applied, *so_far.applying}:
                in_use.refuse(restored.name)
        for restored in classes:
            meter.check()
            index = max(index, await _apply_class(workspace, raft, restored, so_far=so_far))
        made, kept = await apply_aliases(raft, classes, overwrite=command.overwrite_alias)
    counts = await apply_access(workspace, access, meter)
    return Applied(raft_index=index, collections=command.collections, aliases=made, aliases_kept=kept, access=counts)


def _read(workspace: Workspace, command: StepCommand) -> tuple[list[RestoredClass], WantedAccess]:
    """All of it, before anything is changed."""
    reader = judged_backup(workspace, command)
    return [reader.restored_class(name) for name in command.collections], read_wanted(workspace, reader)


@dataclass(frozen=True)
class SoFar:
    """What agents of this operation did before. `applied`: collection -> raft index."""

    applied: Mapping[str, int]
    applying: Set[str]

    @classmethod
    def told_by(cls, journal: Journal) -> Self:
        applied = {record["collection"]: int(record["index"]) for record in journal.of("applied")}
        return cls(applied, {record["collection"] for record in journal.of("applying")})


@dataclass(frozen=True)
class NamesInUse:
    """Of the cluster now: its collections, and alias -> collection."""

    collections: tuple[str, ...]
    aliases: Mapping[str, str]

    @classmethod
    async def told_by(cls, raft: RaftClient) -> Self:
        return cls(await raft.class_names(), await raft.aliases())

    def refuse(self, name: str) -> None:
        """Unless it is free in any spelling: collections that differ in case alone have one directory, and not every
        server looks."""
        for other in self.collections:
            if other.lower() == name.lower():
                same = "exists already" if other == name else f"exists as {other!r}, and case does not tell them apart"
                raise Permanent("CollectionExists", f"collection {name!r} {same}; delete {other!r} or exclude {name!r}")
        for alias, collection in self.aliases.items():
            if alias.lower() == name.lower():
                message = f"collection {name!r} has the name of alias {alias!r} of {collection!r}"
                raise Permanent("AliasInTheWay", f"{message}; delete {alias!r} or exclude {name!r}")


async def _apply_class(workspace: Workspace, raft: RaftClient, restored: RestoredClass, *, so_far: SoFar) -> int:
    """The raft index, 0 when it is not known any more."""
    name, journal, index = restored.name, workspace.journal, 0
    if name in so_far.applied:
        return so_far.applied[name]
    state = mapped_state(restored.state, workspace.restore.node_mapping)
    if name not in so_far.applying or not await _is_there(workspace, raft, restored, state):
        (await NamesInUse.told_by(raft)).refuse(name)  # anew: the application may have made one since
        journal.append("applying", collection=name)
        try:
            # What raft is about to take must not be taken back beside it.
            index = await to_its_end(raft.restore_class(name, restored.class_json, state))
        except BackupError as error:
            lost = isinstance(error, Transient) or error.reason == "CollectionExists"
            if not lost or not await _is_there(workspace, raft, restored, state):
                raise
            log.warning("the answer to restoring %s was lost, but it is there", name)
    journal.append("applied", collection=name, index=index)
    log.info("collection %s is in the schema (raft index %d)", name, index)
    return index


async def _is_there(workspace: Workspace, raft: RaftClient, restored: RestoredClass, state: Mapping[str, Any]) -> bool:
    """Whether raft has what it was asked for. `CollectionExists` when it has another of that name."""
    name = restored.name
    picture = await if_there(raft.snapshot(name))
    if picture is None:
        return False
    class_there, state_there, _ = picture
    # Shards of a collection without tenants say more than a disk, which lacks the files when a node caught up.
    tenants = bool(state.get("partitioningEnabled"))
    taken = await in_thread(_is_taken, workspace, name) if tenants else None
    unlike = unlike_sent((restored.class_json, state), (class_there, state_there), taken=taken is True)
    if unlike is None and taken is False:
        unlike = f"on {workspace.node} it does not use the files that were placed for it"
    if unlike is not None:
        raise Permanent(
            "CollectionExists",
            f"a collection {name!r} was made by somebody else while this restore asked for it: {unlike}; delete it and "
            "restore again, or exclude it",
        )
    return True


def _is_taken(workspace: Workspace, name: str) -> bool | None:
    """Whether this node's Weaviate uses what was placed here for the collection; None when it cannot be told: nothing
    was, or the node has not come to it yet."""
    record = placed_of(workspace.journal).get(name)
    if record is None:
        return None
    waits, used = lies_at(workspace.data_root, record)
    if used.is_same():
        return True
    return False if waits.is_same() and used.place.exists() else None


def mapped_state(state: Mapping[str, Any], node_mapping: Mapping[str, str]) -> dict[str, Any]:
    """The sharding state with the target's node names, in the form every version reads."""
    physical = {
        name: {
            **{key: value for key, value in shard.items() if key != "belongsToNode"},
            "belongsToNodes": [node_mapping.get(node, node) for node in nodes_of(shard)],
        }
        for name, shard in (state.get("physical") or {}).items()
    }
    return {**state, "physical": physical, "replicationFactor": state.get("replicationFactor") or 1}
