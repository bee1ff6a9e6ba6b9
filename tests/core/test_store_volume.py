"""Volumes that no agent is given, each refused with field, value and cure."""

from typing import Any

import pytest

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.store_volume import VolumesAllowed, refuse_volume
from weaviate_backup.errors import Permanent

Json = dict[str, Any]
CLAIM: Json = {"persistentVolumeClaim": {"claimName": "backups"}}
HOST: Json = {"hostPath": {"path": "/etc", "type": "Directory"}}
DRIVEN: Json = {"csi": {"driver": "smb.csi.k8s.io", "nodePublishSecretRef": {"name": "database"}}}
NOTHING = VolumesAllowed()
EVERYTHING = VolumesAllowed(host_path=True, csi_drivers=frozenset({"smb.csi.k8s.io"}))


def on(volume: Json) -> LocationSpec:
    return LocationSpec.model_validate({"filesystem": {"volume": volume}})


@pytest.mark.parametrize("volume", [CLAIM, {"nfs": {"server": "nas", "path": "/"}}])
def test_what_lies_on_no_node_is_given_to_agents(volume: Json) -> None:
    location = on(volume)
    refuse_volume(location, NOTHING)
    assert location.secrets == {}
    assert location.filesystem is not None
    assert location.filesystem.volume.source == volume


def test_directories_of_the_nodes_are_the_operator_s_decision() -> None:
    with pytest.raises(Permanent) as refused:
        refuse_volume(on(HOST), VolumesAllowed(csi_drivers=frozenset({"smb.csi.k8s.io"})))
    assert refused.value.reason == "HostPathForbidden"
    for word in ("spec.filesystem.volume.hostPath", "'/etc'", "operator.allowHostPathVolumes"):
        assert word in refused.value.message
    refuse_volume(on(HOST), EVERYTHING)
    refuse_volume(on(HOST), None)


@pytest.mark.parametrize(
    "volume", [{}, {"emptyDir": {}}, {"secret": {"secretName": "a"}}, {"projected": {}}, CLAIM | HOST]
)
@pytest.mark.parametrize("allowed", [None, EVERYTHING], ids=["to look at", "to mount"])
def test_what_an_older_schema_kept_is_refused(volume: Json, allowed: VolumesAllowed | None) -> None:
    with pytest.raises(Permanent, match=r"VolumeUnsupported: spec\.filesystem\.volume is to be exactly one of"):
        refuse_volume(on(volume), allowed)


@pytest.mark.parametrize("allowed", [None, EVERYTHING], ids=["to look at", "to mount"])
def test_a_location_of_no_kind_is_refused(allowed: VolumesAllowed | None) -> None:
    with pytest.raises(Permanent, match="LocationInvalid: spec is to have exactly one of s3"):
        refuse_volume(LocationSpec(), allowed)


@pytest.mark.parametrize("listed", ["", "smb.csi.k8s", "csi.k8s.io,smb.csi.k8s.io.example"])
def test_a_secret_goes_to_no_csi_driver_that_nobody_listed(listed: str) -> None:
    allowed = VolumesAllowed(host_path=True, csi_drivers=frozenset(listed.split(",")))
    with pytest.raises(Permanent) as refused:
        refuse_volume(on(DRIVEN), allowed)
    assert refused.value.reason == "CsiDriverForbidden"
    for word in ("spec.filesystem.volume.csi.driver", "'smb.csi.k8s.io'", "operator.csiDrivers"):
        assert word in refused.value.message
    refuse_volume(on(DRIVEN), EVERYTHING)
    refuse_volume(on(DRIVEN), None)


def test_the_secret_of_a_csi_driver_is_looked_for() -> None:
    spec = on({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "nas"}}})
    assert spec.secrets == {"nas": "spec.filesystem.volume.csi.nodePublishSecretRef"}
