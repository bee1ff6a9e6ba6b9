"""FREEZE: refuse what cannot work before anything is touched, then cut and link every local shard.

Active shards are cut by the driver, inactive tenants are read from disk and looked at again, offloaded ones that are
not back by then are only counted. Each is of its own instant: what happens to a tenant after its cut does not concern
the backup. The server is let go of a shard as soon as its files are linked, in every path. The journal remembers each
frozen shard, so that a restarted agent cuts only the others.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from weaviate_backup.agent.access import count_access, keep_access, kept_access
from weaviate_backup.agent.durability import boot_id
from weaviate_backup.agent.expansion import LocalShards, TenantStatus, local_shards
from weaviate_backup.agent.fates import Fate, fates
from weaviate_backup.agent.journal import SHARD, THAWED
from weaviate_backup.agent.release import sweep
from weaviate_backup.agent.shard_freezer import ShardFreezer
from weaviate_backup.agent.survey import read_schema, take_schema
from weaviate_backup.agent.workspace import FROZEN, SCHEMA, Workspace
from weaviate_backup.core.session import Frozen, StepCommand, Surveyed
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.definitions import contradiction, made_anew
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread, together
from weaviate_backup.weaviate.raft import RaftClient, if_there
from weaviate_backup.weaviate.raft_access import AccessClient
from weaviate_backup.weaviate.rest import NodeClient

COLLECTIONS_AT_ONCE = 4
NAMES_LIMIT = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrozenCollection:
    """What was frozen of a collection here. `version` is raft's of the sharding state."""

    name: str
    shards: LocalShards


async def freeze(workspace: Workspace, command: StepCommand, meter: Meter) -> Frozen:
    """The step. Everything before the first cut only looks, but for sweeping dead operations."""
    done, surveyed = workspace.journal.result("frozen", Frozen), workspace.journal.result("surveyed", Surveyed)
    if done is not None:
        if surveyed is not None:
            meter.tell(surveyed)  # the others may not have frozen yet
        return done
    order, endpoint = workspace.backup, workspace.weaviate
    async with AsyncExitStack() as stack:
        raft = workspace.watched(AccessClient(endpoint.host, endpoint.raft_port))
        await stack.enter_async_context(raft)
        await together((in_thread(take_place, workspace), sweep(workspace, raft)))
        await in_thread(_thaw_unsynced, workspace)
        await keep_access(workspace, raft, meter)
        driver = await workspace.open_driver()
        stack.push_async_callback(driver.close)
        node = NodeClient(endpoint.host, endpoint.data_port, workspace.cluster_credentials())
        await stack.enter_async_context(node)
        freezer = ShardFreezer(workspace, meter, raft=raft, node=node, driver=driver)
        await freezer.release_left_over()
        taken = await take_schema(workspace, command, raft, meter)
        frozen = await _freeze_all(workspace, sorted(taken.collections), raft, freezer)
    result = summarize(workspace, order.collections, frozen).model_copy(update={"schema_sha256": taken.sha256})
    meter.expect(bytes_total=result.bytes_total, files_total=result.files_total)
    # Links, our copies and the server's: none of them was synced, and all of them are believed from here on.
    await in_thread(workspace.directory.sync_file_system)
    workspace.journal.append("frozen", result=result.model_dump(mode="json"))
    return result


def take_place(workspace: Workspace) -> None:
    """Claim the identifier in the store, before anything is cut: whatever lies there unclaimed is another backup's."""
    location = workspace.order.location
    if location.read_only:
        raise Permanent("LocationReadOnly", f"location {location.address} is readOnly; no backup can be written to it")
    if workspace.node == workspace.backup.leader:
        workspace.signing_key()  # it will be needed at the end
    store = workspace.open_store()
    store.check()
    workspace.place_in(store).take()


def _thaw_unsynced(workspace: Workspace) -> None:
    """What an attempt froze before the machine started anew was never synced: all of it is frozen again."""
    boot, unsynced = boot_id(), False
    for record in workspace.journal.of(SHARD, THAWED):
        unsynced = record["kind"] == SHARD and (unsynced or not boot or record.get("boot") != boot)
    if unsynced:
        for name in (FROZEN, SCHEMA):
            (workspace.directory / name).remove_tree()
        workspace.journal.append(THAWED)


