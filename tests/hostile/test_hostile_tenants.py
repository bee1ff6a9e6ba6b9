"""The operator as its Pod runs it, with the chart's rights and memory, among tenants who make pods and answers to hurt.

Its memory stays below the chart's limit, each of them is told why his backup cannot be made, and another tenant's
backup is judged nearly as soon as without them.
"""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from tests.api_server import ApiServer
from tests.chart.rendering import CHART, FULL_NAME
from tests.controller.conftest import show_weaviate
from tests.hostile.objects import look
from tests.hostile.operator_process import OperatorProcess, running_operator
from tests.hostile.tenants import Tenant, with_false_weaviates, with_large_objects
from tests.hostile.test_hostile_objects import reason_of
from tests.tenancy.stage import Operator
from tests.weaviate_server import weaviate_cluster

from weaviate_backup.api.crd import definitions

pytestmark = pytest.mark.kubernetes

HOME = "backup-system"
BACKUPS, NODES = 4, 4
"""Of each hostile tenant: operations that ask again and again, and pods that are asked."""
PATIENCE_SECONDS = 90.0
USUAL_SECONDS = 5.0
SLACK_SECONDS = 15.0
"""One turn, of two at a time, of each tenant who drips."""


def limit_mib() -> int:
    """What the chart gives the operator."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    return int(str(values["operator"]["resources"]["limits"]["memory"]).removesuffix("Mi"))


async def test_memory_and_time_among_hostile_tenants(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(ApiServer(tmp_path / "kubernetes"))
        server.install_crds(list(definitions().values()))
        Operator(server, HOME, "").install()
        hostile = list(with_large_objects(server))
        hostile += stack.enter_context(with_false_weaviates(server, nodes=NODES))
        victim = Tenant(server, "victim", frozenset({"CollectionNotFound"}))
        access = server.kubeconfig_with(server.token_of(HOME, FULL_NAME))
        async with weaviate_cluster(tmp_path / "weaviate") as cluster:
            # Its schema is more than is read without waiting for a turn.
            await cluster.create({"class": "Article", "vectorizer": "none", "description": "x" * 300_000})
            show_weaviate(server, victim.namespace, cluster.nodes[0])
            with running_operator(server, tmp_path, namespace=HOME, KUBECONFIG=str(access)) as operator:
                alone = judged_in(victim, operator, "alone")
                idle_mib = operator.peak_mib
                for tenant in hostile:
                    tenant.backups(BACKUPS)
                among = [judged_in(victim, operator, f"among-{number}") for number in range(3)]
                told = {tenant.namespace: reasons_of(tenant, operator) for tenant in hostile}
                print(f"{idle_mib} MiB alone, {operator.peak_mib} MiB among {len(hostile)} hostile tenants; ", end="")
                print(f"judged in {alone:.1f} s alone, {max(among):.1f} s among them")
                assert operator.alive
                assert operator.peak_mib < limit_mib()
    assert alone < USUAL_SECONDS
    assert max(among) < alone + SLACK_SECONDS
    assert {namespace: reasons - wanted(hostile, namespace) for namespace, reasons in told.items()} == dict.fromkeys(
        told, frozenset()
    )
    log = operator.log.read_text()
    assert "Traceback" not in log, log[-4000:]


def judged_in(tenant: Tenant, operator: OperatorProcess, name: str) -> float:
    """Seconds from its making until a backup is told why it cannot be made."""
    tenant.backup(name)
    began = time.monotonic()
    while (reason := said(tenant, name)) not in tenant.reasons:
        assert operator.alive, operator.log.read_text()[-4000:]
        assert time.monotonic() < began + PATIENCE_SECONDS, (reason, operator.log.read_text()[-4000:])
        time.sleep(0.1)
    return time.monotonic() - began


def reasons_of(tenant: Tenant, operator: OperatorProcess) -> frozenset[str]:
    """What all its backups are told, once each is told what it should be."""
    began = time.monotonic()
    names = [f"backup-{number}" for number in range(BACKUPS)]
    while not (found := frozenset(said(tenant, name) for name in names)) <= tenant.reasons:
        assert operator.alive, operator.log.read_text()[-4000:]
        if time.monotonic() > began + PATIENCE_SECONDS:
            break
        time.sleep(0.2)
    return found


def wanted(tenants: list[Tenant], namespace: str) -> frozenset[str]:
    return next(each.reasons for each in tenants if each.namespace == namespace)


def said(tenant: Tenant, name: str) -> str:
    return reason_of(look(tenant.server, "WeaviateBackup", name, tenant.namespace))
