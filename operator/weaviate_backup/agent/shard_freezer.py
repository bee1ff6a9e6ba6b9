"""Freezing the shards of a collection: a bounded number at once, each by the way its status asks for.

The server is let go of a shard in a `finally`, whatever happens to linking. A tenant that changes its status meanwhile
is done again the other way; one that vanished is remembered as gone, one that was offloaded as that. Busy shards are
waited for beside the others, and none of them takes the place of one that could be frozen.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from weaviate_backup.agent.durability import boot_id
from weaviate_backup.agent.expansion import TenantStatus, local_shards, status_of
from weaviate_backup.agent.fates import fates
from weaviate_backup.agent.journal import CUTS, GONE, OFFLOADED, SHARD, cuts_left_over
from weaviate_backup.agent.linking import take_cut
from weaviate_backup.agent.workspace import FROZEN, Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.layout.definitions import made_anew, no_longer
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread, none_left, to_its_end, together
from weaviate_backup.weaviate.inactive_tenants import DRIVER, changes, cut_inactive, fingerprint_of
from weaviate_backup.weaviate.raft import RaftClient, if_there
from weaviate_backup.weaviate.rest import NodeClient
from weaviate_backup.weaviate.shard_source import ShardCut, ShardSource
from weaviate_backup.weaviate.snapshot_staging import shard_directory

SHARDS_AT_ONCE = 4
BUSY_DEADLINE_SECONDS = 1200.0
"""How long a shard may be busy (reindexing, moving, unreachable server) before the step fails."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
MOST_WAITED_FOR = 1000
"""So many busy shards are waited for beside the others."""
CONTRADICTIONS = 5
"""Raft calls a shard active, the server does not know it: so often in a row this is taken for a delay."""
TENANTS_AT_ONCE = 1000
"""In one question about their statuses."""

log = logging.getLogger(__name__)


@dataclass
class _Turn:
    """One shard on its way: what it was at the last look, and how long it is waited for."""

    collection: str
    shard: str
    status: TenantStatus
    version: int
    deadline: float
    pause_seconds: float = FIRST_PAUSE_SECONDS
    contradictions: int = 0

    @property
    def name(self) -> str:
        return f"{self.collection}/{self.shard}"


