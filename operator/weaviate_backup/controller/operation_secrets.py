"""The Secrets of one operation: what the operator remembers, and what its agents mount.

The first lies in the operator's own namespace, where no tenant writes: the plan, the operator's own key, and word for
word what the second one holds. That one lies beside the agents. It is made from the first and compared with it, and
nothing is ever learned from it. One of its name that is not ours is never read, mounted or deleted.
"""

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from weaviate_backup.agent_client import ClientIdentity
from weaviate_backup.controller.agent_pods import MANAGED_BY, Owner, leaf_keys, metadata_of
from weaviate_backup.controller.certificates import OperationCertificates
from weaviate_backup.core.orders import PlannedBackup, PlannedRestore
from weaviate_backup.core.session import Wire
from weaviate_backup.core.topology import ClusterAuth
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.kube import SECRETS, AlreadyExists, Kube

PLAN_KEY, AGENTS_KEY = "plan.json", "agents.json"
Plan = PlannedBackup | PlannedRestore
Json = dict[str, Any]
_MOUNTED = TypeAdapter(dict[str, str])
log = logging.getLogger(__name__)


class _BoundPlan(Wire):
    """The plan with the operation that it was made for."""

    kind: str
    namespace: str
    name: str
    uid: str
    stateful_set: str
    plan: Json


@dataclass(frozen=True)
class Memory:
    """What an operation knows beside its status. `mounted`: what its agents' Secret holds, by key."""

    plan: Plan
    identity: ClientIdentity
    mounted: Mapping[str, str]

    def __repr__(self) -> str:
        return "Memory(…)"


def mounted_by_agents(certificates: OperationCertificates, cluster_auth: ClusterAuth | None) -> dict[str, str]:
    """The authority, a leaf per agent, and credentials that the StatefulSet states in the clear."""
    data = {"ca.crt": certificates.ca_pem.decode()}
    for node, leaf in certificates.agents.items():
        data |= zip(leaf_keys(node), (leaf.certificate_pem.decode(), leaf.key_pem.decode()), strict=True)
    values = {"username": cluster_auth.username, "password": cluster_auth.password} if cluster_auth else {}
    return data | {f"cluster.{key}": value for key, value in values.items() if isinstance(value, str)}


def memory_secret(
    owner: Owner,
    certificates: OperationCertificates,
    plan: Plan,
    *,
    stateful_set: str,
    mounted: Mapping[str, str],
    namespace: str,
) -> Json:
    """`namespace`: the operator's own. No owner reaches across namespaces, so it is deleted by name."""
    identity = certificates.client
    bound = _BoundPlan(
        kind=owner.kind,
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        stateful_set=stateful_set,
        plan=plan.model_dump(mode="json", by_alias=True),
    )
    data = {
        PLAN_KEY: bound.model_dump_json(),
        AGENTS_KEY: json.dumps(dict(mounted)),
        "ca.crt": identity.ca_pem.decode(),
        "tls.crt": identity.certificate_pem.decode(),
        "tls.key": identity.key_pem.decode(),
    }
    labels = {**MANAGED_BY, "app.kubernetes.io/component": "client", "app.kubernetes.io/instance": owner.uid}
    return _secret({"name": owner.client_secret_name, "namespace": namespace, "labels": labels}, data)


def agents_secret(owner: Owner, mounted: Mapping[str, str]) -> Json:
    """An agent mounts its own leaf of it only. Whoever reads it can answer as any agent of this operation."""
    return _secret(metadata_of(owner, owner.secret_name), mounted)


def remembered(secret: Json, owner: Owner, *, stateful_set: str, plan_type: type[Plan]) -> Memory | None:
    """None, with a word in the log, when it is not this operation's: nothing of it is believed then."""
    data = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
    expected = (owner.kind, owner.namespace, owner.name, owner.uid, stateful_set)
    name = f"Secret {secret['metadata']['namespace']}/{owner.client_secret_name}"
    try:
        bound = _BoundPlan.model_validate_json(data[PLAN_KEY])
        if (bound.kind, bound.namespace, bound.name, bound.uid, bound.stateful_set) != expected:
            log.warning("%s holds the plan of another operation than %s %s", name, owner.kind, owner.name)
            return None
        identity = ClientIdentity(ca_pem=data["ca.crt"], certificate_pem=data["tls.crt"], key_pem=data["tls.key"])
        return Memory(plan_type.model_validate(bound.plan), identity, _MOUNTED.validate_json(data[AGENTS_KEY]))
    except (KeyError, ValidationError):
        log.warning("%s holds no plan that can be read, as one by another version of this operator", name)
        return None


async def provide(kube: Kube, owner: Owner, mounted: Mapping[str, str]) -> None:
    """The agents' Secret is there as it is to be. Raises `SecretInTheWay`."""
    wanted = agents_secret(owner, mounted)
    try:
        await kube.create(SECRETS, wanted)
    except AlreadyExists as error:
        found = await kube.get(SECRETS, owner.namespace, owner.secret_name)
        if found is None:
            raise Transient("SecretGone", f"Secret {owner.secret_name} was deleted a moment ago") from error
        if not owner.made(found) or found.get("data") != wanted["data"]:
            raise in_the_way(owner) from error


async def withdraw(kube: Kube, owner: Owner) -> None:
    """The agents' Secret is gone; one that somebody else made stays."""
    found = await kube.get(SECRETS, owner.namespace, owner.secret_name)
    if found is not None and owner.made(found):
        await kube.delete(SECRETS, owner.namespace, owner.secret_name, uid=found["metadata"]["uid"])


def in_the_way(owner: Owner) -> Permanent:
    return Permanent(
        "SecretInTheWay",
        f"Secret {owner.secret_name} in namespace {owner.namespace} is not the one that this operator makes for "
        f"{owner.kind} {owner.name}; delete it",
    )


def _secret(metadata: Json, data: Mapping[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": metadata,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