async def _freeze_all(
    workspace: Workspace, names: Collection[str], raft: RaftClient, freezer: ShardFreezer
) -> dict[str, FrozenCollection]:
    """Every collection that exists, some at a time. The first failure ends all. Of those that are gone nothing stays,
    whoever froze it."""
    room = asyncio.Semaphore(COLLECTIONS_AT_ONCE)
    frozen: dict[str, FrozenCollection] = {}

    async def one(name: str) -> None:
        async with room:
            found = await if_there(_freeze_collection(workspace, name, raft, freezer))
        if found is None:
            log.warning("collection %s is gone, it will be missing", name)
        else:
            frozen[name] = found

    await together(one(name) for name in names)
    for gone in set(workspace.backup.collections) - frozen.keys():
        await in_thread((workspace.directory / FROZEN / gone.lower()).remove_tree)
    return frozen


async def _freeze_collection(
    workspace: Workspace, name: str, raft: RaftClient, freezer: ShardFreezer
) -> FrozenCollection:
    schema = await in_thread(read_schema, workspace, name)
    shards, class_json, version = (
        local_shards(schema["state"], workspace.node, collection=name),
        schema["class"],
        schema["version"],
    )
    del schema  # the state of all tenants of all nodes
    pending = [shard for shard, status in shards.statuses.items() if status is not TenantStatus.OFFLOADED]
    try:
        await freezer.freeze(
            name,
            {shard: shards.statuses[shard] for shard in sorted(pending)},
            version,
            multi_tenant=shards.multi_tenant,
        )
        await freezer.freeze_brought_back(name, shards.of(TenantStatus.OFFLOADED), version)
    except Permanent:
        await _refuse_made_anew(raft, name, class_json)  # what it misses may be of the old one
        raise
    await _refuse_made_anew(raft, name, class_json)
    return FrozenCollection(name, shards)


async def _refuse_made_anew(raft: RaftClient, name: str, before: dict[str, Any]) -> None:
    """Its shards may be another's of that name by now. One that was deleted after its cut is whole."""
    afterwards = await if_there(raft.collection(name))
    different = None if afterwards is None else contradiction(before, afterwards[0])
    if different:
        raise made_anew(name, different)


def summarize(workspace: Workspace, names: Iterable[str], frozen: dict[str, FrozenCollection]) -> Frozen:
    """The result, from the journal's records of the shards."""
    became = {name: of for name, of in fates(workspace.journal).items() if name in frozen}
    cuts = [fate for of in became.values() for fate in of.values() if fate.is_frozen]
    tenants, offloaded = Counter[TenantStatus](), list[str]()
    for name, each in frozen.items():
        if each.shards.multi_tenant:
            statuses = list(_statuses_at_cut(each.shards, became.get(name, {})))
            offloaded += [f"{name}/{tenant}" for tenant, status in statuses if status is TenantStatus.OFFLOADED]
            tenants.update(status for _, status in statuses)
    return Frozen(
        collections=tuple(sorted(frozen)),
        missing_collections=tuple(sorted(set(names) - set(frozen))),
        shards=len(cuts),
        bytes_total=sum(fate.size_bytes for fate in cuts),
        files_total=sum(fate.files for fate in cuts),
        longest_halt_seconds=max((fate.halt_seconds for fate in cuts), default=0.0),
        tenants_active=tenants[TenantStatus.ACTIVE],
        tenants_inactive=tenants[TenantStatus.INACTIVE],
        tenants_offloaded=len(offloaded),
        tenants_offloaded_names=tuple(sorted(offloaded)[:NAMES_LIMIT]),
        access=count_access(kept_access(workspace)),
    )


def _statuses_at_cut(shards: LocalShards, became: Mapping[str, Fate]) -> Iterator[tuple[str, TenantStatus]]:
    """Of the tenants that were not gone by then; of one that nobody cut it is the schema's."""
    for tenant, status in shards.statuses.items():
        found = became[tenant].status if tenant in became else status
        if found is not None:
            yield tenant, found
