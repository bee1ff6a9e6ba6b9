"""One operation per StatefulSet at a time: a Lease named after the StatefulSet's uid, held by the uid of an object.

It does not run out by the clock: its holder is an operation, which may be slow, not a process, which may be dead. It is
free when its holder is finished or gone, which is looked up, and it is taken by compare-and-set. Whoever may write
Leases there may change ours, too: one without our marks is taken again, which puts them back.
"""

from dataclasses import dataclass

from weaviate_backup.api.names import BACKUP_KIND, GROUP, RESTORE_KIND
from weaviate_backup.api.patterns import MAX_NAME_LENGTH, OBJECT_NAME, UID, fits
from weaviate_backup.controller.agent_pods import MANAGED_BY, Owner
from weaviate_backup.core.orders import Lease
from weaviate_backup.errors import InvalidInput, Transient, excerpt
from weaviate_backup.kube import BACKUPS, LEASES, RESTORES, AlreadyExists, Conflict, Json, Kube

HOLDER = f"{GROUP}/holder"
"""Annotation: kind and name of the holder, so that a uid need not be looked for among all operations."""
OPERATIONS = {BACKUP_KIND: BACKUPS, RESTORE_KIND: RESTORES}


@dataclass(frozen=True)
class LeaseView:
    """`holder`: for people."""

    lease: Lease
    holder: str = ""


def lease_name(stateful_set_uid: str) -> str:
    """Raises `InvalidInput` for what is no uid: the API server gives them, but a plan remembers them."""
    if not fits(UID, stateful_set_uid):
        message = f"the uid of the plan's StatefulSet is {excerpt(repr(stateful_set_uid), 80)}, which is none"
        raise InvalidInput("PlanUnreadable", message)
    return f"wvb-{stateful_set_uid}"


async def look(kube: Kube, owner: Owner, stateful_set_uid: str) -> LeaseView:
    found = await kube.get(LEASES, owner.namespace, lease_name(stateful_set_uid))
    holder = _holder(found)
    if found is None or not holder:
        return LeaseView(Lease.FREE)
    if holder == owner.uid:
        return LeaseView(Lease.OURS if _is_marked(found, owner) else Lease.FREE)
    active = await _active_operation(kube, found)
    return LeaseView(Lease.OTHERS, active) if active else LeaseView(Lease.FREE)


async def acquire(kube: Kube, owner: Owner, stateful_set_uid: str) -> None:
    """Idempotent, and puts our marks on it. Losing a race is `Transient`: the next look tells who won."""
    name = lease_name(stateful_set_uid)
    found = await kube.get(LEASES, owner.namespace, name)
    try:
        if found is None:
            await kube.create(LEASES, _lease(owner, name))
            return
        if found["metadata"].get("deletionTimestamp"):
            message = f"Lease {name} is being deleted and does not go; remove its finalizers"
            raise Transient("LeaseEnding", message)
        holder = _holder(found)
        if holder == owner.uid and _is_marked(found, owner):
            return
        if holder not in ("", owner.uid) and await _active_operation(kube, found):
            return
        await kube.replace(LEASES, _taken(found, owner))
    except (AlreadyExists, Conflict) as error:
        raise Transient("LeaseContended", "another operation took the StatefulSet's lease first") from error


async def release(kube: Kube, owner: Owner, stateful_set_uid: str) -> None:
    """Only our own; gone already is success."""
    found = await kube.get(LEASES, owner.namespace, lease_name(stateful_set_uid))
    if found is not None and _holder(found) == owner.uid:
        await kube.delete(LEASES, owner.namespace, lease_name(stateful_set_uid), uid=found["metadata"]["uid"])


async def _active_operation(kube: Kube, lease: Json) -> str:
    """`WeaviateBackup nightly` when the holder still works on it, else nothing."""
    namespace, uid = lease["metadata"]["namespace"], _holder(lease)
    kind, _, name = str((lease["metadata"].get("annotations") or {}).get(HOLDER, "")).partition("/")
    if kind in OPERATIONS and fits(OBJECT_NAME, name) and len(name) <= MAX_NAME_LENGTH:
        found = await kube.get(OPERATIONS[kind], namespace, name)
        return f"{kind} {name}" if found is not None and _works(found, uid) else ""

    def is_it(body: Json) -> str | None:
        return str(body["metadata"]["name"]) if _works(body, uid) else None

    for kind, resource in OPERATIONS.items():  # of an earlier version
        for name in await kube.pick(resource, namespace, is_it, most=1):
            return f"{kind} {name}"
    return ""


def _works(body: Json, uid: str) -> bool:
    return body["metadata"]["uid"] == uid and not (body.get("status") or {}).get("cleanedUp")


def _holder(lease: Json | None) -> str:
    return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


def _is_marked(lease: Json, owner: Owner) -> bool:
    """As we leave it. Without our label the chart's policy lets us delete nothing; one that is going is nobody's."""
    metadata = lease["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    marked = MANAGED_BY.items() <= labels.items() and annotations.get(HOLDER) == _said_of(owner)
    return marked and not metadata.get("deletionTimestamp")


def _taken(lease: Json, owner: Owner) -> Json:
    metadata, spec = lease["metadata"], lease.get("spec") or {}
    labels = {**(metadata.get("labels") or {}), **MANAGED_BY}
    annotations = {**(metadata.get("annotations") or {}), HOLDER: _said_of(owner)}
    changes = 0 if _holder(lease) == owner.uid else 1
    return {
        **lease,
        "metadata": {**metadata, "labels": labels, "annotations": annotations},
        "spec": {
            **spec,
            "holderIdentity": owner.uid,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + changes,
        },
    }


def _said_of(owner: Owner) -> str:
    return f"{owner.kind}/{owner.name}"


def _lease(owner: Owner, name: str) -> Json:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": dict(MANAGED_BY),
            "annotations": {HOLDER: _said_of(owner)},
        },
        "spec": {"holderIdentity": owner.uid, "leaseTransitions": 0},
    }
