"""APPLY: one raft RESTORE_CLASS per collection, in order, then aliases, roles and users. One agent does it for all.

The journal says what is about to be applied before it is, because the answer may be lost: a collection that is there
and that we were applying is ours; one that we were not applying is somebody else's, and never touched.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from weaviate_backup.agent.access_restore import WantedAccess, apply_access, read_wanted
from weaviate_backup.agent.judged import judged_backup
from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import Applied, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.layout.sharding_state import nodes_of
from weaviate_backup.stored.backup_reading import RestoredClass
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.raft import RaftClient

T = TypeVar("T")
log = logging.getLogger(__name__)


async def apply(workspace: Workspace, command: StepCommand, meter: Meter) -> Applied:
    """The step."""
    classes, access = await in_thread(_read, workspace, command)
    endpoint = workspace.weaviate
    async with RaftClient(endpoint.host, endpoint.raft_port) as raft:
        index, there = 0, frozenset(await raft.class_names())
        for restored in classes:
            meter.check()
            index = max(index, await _apply_class(workspace, raft, restored, exists=restored.name in there))
        made, kept = await _apply_aliases(raft, classes, overwrite=command.overwrite_alias)
    counts = await apply_access(workspace, access, meter)
    return Applied(raft_index=index, collections=command.collections, aliases=made, aliases_kept=kept, access=counts)


def _read(workspace: Workspace, command: StepCommand) -> tuple[list[RestoredClass], WantedAccess]:
    """All of it, before anything is changed."""
    reader = judged_backup(workspace, command)
    return [reader.restored_class(name) for name in command.collections], read_wanted(workspace, reader)


async def _apply_class(workspace: Workspace, raft: RaftClient, restored: RestoredClass, *, exists: bool) -> int:
    """The raft index, 0 when it is not known any more."""
    name, journal = restored.name, workspace.journal
    applied = next((each for each in journal.of("applied") if each["collection"] == name), None)
    if applied is not None:
        return int(applied["index"])
    ours = any(each["collection"] == name for each in journal.of("applying"))
    if exists and not ours:
        raise Permanent("CollectionExists", f"collection {name!r} exists already; delete it or exclude it")
    index = 0
    if not exists:
        journal.append("applying", collection=name)
        state = mapped_state(restored.state, workspace.restore.node_mapping)
        try:
            index = await _to_its_end(raft.restore_class(name, restored.class_json, state))
        except BackupError as error:
            lost = isinstance(error, Transient) or (ours and error.reason == "CollectionExists")
            if not lost or name not in await raft.class_names():
                raise
            log.warning("the answer to restoring %s was lost, but it is there", name)
    journal.append("applied", collection=name, index=index)
    log.info("collection %s is in the schema (raft index %d)", name, index)
    return index


async def _to_its_end(command: Coroutine[Any, Any, T]) -> T:
    """A cancelled caller learns of it only then: what raft is about to take must not be taken back beside it."""
    work = asyncio.ensure_future(command)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()
        raise


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
