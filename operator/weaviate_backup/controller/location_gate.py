"""Whether a location may be used by an operation now: found, probed and well, its Secrets there. Reads only.

A Secret that is missing would leave an agent's pod in ContainerCreating for ever, so each is looked up by name first.
"""

from dataclasses import dataclass

from weaviate_backup.api.conditions import READY, find
from weaviate_backup.api.location import LocationSpec, LocationStatus
from weaviate_backup.core.orders import conflict
from weaviate_backup.core.session import Failure
from weaviate_backup.kube import LOCATIONS, SECRETS, Kube

SUPPORTED = ("s3", "gcs", "azure", "filesystem")


@dataclass(frozen=True)
class LocationView:
    """`spec` None: there is no such location. `refusals`: every reason not to start."""

    spec: LocationSpec | None
    refusals: tuple[Failure, ...]


async def read_location(kube: Kube, namespace: str, name: str, *, writing: bool, path: str | None) -> LocationView:
    """With `path`, the location is used at that path instead of its own."""
    found = await kube.get(LOCATIONS, namespace, name)
    if found is None:
        message = f"there is no WeaviateBackupLocation {name!r} in namespace {namespace}"
        return LocationView(None, (_passing("LocationNotFound", message),))
    spec = LocationSpec.model_validate(found["spec"])
    status = LocationStatus.model_validate(found.get("status") or {})
    refusals: list[Failure] = []
    if spec.suspend:
        refusals.append(conflict("LocationSuspended", f"location {name} is suspended (spec.suspend)"))
    if writing and spec.read_only:
        refusals.append(conflict("LocationReadOnly", f"location {name} is read-only (spec.readOnly)"))
    refusals += await missing_secrets(kube, namespace, spec)
    ready = find(status.conditions, READY)
    if not refusals and (ready is None or status.observed_generation != found["metadata"].get("generation")):
        refusals.append(_passing("LocationNotReady", f"location {name} has not been tried yet"))
    elif not refusals and ready is not None and ready.status != "True":
        refusals.append(_passing(ready.reason, f"location {name} is not ready: {ready.message}"))
    return LocationView(at_path(spec, path), tuple(refusals))


async def missing_secrets(kube: Kube, namespace: str, spec: LocationSpec) -> list[Failure]:
    refusals = []
    wanted: list[tuple[str, str | None]] = [
        (each.name, each.key) for each in (spec.authority, spec.customer_key) if each
    ]
    if spec.credentials_secret:
        wanted.insert(0, (spec.credentials_secret, None))
    for name, key in wanted:
        secret = await kube.get(SECRETS, namespace, name)
        if secret is None:
            message = f"there is no Secret {name!r} in namespace {namespace}, which the location names"
            refusals.append(_passing("SecretNotFound", message))
        elif key is not None and key not in (secret.get("data") or {}):
            refusals.append(_passing("SecretKeyNotFound", f"Secret {name!r} has no key {key!r}"))
    return refusals


def at_path(spec: LocationSpec, path: str | None) -> LocationSpec:
    """The location with another path; operations and agents know only the result."""
    if path is None:
        return spec
    store = spec.s3 or spec.gcs or spec.azure or spec.filesystem
    assert store is not None
    return spec.model_copy(update={spec.kind: store.model_copy(update={"path": path.strip("/")})})


def _passing(reason: str, message: str) -> Failure:
    return Failure(reason=reason, message=message, transient=True)
