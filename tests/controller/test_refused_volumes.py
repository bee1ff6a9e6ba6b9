"""No pod is made with a volume that the installer does not give to agents: whoever makes one asks by himself."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.location_status import LocationStatus
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.api.resources import Resource
from weaviate_backup.api.restore import Restore
from weaviate_backup.controller import certificates, location_probe, locations
from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.controller.location_gate import Secrets, read_location
from weaviate_backup.controller.operation_secrets import Memory
from weaviate_backup.controller.operations import Json, OperationRequest, OperationRuntime
from weaviate_backup.controller.restores import RestoreDriver
from weaviate_backup.core.orders import STORE_WORKER, PlannedBackup
from weaviate_backup.core.session import NodeReport, Step, StepPhase, StepReport
from weaviate_backup.errors import Permanent
from weaviate_backup.kube import Kube
from weaviate_backup.settings import OperatorSettings

SETTINGS = OperatorSettings(namespace="system", agent_image="agent")
OWNER = Owner(kind="WeaviateBackup", name="nightly", namespace="a", uid="0b5f2c1e")
NOW = datetime(2026, 11, 30, tzinfo=UTC)
MADE = certificates.issue(OWNER.uid, {STORE_WORKER: "wvb-0"}, now=NOW, valid_seconds=600)
NOBODY = Kube.__new__(Kube)
"""Is not asked."""
VOLUMES = {
    "CsiDriverForbidden": {"csi": {"driver": "smb.csi.k8s.io", "nodePublishSecretRef": {"name": "database"}}},
    "HostPathForbidden": {"hostPath": {"path": "/etc"}},
}


def judged(spec: LocationSpec) -> None:
    locations._refuse(seen(spec), SETTINGS)


def seen(spec: LocationSpec) -> locations._Seen:
    return locations._Seen(spec, LocationStatus(), 1, Secrets("", ()))


def probed(spec: LocationSpec) -> None:
    asyncio.run(location_probe._create(NOBODY, SETTINGS, OWNER, spec, names={}, made=MADE))


def planned(spec: LocationSpec) -> None:
    plan = PlannedBackup(
        nodes=("weaviate-0",),
        leader="weaviate-0",
        collections=("Article",),
        server_version="1.39.1",
        started_at=NOW,
        stateful_set_uid="0b5f2c1e-0000-4000-8000-000000000001",
        location=spec,
    )
    runtime = OperationRuntime(NOBODY, SETTINGS, OWNER, lambda: None, PlannedBackup)
    runtime.memory = Memory(plan, MADE.client, {})
    request = OperationRequest("weaviate", AgentOptions(), 3600, order=lambda *_: pytest.fail("nobody is asked"))
    runtime._manifest(STORE_WORKER, "wvb-0", None, request)


@pytest.mark.parametrize("reason", VOLUMES)
@pytest.mark.parametrize("made", [judged, probed, planned])
def test_whoever_makes_a_pod_asks(made: Callable[[LocationSpec], None], reason: str) -> None:
    spec = LocationSpec.model_validate({"filesystem": {"volume": VOLUMES[reason]}})
    with pytest.raises(Permanent, match=reason):
        made(spec)


class Holding(Kube):
    """Knows one object of each kind."""

    def __init__(self, **found: Json) -> None:
        self._found = found

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        return self._found[resource.plural]


@pytest.mark.parametrize("reason", VOLUMES)
async def test_whoever_reads_a_location_asks(reason: str) -> None:
    kube = Holding(weaviatebackuplocations={"spec": {"filesystem": {"volume": VOLUMES[reason]}}})
    view = await read_location(kube, "a", "store", writing=True, path=None, volumes=SETTINGS.volumes)
    assert (view.spec, [each.reason for each in view.refusals]) == (None, [reason])


@pytest.mark.parametrize("reason", VOLUMES)
async def test_whoever_restores_a_backup_asks(reason: str) -> None:
    location = {"filesystem": {"volume": VOLUMES[reason]}}
    status = {"phase": "Completed", "location": location, "backupID": "nightly"}
    metadata = {"name": "nightly", "namespace": "a", "uid": OWNER.uid, "creationTimestamp": NOW.isoformat()}
    spec: Json = {"locationRef": {"name": "store"}}
    kube = Holding(weaviatebackups={"metadata": metadata, "spec": spec, "status": status})
    wanted = {"metadata": metadata, "spec": {"source": {"backupRef": {"name": "nightly"}}}}
    driver = RestoreDriver(kube, SETTINGS, OWNER, wake=asyncio.Event())
    source = await driver._find_source(Restore.model_validate(wanted))
    assert (source.location, [each.reason for each in source.refusals]) == (None, [reason])


@pytest.mark.parametrize("reason", VOLUMES)
def test_a_location_that_settings_forbid_by_now_is_looked_at_again(reason: str) -> None:
    spec = LocationSpec.model_validate({"filesystem": {"volume": VOLUMES[reason]}})
    assert locations._forbidden(seen(spec), SETTINGS)
    allowed = SETTINGS.model_copy(update={"allow_host_path_volumes": True, "csi_drivers": "smb.csi.k8s.io"})
    assert not locations._forbidden(seen(spec), allowed)


def test_a_worker_that_does_not_speak_of_its_step_is_none_of_ours() -> None:
    done = StepReport(phase=StepPhase.DONE)
    report = NodeReport(operation_uid="u", session_id="s", node="store-0", revision=1, steps={Step.PROBE: done})
    assert location_probe._taken(report, Step.PROBE) == done
    with pytest.raises(Permanent, match="AgentIncompatible: store-0 was told to"):
        location_probe._taken(report, Step.MEET)
