"""One operation per StatefulSet at a time: a Lease named after the StatefulSet's uid, held by the uid of an object.

It does not run out by the clock: its holder is an operation, which may be slow, not a process, which may be dead. It is
free when its holder is finished or gone, which is looked up, and it is taken by compare-and-set.
"""

from dataclasses import dataclass

from weaviate_backup.api.patterns import UID, fits
from weaviate_backup.controller.agent_pods import MANAGED_BY, Owner
from weaviate_backup.core.orders import Lease
from weaviate_backup.errors import InvalidInput, Transient, excerpt
from weaviate_backup.kube import BACKUPS, LEASES, RESTORES, AlreadyExists, Conflict, Json, Kube


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
    holder = ((found or {}).get("spec") or {}).get("holderIdentity")
    if not holder:
        return LeaseView(Lease.FREE)
    if holder == owner.uid:
        return LeaseView(Lease.OURS)
    active = await _active_operation(kube, owner.namespace, holder)
    return LeaseView(Lease.OTHERS, active) if active else LeaseView(Lease.FREE)


async def acquire(kube: Kube, owner: Owner, stateful_set_uid: str) -> None:
    """Idempotent. Losing a race is `Transient`: the next look tells who won."""
    name = lease_name(stateful_set_uid)
    found = await kube.get(LEASES, owner.namespace, name)
    try:
        if found is None:
            await kube.create(LEASES, _lease(owner, name))
            return
        spec = found.setdefault("spec", {})
        holder = spec.get("holderIdentity")
        if holder == owner.uid or (holder and await _active_operation(kube, owner.namespace, holder)):
            return
        spec["holderIdentity"] = owner.uid
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        await kube.replace(LEASES, found)
    except (AlreadyExists, Conflict) as error:
        raise Transient("LeaseContended", "another operation took the StatefulSet's lease first") from error


async def release(kube: Kube, owner: Owner, stateful_set_uid: str) -> None:
    """Only our own; gone already is success."""
    found = await kube.get(LEASES, owner.namespace, lease_name(stateful_set_uid))
    if found and (found.get("spec") or {}).get("holderIdentity") == owner.uid:
        await kube.delete(LEASES, owner.namespace, lease_name(stateful_set_uid), uid=found["metadata"]["uid"])


async def _active_operation(kube: Kube, namespace: str, uid: str) -> str:
    """`WeaviateBackup nightly` when an object of that uid still works on it, else nothing."""

    def is_it(body: Json) -> str | None:
        active = body["metadata"]["uid"] == uid and not (body.get("status") or {}).get("cleanedUp")
        return str(body["metadata"]["name"]) if active else None

    for resource, kind in ((BACKUPS, "WeaviateBackup"), (RESTORES, "WeaviateRestore")):
        for name in await kube.pick(resource, namespace, is_it, most=1):
            return f"{kind} {name}"
    return ""


def _lease(owner: Owner, name: str) -> dict[str, object]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": owner.namespace, "labels": dict(MANAGED_BY)},
        "spec": {"holderIdentity": owner.uid, "leaseTransitions": 0},
    }
