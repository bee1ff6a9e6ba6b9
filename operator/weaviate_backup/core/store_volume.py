"""Which stores an agent may be given, and which volumes of a filesystem location above all. Pure.

The schema says what a volume can be; whether directories of the nodes are among them is the operator's own decision,
and objects that were stored before there was a schema are looked at here, too.
"""

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.volume import KINDS
from weaviate_backup.errors import Permanent, excerpt

LOCATION_INVALID = "LocationInvalid"
VOLUME_UNSUPPORTED = "VolumeUnsupported"
HOST_PATH_FORBIDDEN = "HostPathForbidden"


def refuse_volume(location: LocationSpec, *, allow_host_path: bool) -> None:
    """Raises `LocationInvalid`, `VolumeUnsupported` or `HostPathForbidden`, each with the cure."""
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
    if volume.host_path is not None and not allow_host_path:
        named = excerpt(volume.host_path.path, 128)
        raise Permanent(
            HOST_PATH_FORBIDDEN,
            f"spec.filesystem.volume.hostPath is {named!r}, a directory of the nodes, which this operator gives to no "
            "agent; use persistentVolumeClaim or nfs, or let whoever runs the operator set its "
            "operator.allowHostPathVolumes (WVB_ALLOW_HOST_PATH_VOLUMES)",
        )
