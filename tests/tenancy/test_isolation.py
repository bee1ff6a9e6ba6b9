"""Whatever a tenant writes, also what an older schema let him write, no request of the operator leaves his namespace.

The operator is the real process with the chart's own rights; its requests are those of the API server's audit log.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.api_server import ApiServer, Json
from tests.tenancy.attacks import CLIMBING, PREY, SCHEDULER, Attack, store_all
from tests.tenancy.stage import (
    CANARY,
    VICTIM,
    Listener,
    Operator,
    Tenant,
    apply,
    loose_definitions,
    namespace,
    secret,
)

from weaviate_backup.api.crd import definitions
from weaviate_backup.api.patterns import OBJECT_NAME, fits

pytestmark = pytest.mark.kubernetes

PATIENCE_SECONDS = 300.0
LINGER_SECONDS = 8.0
"""A second look at what goes on."""
PLURALS = ("weaviatebackups", "weaviaterestores", "weaviatebackuplocations")
WATCHED = {*PLURALS, "pods", "namespaces", "customresourcedefinitions"}
SCHEDULER_S = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{SCHEDULER}"


@dataclass
class Scene:
    """One operator and the tenant that it serves, with what he stored."""

    operator: Operator
    tenant: Tenant
    attacks: list[Attack]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("tenancy") / "kubernetes", audit=True) as server:
        _prepare_victims(server)
        yield server


@pytest.fixture(params=["everywhere", "one served namespace"])
def scene(server: ApiServer, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Objects are stored under a schema without shapes, then the definitions become today's."""
    home, own, watched, values = {
        "everywhere": ("mallory", "backup-system", "", CLIMBING),
        "one served namespace": ("served", "narrow-system", "served", CLIMBING[:1]),
    }[request.param]
    server.install_crds(loose_definitions())
    with contextlib.closing(Listener()) as listener:
        tenant, operator = Tenant(server, home, listener), Operator(server, own, watched)
        operator.install()
        apply(server, secret(own, "registry", password=CANARY, abc=CANARY))
        attacks = store_all(tenant, values, own)
        server.install_crds(list(definitions().values()))
        yield Scene(operator, tenant, attacks)


def _prepare_victims(server: ApiServer) -> None:
    """Nothing of our kinds, so that every request there has another cause."""
    namespace(server, VICTIM)
    apply(server, secret(VICTIM, PREY, password=CANARY, keys=CANARY, abc=CANARY))
    metadata = {"name": "settings", "namespace": VICTIM}
    apply(server, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"password": CANARY}})
    labels = {"app": "weaviate"}
    container = {"name": "weaviate", "image": "weaviate"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    metadata = {"name": "weaviate", "namespace": VICTIM}
    spec = {"serviceName": "x", "selector": {"matchLabels": labels}, "template": template}
    apply(server, {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})
    metadata = {"name": SCHEDULER, "namespace": "kube-system"}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    apply(server, {**lease, "spec": {"holderIdentity": "control-plane-1"}})


def test_no_request_leaves_the_tenant_s_namespace(server: ApiServer, scene: Scene, tmp_path: Path) -> None:
    tenant = scene.tenant
    assert not tenant.may_read_itself(f"/api/v1/namespaces/{VICTIM}/secrets/{PREY}")
    scheduler = server.request("GET", SCHEDULER_S)[1]["spec"]
    with scene.operator.running(tmp_path / "operator") as log:
        settled = _settle(scene)
        time.sleep(LINGER_SECONDS)

    requests = server.audited(scene.operator.user)
    uids = {body["metadata"]["uid"] for found in settled.values() for body in found.values()}
    leaks = [_named(request) for request in requests if not _at_home(request, scene, uids)]
    fields = {attack.field for attack in scene.attacks if attack.field}
    print(
        f"\n{len(scene.attacks)} objects, {len(fields)} fields, {len(requests)} requests of the operator, "
        f"{len(tenant.listener.heard)} to the tenant's pods, leaks: {len(leaks)}"
    )
    assert leaks == []
    assert server.request("GET", SCHEDULER_S)[1]["spec"] == scheduler
    everything = [*tenant.listener.heard, log.read_text(), *_said(tenant), str(settled)]
    assert not [text for text in everything if CANARY in text]
    assert tenant.listener.heard, "its own Weaviate is asked"
    wrong = [why for attack in scene.attacks if (why := _wrong_end(attack, settled))]
    assert wrong == []
    assert {attack.plural for attack in scene.attacks if attack.ends} == set(PLURALS)


def _settle(scene: Scene) -> dict[str, dict[str, Json]]:
    """Every object by plural and name, once the operator has said something of each."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = {
            plural: {body["metadata"]["name"]: body for body in scene.tenant.objects(plural)} for plural in PLURALS
        }
        waiting = [attack for attack in scene.attacks if not _settled(attack, found)]
        if not waiting:
            return found
        assert time.monotonic() < deadline, f"{len(waiting)} of {len(scene.attacks)} wait, such as {waiting[:5]}"
        time.sleep(1)


def _settled(attack: Attack, found: dict[str, dict[str, Json]]) -> bool:
    status = found[attack.plural][attack.name].get("status") or {}
    if attack.ends and attack.plural != "weaviatebackuplocations":
        return status.get("phase") == "Failed" and bool(status.get("cleanedUp"))
    return bool(status.get("conditions"))


def _wrong_end(attack: Attack, found: dict[str, dict[str, Json]]) -> str:
    """A refusal says which field is wrong."""
    conditions = found[attack.plural][attack.name]["status"]["conditions"]
    ready = next(condition for condition in conditions if condition["type"] == "Ready")
    if not attack.ends or (ready["status"] == "False" and attack.field in ready["message"]):
        return ""
    return f"{attack}: {ready}"


def _at_home(request: Json, scene: Scene, uids: set[str]) -> bool:
    """In the tenant's namespace, a watch of everything, or the operator's own Secret of one of his operations."""
    target = request.get("objectRef") or {}
    where, name = target.get("namespace", ""), target.get("name", "")
    if name and not fits(OBJECT_NAME, name):
        return False
    if where == scene.tenant.namespace:
        return True
    if where == scene.operator.namespace:
        own = re.fullmatch("wvb-(?:[a-z]+-)?(?P<uid>[0-9a-f-]{36})", name)
        return target["resource"] == "secrets" and own is not None and own["uid"] in uids
    if where or name:
        return False
    return not target or (request["verb"] in ("list", "watch") and target.get("resource") in WATCHED)


def _named(request: Json) -> str:
    return f"{request['verb']} {request['requestURI'][:120]} {request['responseStatus'].get('code')}"


def _said(tenant: Tenant) -> list[str]:
    """What the tenant may read of it: events."""
    path = f"/api/v1/namespaces/{tenant.namespace}/events"
    return [str(event) for event in tenant.server.request("GET", path, token=tenant.token)[1]["items"]]
