"""Which stores an agent may be given, and which volumes of a filesystem location above all. Pure.

The schema says what a volume can be; whether directories of the nodes are among them, and which CSI drivers, is the
operator's own decision, and objects that were stored before there was a schema are looked at here, too.
"""

from dataclasses import dataclass

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.volume import KINDS
from weaviate_backup.errors import Permanent, excerpt

LOCATION_INVALID = "LocationInvalid"
VOLUME_UNSUPPORTED = "VolumeUnsupported"
HOST_PATH_FORBIDDEN = "HostPathForbidden"
CSI_DRIVER_FORBIDDEN = "CsiDriverForbidden"


@dataclass(frozen=True)
class VolumesAllowed:
    """What agents may mount beside claims and nfs.

    A CSI driver is handed a Secret, and attributes that may name more of them and where to log in: whoever writes a
    location would read every Secret of his namespace by a driver of his choice.
    """

    host_path: bool = False
    csi_drivers: frozenset[str] = frozenset()


def refuse_volume(location: LocationSpec, allowed: VolumesAllowed | None) -> None:
    """Without `allowed`, for what is not to be mounted, any volume of a known kind will do.

    Raises `LocationInvalid`, `VolumeUnsupported`, `HostPathForbidden` or `CsiDriverForbidden`, each with the cure.
    """
    if sum(store is not None for store in (location.s3, location.gcs, location.azure, location.filesystem)) != 1:
        raise Permanent(
            LOCATION_INVALID, "spec is to have exactly one of s3, gcs, azure and filesystem; make a new location"
        )
    if location.filesystem is None:
        return
    volume = location.filesystem.volume
    kinds = tuple(volume.source)
    if len(kinds) != 1:
        named = ", ".join(kinds) or "none of them, since other kinds are not kept"
        raise Permanent(
            VOLUME_UNSUPPORTED, f"spec.filesystem.volume is to be exactly one of {', '.join(KINDS)}, but it is {named}"
        )
    if allowed is None:
        return
    if volume.host_path is not None and not allowed.host_path:
        named = excerpt(volume.host_path.path, 128)
        raise Permanent(
            HOST_PATH_FORBIDDEN,
            f"spec.filesystem.volume.hostPath is {named!r}, a directory of the nodes, which this operator gives to no "
            "agent; use persistentVolumeClaim or nfs, or let whoever runs the operator set its "
            "operator.allowHostPathVolumes (WVB_ALLOW_HOST_PATH_VOLUMES)",
        )
    if volume.csi is not None and volume.csi.driver not in allowed.csi_drivers:
        raise Permanent(
            CSI_DRIVER_FORBIDDEN,
            f"spec.filesystem.volume.csi.driver is {volume.csi.driver!r}, which this operator gives to no agent; use "
            "persistentVolumeClaim or nfs, or let whoever runs the operator list it in its operator.csiDrivers "
            "(WVB_CSI_DRIVERS)",
        )
