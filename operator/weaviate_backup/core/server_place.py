"""Where Weaviate's own engine would read and write, against where the location lies. Pure.

The engine uses the store that its module is configured for, with its own credentials; only bucket and path can be
chosen by a request. What `/v1/meta` shows of the module (endpoint, bucket, path) must therefore be the location, or
something that a request can override; anything else is refused, since a backup would end up somewhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weaviate_backup.api.location import FilesystemLocation, LocationSpec, S3Location
from weaviate_backup.core.topology import DataVolume
from weaviate_backup.errors import Permanent

Json = dict[str, Any]
Modules = Mapping[str, Any]
AWS = "amazonaws.com"


@dataclass(frozen=True)
class ServerPlace:
    """Where the engine is to read and write. `bucket`, `path`: only where they differ from the module's own."""

    backend: str
    bucket: str | None = None
    path: str | None = None

    @property
    def query(self) -> dict[str, str]:
        return {key: value for key, value in (("bucket", self.bucket), ("path", self.path)) if value}

    @property
    def config(self) -> Json:
        return {key.capitalize(): value for key, value in self.query.items()}


def find_place(location: LocationSpec, modules: Modules, *, nodes: int, mounts: Sequence[DataVolume]) -> ServerPlace:
    """Raises `ServerModuleMissing`, `ServerModuleMismatch` or `FilesystemNotShared`, each with the cure."""
    kind = location.kind
    module = modules.get(f"backup-{kind}")
    if not isinstance(module, Mapping):
        enabled = ", ".join(sorted(name for name in modules if name.startswith("backup-"))) or "none"
        raise Permanent(
            "ServerModuleMissing",
            f"method: Server needs Weaviate's module backup-{kind} for this location; enabled are: {enabled}. Add "
            f"backup-{kind} to ENABLE_MODULES, with the BACKUP_{kind.upper()}_* settings of the location, or use "
            "method: Agent",
        )
    if location.filesystem is not None:
        return _in_a_directory(location.filesystem, module, nodes=nodes, mounts=mounts)
    if location.s3 is not None:
        _compare_endpoints(location.s3, module)
    store = location.s3 or location.gcs
    wanted = store.bucket if store else (location.azure.container if location.azure else "")
    own = module.get("containerName" if location.azure else "bucketName")
    path = (location.s3 or location.gcs or location.azure or S3Location(bucket="none")).path.strip("/")
    return ServerPlace(kind, None if own == wanted else wanted, _path(kind, path, str(module.get("rootName") or "")))


def _path(kind: str, wanted: str, own: str) -> str | None:
    """None: the module's own. A request cannot say "the root" to a module that has a path."""
    if wanted == own.strip("/"):
        return None
    if not wanted:
        raise Permanent(
            "ServerModuleMismatch",
            f"the location's path is empty, but Weaviate's BACKUP_{kind.upper()}_PATH is {own!r}, and no request can "
            f"choose the root; set config.path or the location's path to {own!r}, or clear that variable",
        )
    return wanted


def _compare_endpoints(location: S3Location, module: Mapping[str, Any]) -> None:
    theirs, secure = str(module.get("endpoint") or ""), bool(module.get("useSSL", True))
    ours = location.host or f"s3.{AWS}"
    same = _address(ours, secure=location.secure) == _address(theirs, secure=secure)
    both_aws = all(each.partition(":")[0].endswith(AWS) for each in (ours, theirs))
    if same or both_aws:
        return
    raise Permanent(
        "ServerModuleMismatch",
        f"the location's endpoint is {ours!r} (useSSL {location.secure}), Weaviate's BACKUP_S3_ENDPOINT is {theirs!r} "
        f"(BACKUP_S3_USE_SSL {secure}); they must be the same, in the same words, or use method: Agent",
    )


def _address(endpoint: str, *, secure: bool) -> tuple[str, str, bool]:
    host, _, port = endpoint.lower().removesuffix("/").partition(":")
    return host, port or ("443" if secure else "80"), secure


def _in_a_directory(
    location: FilesystemLocation, module: Mapping[str, Any], *, nodes: int, mounts: Sequence[DataVolume]
) -> ServerPlace:
    if nodes > 1:
        raise Permanent(
            "FilesystemNotShared",
            f"Weaviate backs up to a file system only with a single node, and there are {nodes}; use another kind of "
            "location, or method: Agent",
        )
    wanted = _essence(location.volume.source)
    mount = next((each for each in mounts if _essence(each.source) == wanted), None)
    if mount is None:
        raise Permanent(
            "ServerModuleMismatch",
            f"the location's volume ({location.volume.kind}) is not mounted in Weaviate's pod; mount it there, "
            "or use method: Agent",
        )
    path = "/".join(part for part in (mount.mount_path.rstrip("/"), location.path.strip("/")) if part)
    own = str(module.get("backupsPath") or "").rstrip("/")
    return ServerPlace("filesystem", path=None if path == own else path)


def _essence(source: Mapping[str, Any]) -> Json:
    """What says which volume it is, and not how it is mounted."""
    return {
        kind: {name: value for name, value in fields.items() if value and name not in ("readOnly", "type")}
        for kind, fields in source.items()
    }