class ShardFreezer:
    """Cuts and links shards into the frozen set, and remembers them in the journal."""

    def __init__(
        self, workspace: Workspace, meter: Meter, *, raft: RaftClient, node: NodeClient, driver: ShardSource
    ) -> None:
        self._workspace = workspace
        self._meter = meter
        self._raft = raft
        self._node = node
        self._driver = driver
        self._room = asyncio.Semaphore(SHARDS_AT_ONCE)
        self._before = fates(workspace.journal)

    async def release_left_over(self) -> None:
        """Cuts that a killed predecessor may not have let go of."""
        for collection, shard in cuts_left_over(self._workspace.journal.of(*CUTS)):
            await self._driver.release(ShardCut(collection, shard, driver="", files=(), halt_seconds=0.0))

    async def freeze(
        self, collection: str, statuses: Mapping[str, TenantStatus], version: int, *, multi_tenant: bool
    ) -> None:
        """Every named shard, some at a time; those frozen before are left."""
        pending = await in_thread(self._pending, collection, statuses)
        if multi_tenant:
            inactive = [shard for shard, status in pending.items() if status is TenantStatus.INACTIVE]
            for shard in await self._note_never_active(collection, inactive):
                del pending[shard]
        turns = iter(pending.items())
        busy: set[asyncio.Task[None]] = set()

        async def worker() -> None:
            for shard, status in turns:
                _raise_first(busy)
                busy.difference_update([task for task in busy if task.done()])
                deadline = asyncio.get_running_loop().time() + BUSY_DEADLINE_SECONDS
                turn = _Turn(collection, shard, status, version, deadline)
                if await self._try(turn, multi_tenant=multi_tenant):
                    continue
                if len(busy) < MOST_WAITED_FOR:
                    busy.add(asyncio.create_task(self._wait_for(turn, multi_tenant=multi_tenant)))
                else:
                    await self._wait_for(turn, multi_tenant=multi_tenant)

        async with none_left(busy):
            await together(worker() for _ in range(min(SHARDS_AT_ONCE, len(pending))))
            for finished in asyncio.as_completed(busy):
                await finished

    async def freeze_brought_back(self, collection: str, offloaded: Sequence[str], version: int) -> None:
        """Those of the offloaded tenants that are here by now: what was offloaded of them is deleted. Of a collection
        that is gone as a whole by now what was read stays."""
        back: dict[str, TenantStatus] = {}
        for start in range(0, len(offloaded), TENANTS_AT_ONCE):
            some = offloaded[start : start + TENANTS_AT_ONCE]
            statuses = await self._raft.tenant_statuses(collection, some)
            gone = [name for name in some if name not in statuses]
            if gone and await if_there(self._raft.collection(collection)) is None:
                return
            for name in gone:
                await self._forget(collection, name, GONE)
            now = {name: status_of({"status": status}) for name, status in statuses.items()}
            back |= {name: status for name, status in now.items() if status is not TenantStatus.OFFLOADED}
        await self.freeze(collection, back, version, multi_tenant=True)

    def _pending(self, collection: str, statuses: Mapping[str, TenantStatus]) -> dict[str, TenantStatus]:
        pending = {}
        for shard, status in statuses.items():
            self._meter.check()
            if not self._has(collection, shard):
                pending[shard] = status
        return pending

    def _has(self, collection: str, shard: str) -> bool:
        """As the journal says, with all its files."""
        fate = self._before.get(collection, {}).get(shard)
        if fate is None or not fate.is_frozen:
            return False
        try:
            return _size_of(self._target(collection, shard)) == (fate.files, fate.size_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _target(self, collection: str, shard: str) -> Place:
        return self._workspace.directory / FROZEN / collection.lower() / shard

    async def _wait_for(self, turn: _Turn, *, multi_tenant: bool) -> None:
        """Until it is frozen or gone, with growing pauses, up to the deadline."""
        while True:
            await asyncio.sleep(turn.pause_seconds)
            turn.pause_seconds = min(2 * turn.pause_seconds, LONGEST_PAUSE_SECONDS)
            if await self._try(turn, multi_tenant=multi_tenant):
                return

    async def _try(self, turn: _Turn, *, multi_tenant: bool) -> bool:
        """Once. False when it is to be tried again, by the status that it has then."""
        self._meter.check()
        contradiction: Permanent | None = None
        try:
            async with self._room:
                await self._attempt(turn)
        except Transient as error:
            if asyncio.get_running_loop().time() + turn.pause_seconds > turn.deadline:
                raise
            log.info("%s is waited for: %s", turn.name, error)
        except Permanent as error:
            if error.reason != "ShardNotFound":
                raise
            contradiction = error
        else:
            return True
        return await self._look_again(turn, contradiction, multi_tenant=multi_tenant)

    async def _look_again(self, turn: _Turn, contradiction: Permanent | None, *, multi_tenant: bool) -> bool:
        """What became of a shard that could not be frozen. True when nothing is left to do."""
        found = await self._status_now(turn, exact=contradiction is not None, multi_tenant=multi_tenant)
        if found is None or found is TenantStatus.OFFLOADED:
            await self._forget(turn.collection, turn.shard, GONE if found is None else OFFLOADED)
            return True
        sleeps = contradiction is not None and found is TenantStatus.INACTIVE is turn.status
        # Once more, as it may have been awake for a moment while its status was on its way.
        if sleeps and await self._without_directory(turn.collection, (turn.shard,)):
            await self._note_empty(turn.collection, turn.shard)
            return True
        turn.contradictions = turn.contradictions + 1 if contradiction is not None and found is turn.status else 0
        if contradiction is not None and turn.contradictions > CONTRADICTIONS:
            raise contradiction
        turn.status = found
        return False

    async def _attempt(self, turn: _Turn) -> None:
        started_at = datetime.now(UTC)
        if turn.status is TenantStatus.MOVING:
            raise Transient("ShardBusy", f"tenant {turn.name} is being offloaded or brought back")
        if turn.status is TenantStatus.INACTIVE:
            cut, total_bytes = await self._take_inactive(turn.collection, turn.shard)
        else:
            cut, total_bytes = await self._take_active(turn.collection, turn.shard, turn.version)
        self._note(cut, total_bytes, started_at)

    def _note(self, cut: ShardCut, total_bytes: int, started_at: datetime) -> None:
        self._workspace.journal.append(
            SHARD,
            sync=False,
            boot=boot_id(),
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

    async def _note_never_active(self, collection: str, tenants: Iterable[str]) -> list[str]:
        """Those of the inactive tenants that have no directory, and are whole without a file.

        The directory is looked for before and after their statuses were asked: one that woke in between has one.
        """
        noted: list[str] = []
        absent = await self._without_directory(collection, tenants)
        for start in range(0, len(absent), TENANTS_AT_ONCE):
            some = absent[start : start + TENANTS_AT_ONCE]
            statuses = await self._raft.tenant_statuses(collection, some)
            asleep = [name for name in some if statuses.get(name) == TenantStatus.INACTIVE]
            for shard in await self._without_directory(collection, asleep):
                self._meter.check()
                await self._note_empty(collection, shard)
                noted.append(shard)
        return noted

    async def _without_directory(self, collection: str, tenants: Iterable[str]) -> list[str]:
        """Those of the tenants of which there is nothing on the volume."""
        return await in_thread(_not_in, self._workspace.data_root / collection.lower(), tenants)

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
        except BaseException:
            with contextlib.suppress(BackupError):  # what ended it is the one to tell; the record of the cut stays
                await to_its_end(self._driver.release(cut))
            raise
        await to_its_end(self._driver.release(cut))
        return cut, total_bytes

    async def _take_inactive(self, collection: str, shard: str) -> tuple[ShardCut, int]:
        """Read from disk, and look again: nothing may have moved, and the server may not have it open.

        It may have woken since its status was read, and then keeps the last writes to its graph in memory, however
        still its files lie. Waking and being unloaded, being deleted and made again all change files or their inodes.
        """
        data_root = self._workspace.data_root
        cut, before = await in_thread(cut_inactive, data_root, collection, shard)
        total_bytes, _ = await in_thread(take_cut, cut, self._target(collection, shard), check=self._meter.check)
        if await self._node.has_open(collection, shard):
            raise Transient("TenantChanged", f"tenant {collection}/{shard} woke before it was read")
        changed = changes(before, await in_thread(fingerprint_of, shard_directory(data_root, collection, shard)))
        if changed:
            what = f"tenant {collection}/{shard} was written to while it was read"
            raise Transient("TenantChanged", f"{what}, {len(changed)} files, first {changed[0]!r}")
        return cut, total_bytes

    async def _status_now(self, turn: _Turn, *, exact: bool, multi_tenant: bool) -> TenantStatus | None:
        """None when it was deleted. One that lives on elsewhere is in nobody's plan, so it is an error, as is one that
        cannot be deleted alone. Unless `exact`, one that is there is taken to be here still."""
        if multi_tenant:
            statuses = await self._raft.tenant_statuses(turn.collection, (turn.shard,))
            if turn.shard not in statuses:
                await self._raft.collection(turn.collection)  # raises when it is gone as a whole
                return None
            if not exact:
                return status_of({"status": statuses[turn.shard]})
        state, _ = await self._raft.sharding_state(turn.collection)
        local = local_shards(state, self._workspace.node, collection=turn.collection)
        found = local.statuses.get(turn.shard)
        if found is None and turn.shard in (state.get("physical") or {}):
            raise Permanent(
                "ShardMoved",
                f"{turn.name} was moved away from {self._workspace.node} during the backup; make a new one when the "
                "replica movement has ended",
            )
        if found is None and not local.multi_tenant:
            raise made_anew(turn.collection, no_longer(turn.shard))
        return found

    async def _forget(self, collection: str, shard: str, fate: str) -> None:
        """Deleted or offloaded while we were at it: not covered, and nothing to be covered."""
        log.warning("%s/%s is %s, it will not be in the backup", collection, shard, fate)
        at = datetime.now(UTC).isoformat()
        self._workspace.journal.append(fate, sync=False, collection=collection, shard=shard, at=at)
        await in_thread(self._target(collection, shard).remove_tree)


def _raise_first(tasks: Iterable[asyncio.Task[None]]) -> None:
    """What ended one of them, if anything did."""
    for task in tasks:
        if task.done():
            task.result()


def _not_in(directory: Place, tenants: Iterable[str]) -> list[str]:
    there = set(directory.names()) if directory.is_directory() else set()
    return [tenant for tenant in tenants if tenant not in there]


def _size_of(directory: Place) -> tuple[int, int]:
    """Files and bytes of all of them."""
    sizes = [status.st_size for _, status in directory.files()]
    return len(sizes), sum(sizes)
