"""The operator as its Pod runs it, with the chart's rights and memory, among tenants who make pods and answers to hurt.

Its memory stays below the chart's limit, each of them is told why his backup cannot be made, and another tenant's
backup is judged nearly as soon as without them.
"""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.api_server import ApiServer, Json
from tests.chart.rendering import FULL_NAME, render, the
from tests.controller.conftest import show_weaviate
from tests.hostile.objects import look
from tests.hostile.operator_process import OperatorProcess, running_operator
from tests.hostile.tenants import Tenant, with_false_weaviates, with_large_objects
from tests.tenancy.stage import Operator
from tests.weaviate_server import weaviate_cluster

from weaviate_backup.api.crd import definitions

pytestmark = pytest.mark.kubernetes

HOME = "backup-system"
BACKUPS, NODES = 4, 4
"""Of each hostile tenant: operations that ask again and again, and pods that are asked."""
PATIENCE_SECONDS = 90.0
USUAL_SECONDS = 5.0
SLACK_SECONDS = 40.0
"""Turns of each of the others, and the time that their large answers take two cores."""


def container() -> Json:
    """The operator's, as the chart makes it."""
    found: Json = the(render(), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return found


def limit_mib() -> int:
    return int(str(container()["resources"]["limits"]["memory"]).removesuffix("Mi"))


def allocation() -> dict[str, str]:
    """How the chart tells the C library to hold memory."""
    return {each["name"]: each["value"] for each in container()["env"] if each["name"].startswith("MALLOC_")}


async def test_memory_and_time_among_hostile_tenants(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(ApiServer(tmp_path / "kubernetes"))
        server.install_crds(list(definitions().values()))
        Operator(server, HOME, "").install()
        hostile = list(with_large_objects(server))
        hostile += stack.enter_context(with_false_weaviates(server, nodes=NODES))
        victim = Tenant(server, "victim", "include matches no collection")
        access = server.kubeconfig_with(server.token_of(HOME, FULL_NAME))
        async with weaviate_cluster(tmp_path / "weaviate") as cluster:
            # Its schema is more than is read without waiting for a turn.
            await cluster.create({"class": "Article", "vectorizer": "none", "description": "x" * 300_000})
            show_weaviate(server, victim.namespace, cluster.nodes[0])
            with running_operator(server, tmp_path, namespace=HOME, KUBECONFIG=str(access), **allocation()) as operator:
                judged_in(victim, operator, "first")
                alone = judged_in(victim, operator, "alone")
                idle_mib = operator.peak_mib
                for tenant in hostile:
                    tenant.backups(BACKUPS)
                among = [judged_in(victim, operator, f"among-{number}") for number in range(3)]
                told(hostile, operator)
                print(f"{idle_mib} MiB alone, {operator.peak_mib} MiB among {len(hostile)} hostile tenants; ", end="")
                print(f"judged in {alone:.1f} s alone, {max(among):.1f} s among them")
                assert operator.alive
                assert operator.peak_mib < limit_mib()
    assert alone < USUAL_SECONDS
    assert max(among) < alone + SLACK_SECONDS
    log = operator.log.read_text()
    assert "Traceback" not in log, log[-4000:]


def judged_in(tenant: Tenant, operator: OperatorProcess, name: str) -> float:
    """Seconds from its making until a backup is told why it cannot be made."""
    tenant.backup(name)
    began = time.monotonic()
    while tenant.words not in (words := said(tenant, name)):
        assert operator.alive, operator.log.read_text()[-4000:]
        assert time.monotonic() < began + PATIENCE_SECONDS, (words, operator.log.read_text()[-4000:])
        time.sleep(0.1)
    return time.monotonic() - began


def told(tenants: list[Tenant], operator: OperatorProcess) -> None:
    """Every backup of theirs says what is wrong."""
    left = {(tenant, f"backup-{number}"): "" for tenant in tenants for number in range(BACKUPS)}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left:
        left = {key: words for key in left if key[0].words not in (words := said(*key))}
        assert operator.alive, operator.log.read_text()[-4000:]
        assert time.monotonic() < deadline, {
            f"{tenant.namespace}/{name}": said for (tenant, name), said in left.items()
        }
        time.sleep(0.2)


def said(tenant: Tenant, name: str) -> str:
    found = look(tenant.server, "WeaviateBackup", name, tenant.namespace)
    conditions = (found.get("status") or {}).get("conditions") or ()
    return next((str(each["message"]) for each in conditions if each["type"] == "Ready"), "")
