"""PROBE, MEET and their end: does the location allow what an operation will do there, and do all see the same store?

Several workers try it at once, each with small objects of its own. One of these, the mark, stays until RELEASE (which
also comes at the end of the lease), so that the others can look for it.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from weaviate_backup.agent.mounted import read_secret
from weaviate_backup.agent.runner import failure_of
from weaviate_backup.agent.trials import DENIED, LARGE, MARK, MARK_LIMIT_BYTES, ONCE, Trial, mark_keys
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.beneath import Root
from weaviate_backup.core.session import ProbeAction, Probed, StepCommand, Tried
from weaviate_backup.core.store_identity import identity_of
from weaviate_backup.errors import BackupError, ObjectNotFound, Permanent
from weaviate_backup.storage import clock
from weaviate_backup.storage.object_store import ObjectInfo
from weaviate_backup.storage.patience import USUAL, Patience
from weaviate_backup.storage.retry import Retrying
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import read_small
from weaviate_backup.tasks import in_thread

PROBE_PREFIX = ".weaviate-backup-probe"
PATIENCE = Patience(
    read_seconds=15,
    attempts=3,
    longest_wait_seconds=2,
    check_seconds=6,
    check_read_seconds=8,
    identity_seconds=15,
)
"""What is wrong is said within half a minute; a location that stumbles is tried again anyway."""
PATIENCE_WITH_PARTS = replace(PATIENCE, read_seconds=USUAL.read_seconds)
"""Of a store that answered before: on a slow line, MiB that are sent already must arrive before it can answer."""
PEER_SECONDS = 5.0
"""Stores that show a new object late are given this long."""
NOTHING_WRITTEN = frozenset({"ObjectNotFound", "ListIncomplete"})
OUT_OF_REACH = frozenset({"EndpointUnreachable", "StoreUnavailable", "CertificateRefused"})


async def probe(workspace: Workspace, _: StepCommand, meter: Meter) -> Probed:
    """The step. A finding is a result, not a failure."""
    return await in_thread(_probe, workspace, meter)


async def meet(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    """The step. Fails with what keeps this worker from seeing what a peer wrote."""
    for peer in command.peers:
        await in_thread(_find_peer, workspace, peer, meter)


def remove_marks(workspace: Workspace) -> None:
    """What PROBE left for the others, or could not take away."""
    if workspace.journal.last("probed") is not None:
        prefix = prefix_of(workspace, workspace.node)
        keys = (*mark_keys(prefix, workspace.backup_id), prefix + ONCE, prefix + LARGE)
        workspace.open_store(patience=PATIENCE).delete(keys)


def prefix_of(workspace: Workspace, node: str) -> str:
    """Where one worker's objects are; the same at every probe, so that a killed one leaves nothing that grows."""
    return f"{PROBE_PREFIX}/{workspace.uid}-{node}/"


def _probe(workspace: Workspace, meter: Meter) -> Probed:
    location = workspace.order.location
    identity = identity_of(
        location, read_secret(workspace.settings.credentials_directory), user=f"{os.geteuid()}:{os.getegid()}"
    )
    try:
        store = workspace.open_store(patience=PATIENCE)
    except BackupError as error:
        return Probed(tried=(Tried(action=ProbeAction.CHECK, failure=failure_of(error)),), identity=identity)
    if location.read_only:
        first = _First(store)
        tried = tuple(_try_all(first.actions, meter))
        return Probed(
            tried=tried, identity=identity, empty=first.empty, clock_skew_seconds=_skew(workspace, tried, None)
        )
    workspace.journal.append("probed")
    patient = workspace.open_store(patience=PATIENCE_WITH_PARTS)
    mark, prefix = _mark(workspace, workspace.node), prefix_of(workspace, workspace.node)
    trial = Trial(store, location, prefix=prefix, word=workspace.backup_id, mark=mark, patient=patient)
    tried = tuple(_try_all(trial.actions, meter))
    return Probed(tried=tried, identity=identity, clock_skew_seconds=_skew(workspace, tried, trial.written_at))


def _try_all(actions: dict[ProbeAction, Callable[[], None]], meter: Meter) -> Iterator[Tried]:
    """In order, as long as the next one can say more than the last."""
    written = True
    for action, attempt in actions.items():
        meter.check()
        try:
            attempt()
        except BackupError as error:
            if not written and error.reason in NOTHING_WRITTEN:
                continue
            failure = failure_of(error)
            yield Tried(action=action, failure=failure)
            written = written and action is not ProbeAction.WRITE
            first_steps = action in (ProbeAction.CHECK, ProbeAction.WRITE)
            # After a denial the next action can still say something new.
            if failure.reason != DENIED and (failure.transient or first_steps):
                return
        else:
            yield Tried(action=action)


def _find_peer(workspace: Workspace, peer: str, meter: Meter) -> None:
    store, deadline = workspace.open_store(patience=PATIENCE), time.monotonic() + PEER_SECONDS
    while True:
        meter.check()
        for key in mark_keys(prefix_of(workspace, peer), workspace.backup_id):
            with suppress(ObjectNotFound):
                if read_small(store, key, limit_bytes=MARK_LIMIT_BYTES) == _mark(workspace, peer):
                    return
        if time.monotonic() > deadline:
            raise Permanent("LocationNotShared", f"{workspace.node} does not find what {peer} wrote")
        threading.Event().wait(0.25)


def _mark(workspace: Workspace, node: str) -> bytes:
    """Differs from probe to probe: an old mark proves nothing."""
    return f"{workspace.uid} {workspace.backup_id} {node}".encode()


def _skew(workspace: Workspace, tried: tuple[Tried, ...], written_at: datetime | None) -> float | None:
    location, settings = workspace.order.location, workspace.settings
    if any(each.failure and each.failure.reason in OUT_OF_REACH for each in tried):
        return None
    if location.filesystem is not None:
        mark = f"{location.filesystem.path}/{prefix_of(workspace, workspace.node)}{MARK}".strip("/")
        place = Root(settings.filesystem_root).place / mark
        return clock.skew_of_file(place, written_at=written_at) if written_at else None
    url = clock.endpoint_url(location, workspace.credentials())
    return clock.skew_of_server(url, ca_pem=workspace.authority()) if url else None


class _First:
    """What a read-only location is asked: a listing, and one byte of the first object."""

    def __init__(self, store: Retrying) -> None:
        self._store = store
        self._found: ObjectInfo | None = None
        self.empty: bool | None = None
        self.actions = {
            ProbeAction.CHECK: store.check,
            ProbeAction.LIST: self._list,
            ProbeAction.READ: self._read,
        }

    def _list(self) -> None:
        self._found = self._store.first("")
        self.empty = self._found is None

    def _read(self) -> None:
        if self._found is not None:
            with self._store.open(self._found.key, length=min(1, self._found.size_bytes)) as stream:
                stream.read(1)
