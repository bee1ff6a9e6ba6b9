"""Freezing single shards: a bounded number at once, each by the way its status asks for, busy ones waited for.

The server is let go of a shard in a `finally`, whatever happens to linking. A tenant that changes its status meanwhile
is done again the other way; one that vanished is remembered as gone.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from weaviate_backup.agent.expansion import TenantStatus, local_shards
from weaviate_backup.agent.journal import cuts_left_over
from weaviate_backup.agent.linking import take_cut
from weaviate_backup.agent.tasks import in_thread, together
from weaviate_backup.agent.workspace import FROZEN, Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout.definitions import made_anew, no_longer
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.inactive_tenants import DRIVER, changes, cut_inactive, fingerprint_of
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.shard_source import ShardCut, ShardSource
from weaviate_backup.weaviate.snapshot_staging import shard_directory

SHARDS_AT_ONCE = 4
BUSY_DEADLINE_SECONDS = 1200.0
"""How long a shard may be busy (reindexing, moving, unreachable server) before the step fails."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
CONTRADICTIONS = 5
"""Raft calls a shard active, the server does not know it: so often in a row this is taken for a delay."""

log = logging.getLogger(__name__)


class ShardFreezer:
    """Cuts and links shards into the frozen set, and remembers them in the journal."""

    def __init__(self, workspace: Workspace, meter: Meter, *, raft: RaftClient, driver: ShardSource) -> None:
        self._workspace = workspace
        self._meter = meter
        self._raft = raft
        self._driver = driver
        self._room = asyncio.Semaphore(SHARDS_AT_ONCE)
        self._frozen = {(record["collection"], record["shard"]) for record in workspace.journal.of("shard")}

    async def release_left_over(self) -> None:
        """Cuts that a killed predecessor may not have let go of."""
        for collection, shard in cuts_left_over(self._workspace.journal):
            await self._driver.release(ShardCut(collection, shard, driver="", files=(), halt_seconds=0.0))

    async def freeze(self, collection: str, statuses: Mapping[str, TenantStatus], version: int) -> None:
        """Every named shard, some at a time; those frozen before are left."""
        pending = [(shard, status) for shard, status in statuses.items() if not self._has(collection, shard)]
        queue = iter(pending)

        async def worker() -> None:
            for shard, status in queue:
                async with self._room:
                    await self._freeze_one(collection, shard, status, version)

        await together(worker() for _ in range(min(SHARDS_AT_ONCE, len(pending))))

    def _has(self, collection: str, shard: str) -> bool:
        return (collection, shard) in self._frozen and self._target(collection, shard).is_directory()

    def _target(self, collection: str, shard: str) -> Place:
        return self._workspace.directory / FROZEN / collection.lower() / shard

    async def _freeze_one(self, collection: str, shard: str, status: TenantStatus, version: int) -> None:
        """Until it is frozen or gone. What may pass is waited for with growing pauses, up to the deadline."""
        loop = asyncio.get_running_loop()
        deadline, pause, contradictions = loop.time() + BUSY_DEADLINE_SECONDS, FIRST_PAUSE_SECONDS, 0
        while True:
            self._meter.check()
            contradiction: Permanent | None = None
            try:
                await self._attempt(collection, shard, status, version)
            except Transient as error:
                if loop.time() + pause > deadline:
                    raise
                log.info("%s/%s is waited for: %s", collection, shard, error)
            except Permanent as error:
                if error.reason != "ShardNotFound":
                    raise
                contradiction = error
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            found = await self._status_now(collection, shard)
            if found is None:
                await self._forget(collection, shard)
                return
            if contradiction is not None and found is TenantStatus.INACTIVE is status:
                await self._note_empty(collection, shard)
                return
            contradictions = contradictions + 1 if contradiction is not None and found is status else 0
            if contradiction is not None and contradictions > CONTRADICTIONS:
                raise contradiction
            if found is TenantStatus.OFFLOADED:
                raise Transient("TenantOffloaded", f"tenant {collection}/{shard} was offloaded during the backup")
            status, version = found, 0

    async def _attempt(self, collection: str, shard: str, status: TenantStatus, version: int) -> None:
        started_at = datetime.now(UTC)
        if status is TenantStatus.MOVING:
            raise Transient("ShardBusy", f"tenant {collection}/{shard} is being offloaded or brought back")
        if status is TenantStatus.INACTIVE:
            cut, total_bytes = await in_thread(self._take_inactive, collection, shard)
        else:
            cut, total_bytes = await self._take_active(collection, shard, version)
        self._note(cut, total_bytes, started_at)

    def _note(self, cut: ShardCut, total_bytes: int, started_at: datetime) -> None:
        self._workspace.journal.append(
            "shard",
            sync=False,
            collection=cut.collection,
            shard=cut.shard,
            driver=cut.driver,
            halt_seconds=cut.halt_seconds,
            object_count=cut.object_count,
            bytes=total_bytes,
            files=len(cut.files),
            started_at=started_at.isoformat(),
            ended_at=datetime.now(UTC).isoformat(),
        )
        self._frozen.add((cut.collection, cut.shard))

    async def _note_empty(self, collection: str, shard: str) -> None:
        """An inactive tenant without a directory was never active: it is whole without a file."""
        nothing = ShardCut(collection, shard, driver=DRIVER, files=(), halt_seconds=0.0, object_count=0)
        total_bytes, _ = await in_thread(take_cut, nothing, self._target(collection, shard), check=self._meter.check)
        self._note(nothing, total_bytes, datetime.now(UTC))

    async def _take_active(self, collection: str, shard: str, version: int) -> tuple[ShardCut, int]:
        self._workspace.journal.append("cutting", sync=False, collection=collection, shard=shard)
        cut = await self._driver.cut(collection, shard, schema_version=version)
        try:
            total_bytes, _ = await in_thread(take_cut, cut, self._target(collection, shard), check=self._meter.check)
        finally:
            await asyncio.shield(self._driver.release(cut))
        return cut, total_bytes

    def _take_inactive(self, collection: str, shard: str) -> tuple[ShardCut, int]:
        """Read from disk, and look again: nothing may have moved.

        Then it is what a server would find after a crash at that moment, with every acknowledged write, even if it was
        active by then. Waking, being unloaded, being deleted and made again all change files or their inodes.
        """
        data_root = self._workspace.data_root
        cut, before = cut_inactive(data_root, collection, shard)
        total_bytes, _ = take_cut(cut, self._target(collection, shard), check=self._meter.check)
        changed = changes(before, fingerprint_of(shard_directory(data_root, collection, shard)))
        if changed:
            what = f"tenant {collection}/{shard} was written to while it was read"
            raise Transient("TenantChanged", f"{what}, {len(changed)} files, first {changed[0]!r}")
        return cut, total_bytes

    async def _status_now(self, collection: str, shard: str) -> TenantStatus | None:
        """None when it was deleted. One that lives on elsewhere is in nobody's plan, so it is an error, as is one that
        cannot be deleted alone."""
        state, _ = await self._raft.sharding_state(collection)
        local = local_shards(state, self._workspace.node, collection=collection)
        found = local.statuses.get(shard)
        if found is None and shard in (state.get("physical") or {}):
            raise Permanent(
                "ShardMoved",
                f"{collection}/{shard} was moved away from {self._workspace.node} during the backup; make a new one "
                "when the replica movement has ended",
            )
        if found is None and not local.multi_tenant:
            raise made_anew(collection, no_longer(shard))
        return found

    async def _forget(self, collection: str, shard: str) -> None:
        """Deleted while we were at it: not covered, and nothing to be covered."""
        log.warning("%s/%s is gone, it will not be in the backup", collection, shard)
        self._workspace.journal.append(
            "gone", sync=False, collection=collection, shard=shard, at=datetime.now(UTC).isoformat()
        )
        await in_thread(self._target(collection, shard).remove_tree)
