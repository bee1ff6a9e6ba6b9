"""What the work on a backup and on a restore has in common: whose turn it is, and an end that no machine decides on.

A turn looks in one place, from which no error comes out, decides, writes the status and carries out the commands. So
nothing that somebody laid in its way keeps an operation from hearing that it was canceled or deleted, or is too late.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

from weaviate_backup.api.backup import BackupSpec, BackupStatus
from weaviate_backup.api.durations import parse_duration
from weaviate_backup.api.reading import SPEC_INVALID
from weaviate_backup.api.resources import Resource
from weaviate_backup.api.restore import RestoreSpec, RestoreStatus
from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.controller.operations import Json, OperationRequest, OperationRuntime
from weaviate_backup.controller.refusing import end_refused
from weaviate_backup.controller.server_operations import ServerLine
from weaviate_backup.core.orders import Lease, PlannedBackup, PlannedRestore, seconds_since
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.world import World, patience_of
from weaviate_backup.errors import InvalidInput, Permanent
from weaviate_backup.kube import Kube
from weaviate_backup.settings import OperatorSettings

Seen = TypeVar("Seen", bound=World)
SHOW_SECONDS = 1.0
"""Between two writes that only show progress."""


def timeout_of(spec: BackupSpec | RestoreSpec) -> float:
    """In seconds. Raises `InvalidInput` for what an older schema let pass."""
    try:
        return parse_duration(spec.timeout)
    except ValueError as error:
        raise InvalidInput(SPEC_INVALID, f"spec.timeout: {error}") from None


class OperationDriver(ABC):
    """The work on one operation while its daemon lives. `seen_at`: since when this process has looked at it."""

    word: ClassVar[str]
    resource: ClassVar[Resource]
    plan_type: ClassVar[type[PlannedBackup] | type[PlannedRestore]]
    status_type: ClassVar[type[BackupStatus] | type[RestoreStatus]]

    def __init__(
        self,
        kube: Kube,
        settings: OperatorSettings,
        owner: Owner,
        *,
        wake: asyncio.Event,
        seen_at: datetime | None = None,
    ) -> None:
        self.name = f"{self.word} {owner.namespace}/{owner.name}"
        self.wake = wake
        self.deleting = False
        self._kube = kube
        self._settings = settings
        self._owner = owner
        self._runtime = OperationRuntime(
            kube, settings, owner, wake.set, self.plan_type, seen_at=seen_at or datetime.now(UTC)
        )
        self._line = ServerLine(kube, owner)
        self._shown_at = 0.0

    async def close(self) -> None:
        await self._runtime.close()

    async def tick(self) -> float | None:
        body = await self._kube.get(self.resource, self._owner.namespace, self._owner.name)
        if body is None or body["metadata"]["uid"] != self._owner.uid:
            return None
        if body["metadata"].get("deletionTimestamp") and not self.deleting:
            return None  # the deletion handler goes on from here
        try:
            return await self._turn(body)
        except Permanent as error:
            if not (isinstance(error, InvalidInput) or self._is_long_deleted(body)):
                raise
            return await end_refused(
                self._runtime, self.resource, body, self.status_type, error, deleting=self.deleting
            )

    def _is_long_deleted(self, body: Json) -> bool:
        """Nobody will read the status of what is being deleted; that it cannot be written must not keep the object for
        ever. Until then its agents are told to let go."""
        deleted_at = body["metadata"].get("deletionTimestamp")
        if not self.deleting or deleted_at is None:
            return False
        waited_seconds = seconds_since(datetime.fromisoformat(deleted_at), datetime.now(UTC))
        return waited_seconds > patience_of(self._settings.agent_lease_seconds)

    @abstractmethod
    async def _turn(self, body: Json) -> float | None:
        """Looks, decides, shows and performs; when to look again."""

    async def _observe(
        self, effects: OperationRequest, look: Callable[[Agents], Awaitable[Seen]], kind: type[Seen], *, ending: bool
    ) -> Seen:
        """All that is looked at, or why it could not be."""
        runtime = self._runtime
        try:
            return await look(await runtime.look(effects))
        except Exception as error:  # noqa: BLE001 (a bug, too, must not keep anybody from canceling)
            agents, why = runtime.blind(error)
            if ending:
                await runtime.links.close()  # whoever is given up unseen is not to be kept alive by our questions
            left, failed = not runtime.removed, runtime.failed
            return kind(agents=agents, lease=Lease.UNKNOWN, remains=left, failed=failed, unseen=why)
