"""What the work on a backup and on a restore has in common: whose turn it is, and an end that no machine decides on.

A turn looks in one place, from which no error comes out, decides, writes the status and carries out the commands. So
nothing that somebody laid in its way keeps an operation from hearing that it was canceled or deleted, or is too late.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

from weaviate_backup.api.backup import BackupSpec, BackupStatus
from weaviate_backup.api.bounds import status_json
from weaviate_backup.api.durations import parse_duration
from weaviate_backup.api.names import API_VERSION
from weaviate_backup.api.reading import SPEC_INVALID
from weaviate_backup.api.resources import Resource
from weaviate_backup.api.restore import RestoreSpec, RestoreStatus
from weaviate_backup.api.status import OperationStatus
from weaviate_backup.controller.agent_pods import Owner, pod_name
from weaviate_backup.controller.backup_status import Sight
from weaviate_backup.controller.operations import Json, OperationRequest, OperationRuntime
from weaviate_backup.controller.refusing import end_refused
from weaviate_backup.controller.server_operations import ServerLine
from weaviate_backup.core.orders import Lease, PlannedBackup, PlannedRestore, seconds_since
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.world import World, patience_of
from weaviate_backup.errors import BackupError, InvalidInput, Permanent, Transient, excerpt
from weaviate_backup.kube import Kube
from weaviate_backup.settings import OperatorSettings

Seen = TypeVar("Seen", bound=World)
Show = Callable[..., OperationStatus]
"""The next status, from `plan` and `sight`."""
SHOW_SECONDS = 1.0
"""Between two writes that only show progress."""
log = logging.getLogger(__name__)


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
        self._shown: Json = {}
        self._shown_at = 0.0
        self._left_out = ""

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
        except InvalidInput as error:
            refused: BackupError = error
        except Transient:
            raise
        except Exception as error:
            if not self._is_long_deleted(body):
                raise
            refused = error if isinstance(error, BackupError) else Permanent("Unexpected", type(error).__name__)
        return await end_refused(self._runtime, self.resource, body, self.status_type, refused, deleting=self.deleting)

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

    async def _write(
        self, known: OperationStatus, show: Show, agents: Agents, seen: Sight, *, remembered: bool
    ) -> bool:
        """Whether the status is as it should be now; progress alone may wait for the next second.

        What plan, agents and server say is not ours: when no status takes it, it is left out. For the status stands
        before every command, and so before every end.
        """
        plan = self._runtime.plan
        pods = {node: pod_name(self._owner, node, plan.nodes if plan else ()) for node in agents.pods}
        notes = {**self._runtime.notes, "server": self._line.note}
        try:
            return await self._apply(known, show(plan=plan, sight=replace(seen, pods=pods, notes=notes)), remembered)
        except Transient:
            raise
        except Exception as error:  # noqa: BLE001 (whatever is wrong with it)
            if (why := excerpt(str(error))) != self._left_out:
                log.warning("%s: no status takes what was seen: %s", self.name, why)
            self._left_out = why
            return await self._apply(known, show(plan=None, sight=Sight()), remembered)

    async def _apply(self, known: OperationStatus, wanted: OperationStatus, remembered: bool) -> bool:
        shown = status_json(wanted)
        if shown == status_json(known) and known.observed_generation is not None:
            return True
        if not remembered and time.monotonic() - self._shown_at < SHOW_SECONDS:
            return False
        metadata = {"name": self._owner.name, "namespace": self._owner.namespace}
        body = {"apiVersion": API_VERSION, "kind": self._owner.kind, "metadata": metadata, "status": shown}
        await self._kube.apply(self.resource, body, subresource="status")
        self._shown, self._shown_at = shown, time.monotonic()
        return True
