"""APPLY: one raft RESTORE_CLASS per collection, in order, then aliases, roles and users. One agent does it for all.

The journal says what is about to be applied before it is, because the answer may be lost: a collection that is there
and that we were applying is ours; one that we were not applying is somebody else's, and never touched.
"""

import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Self

from weaviate_backup.agent.access_restore import WantedAccess, apply_access, read_wanted
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.judged import judged_backup
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import Applied, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.layout.sharding_state import nodes_of
from weaviate_backup.stored.backup_reading import RestoredClass
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread, to_its_end
from weaviate_backup.weaviate.raft import RaftClient

log = logging.getLogger(__name__)


async def apply(workspace: Workspace, command: StepCommand, meter: Meter) -> Applied:
    """The step."""
    classes, access = await in_thread(_read, workspace, command)
    endpoint = workspace.weaviate
    async with RaftClient(endpoint.host, endpoint.raft_port) as raft:
        index, there, so_far = 0, frozenset(await raft.class_names()), SoFar.told_by(workspace.journal)
        for restored in classes:
            meter.check()
            exists = restored.name in there
            index = max(index, await _apply_class(workspace, raft, restored, exists=exists, so_far=so_far))
        made, kept = await _apply_aliases(raft, classes, overwrite=command.overwrite_alias)
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


async def _apply_class(
    workspace: Workspace, raft: RaftClient, restored: RestoredClass, *, exists: bool, so_far: SoFar
) -> int:
    """The raft index, 0 when it is not known any more."""
    name, journal = restored.name, workspace.journal
    if name in so_far.applied:
        return so_far.applied[name]
    ours = name in so_far.applying
    if exists and not ours:
        raise Permanent("CollectionExists", f"collection {name!r} exists already; delete it or exclude it")
    index = 0
    if not exists:
        journal.append("applying", collection=name)
        state = mapped_state(restored.state, workspace.restore.node_mapping)
        try:
            # What raft is about to take must not be taken back beside it.
            index = await to_its_end(raft.restore_class(name, restored.class_json, state))
        except BackupError as error:
            lost = isinstance(error, Transient) or (ours and error.reason == "CollectionExists")
            if not lost or name not in await raft.class_names():
                raise
            log.warning("the answer to restoring %s was lost, but it is there", name)
    journal.append("applied", collection=name, index=index)
    log.info("collection %s is in the schema (raft index %d)", name, index)
    return index


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


async def _apply_aliases(
    raft: RaftClient, classes: list[RestoredClass], *, overwrite: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names made and names left with another collection."""
    made, kept = [], []
    for restored in classes:
        for alias in restored.aliases:
            present = await raft.resolve_alias(alias)
            if present not in (None, restored.name) and not overwrite:
                kept.append(alias)
                continue
            if present is not None and present != restored.name:
                await raft.delete_alias(alias)
            if present != restored.name:
                await raft.create_alias(alias, restored.name)
            made.append(alias)
    return tuple(made), tuple(kept)
