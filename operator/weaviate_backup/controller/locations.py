"""Watches over locations: tries them from inside the cluster and says in their status whether they can be used.

Store workers do it, since only agents hold a location's credentials. A location is tried when it is new, when its spec
or a Secret of it changed, when it did not work, when it does not work and somebody wants to use it, and every few
hours. Of Secrets only versions are read. A location has no finalizer: its workers' pods die with it.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from weaviate_backup.api import conditions
from weaviate_backup.api.bounds import status_json
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.location_status import LocationStatus
from weaviate_backup.api.names import API_VERSION, LOCATION_KIND
from weaviate_backup.api.reading import check_shapes, read_object
from weaviate_backup.api.stored_objects import read_or_new
from weaviate_backup.controller import events, location_view
from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.controller.location_gate import Secrets, read_secrets
from weaviate_backup.controller.location_probe import probe_location
from weaviate_backup.controller.location_wishes import wanted_since
from weaviate_backup.controller.refusing import UNREADABLE_LOOK_SECONDS
from weaviate_backup.core.location_verdict import Sight, Verdict, judge
from weaviate_backup.core.location_watch import PROBING, SUSPENDED, due_in_seconds
from weaviate_backup.core.session import Failure
from weaviate_backup.core.signing import refuse_bad_keys
from weaviate_backup.core.store_volume import refuse_volume
from weaviate_backup.errors import BackupError, InvalidInput, Permanent, Transient
from weaviate_backup.kube import LOCATIONS, Json, Kube
from weaviate_backup.settings import OperatorSettings

LOOK_SECONDS = 20.0
"""How soon a changed Secret is noticed."""
ANXIOUS_LOOK_SECONDS = 3.0
"""The same while the location does not work."""
CURE = "correct it"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Seen:
    """The location of this tick."""

    spec: LocationSpec
    status: LocationStatus
    generation: int
    secrets: Secrets


class LocationDriver:
    """The watch over one location."""

    def __init__(self, kube: Kube, settings: OperatorSettings, owner: Owner, *, wake: asyncio.Event) -> None:
        self.name = f"location {owner.namespace}/{owner.name}"
        self.wake = wake
        self._kube = kube
        self._settings = settings
        self._owner = owner
        self._failures = 0

    async def close(self) -> None:
        """A probe cleans up behind itself."""
        location_view.forget(self._owner)

    async def tick(self) -> float | None:
        body = await self._kube.get(LOCATIONS, self._owner.namespace, self._owner.name)
        if body is None or body["metadata"]["uid"] != self._owner.uid or body["metadata"].get("deletionTimestamp"):
            return None
        try:
            seen = await self._see(body)
        except InvalidInput as error:
            before = read_or_new(LocationStatus, body.get("status") or {})
            await self._refuse_unread(before, error, generation=int(body["metadata"]["generation"]))
            return UNREADABLE_LOOK_SECONDS
        spec = seen.spec
        location_view.measure(self._owner, seen.status)
        pause = await self._pause(seen)
        if pause > 0:
            ready = location_view.known_of(seen.status).ready
            return min(pause, LOOK_SECONDS if ready or spec.suspend else ANXIOUS_LOOK_SECONDS)
        await self._try(seen)
        return 0.0

    async def _see(self, body: Json) -> _Seen:
        """Raises `InvalidInput` for a spec that was stored under another schema and can never be used."""
        spec = read_object(LocationSpec, body.get("spec"), where="spec", cure=CURE)
        check_shapes(spec, cure=CURE)
        return _Seen(
            spec=spec,
            status=read_or_new(LocationStatus, body.get("status") or {}),
            generation=int(body["metadata"]["generation"]),
            secrets=await read_secrets(self._kube, self._owner.namespace, spec),
        )

    async def _pause(self, seen: _Seen) -> float:
        """Seconds until the next try; 0 or less: now."""
        known = location_view.known_of(seen.status)
        if known.ready and not seen.spec.suspend and _forbidden(seen, self._settings):
            return 0.0
        wanted_at = None
        if not known.ready and not seen.spec.suspend:
            wanted_at = await wanted_since(self._kube, self._owner)
        return due_in_seconds(
            known,
            generation=seen.generation,
            secrets_version=seen.secrets.version,
            suspended=seen.spec.suspend,
            wanted_at=wanted_at,
            failures=self._failures,
            interval_seconds=self._settings.probe_interval_seconds,
            now=datetime.now(UTC),
        )

    async def _try(self, seen: _Seen) -> None:
        began_at = datetime.now(UTC)
        sights: tuple[Sight, ...] = ()
        try:
            _refuse(seen, self._settings)
            sights = await self._probe(seen)
            verdict = judge(sights, address=seen.spec.address, kind=seen.spec.kind, read_only=seen.spec.read_only)
        except BackupError as error:
            verdict = Verdict(error.reason, error.message, {})
        self._failures = 0 if verdict.ready else self._failures + 1
        now = datetime.now(UTC)
        status = location_view.judged(
            seen.status,
            seen.spec,
            verdict,
            sights,
            generation=seen.generation,
            secrets_version=seen.secrets.version,
            seconds=(now - began_at).total_seconds(),
            now=now,
        )
        await self._write(status)
        await self._tell(seen.status, status, verdict, now)

    async def _refuse_unread(self, before: LocationStatus, error: Permanent, *, generation: int) -> None:
        """Says once what is wrong with the spec; nothing else is known of such a location."""
        now = datetime.now(UTC)
        status = location_view.unreadable(before, error, generation=generation, now=now)
        if status.conditions != before.conditions or before.observed_generation != generation:
            try:
                await self._write(status)
            except BackupError as refused:  # as for operations: an event has to do
                log.warning("%s has no status: %s", self.name, refused)
            await self._tell(before, status, Verdict(error.reason, error.message, {}), now)

    async def _probe(self, seen: _Seen) -> tuple[Sight, ...]:
        """A location that was judged as it is keeps its verdict meanwhile, good or bad."""
        known = location_view.known_of(seen.status)
        is_first = known.generation != seen.generation or not known.tried

        async def show(reason: str, message: str) -> None:
            if is_first:
                generation, now = seen.generation, datetime.now(UTC)
                await self._write(
                    location_view.under_way(
                        seen.status, seen.spec, generation=generation, reason=reason, message=message, now=now
                    )
                )

        async def stuck(failure: Failure) -> None:
            await show(failure.reason, failure.message)

        await show(PROBING, f"two workers are trying {seen.spec.address}")
        return await probe_location(self._kube, self._settings, self._owner, seen.spec, stuck=stuck)

    async def _write(self, status: LocationStatus) -> None:
        metadata = {"name": self._owner.name, "namespace": self._owner.namespace}
        body = {"apiVersion": API_VERSION, "kind": LOCATION_KIND, "metadata": metadata, "status": status_json(status)}
        await self._kube.apply(LOCATIONS, body, subresource="status")
        location_view.measure(self._owner, status)

    async def _tell(self, before: LocationStatus, after: LocationStatus, verdict: Verdict, now: datetime) -> None:
        """One event per change of the verdict, one per warning that is new."""
        ready = conditions.find(before.conditions, conditions.READY)
        if ready is None or ready.reason != verdict.reason:
            log.info("%s: %s: %s", self.name, verdict.reason, verdict.message)
            quiet = verdict.ready or verdict.reason == SUSPENDED
            await events.record(
                self._kube, self._owner, reason=verdict.reason, message=verdict.message, warning=not quiet, now=now
            )
        known = {warning.reason for warning in before.warnings}
        for warning in after.warnings:
            if warning.reason not in known:
                await events.record(
                    self._kube, self._owner, reason=warning.reason, message=warning.message, warning=True, now=now
                )


def _refuse(seen: _Seen, settings: OperatorSettings) -> None:
    """What needs no pod to be known."""
    if seen.spec.suspend:
        raise Permanent(SUSPENDED, "spec.suspend is set; the location is not tried")
    refuse_volume(seen.spec, settings.volumes)
    for refusal in refuse_bad_keys(seen.spec):
        raise Permanent(refusal.reason, refusal.message)
    if seen.secrets.missing:
        missing = seen.secrets.missing
        raise Transient(missing[0].reason, "; ".join(refusal.message for refusal in missing))


def _forbidden(seen: _Seen, settings: OperatorSettings) -> bool:
    """The operator's settings may have changed since the location was tried."""
    try:
        refuse_volume(seen.spec, settings.volumes)
    except Permanent:
        return True
    return False
