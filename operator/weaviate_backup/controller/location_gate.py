"""Whether a location may be used by an operation now: found, probed and well, its Secrets there. Reads only.

One that was tried and does not work ends an operation soon, one that is only now being tried is waited for.
"""

import hashlib
from dataclasses import dataclass

from weaviate_backup.api.conditions import READY, RECONCILING, find
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.location_status import LocationStatus
from weaviate_backup.api.reading import check_shapes, read_object
from weaviate_backup.api.stored_objects import read_or_new
from weaviate_backup.core.admission import Passing
from weaviate_backup.core.location_watch import PROBING, SUSPENDED
from weaviate_backup.core.orders import conflict
from weaviate_backup.core.session import Failure
from weaviate_backup.core.signing import refuse_bad_keys
from weaviate_backup.core.store_volume import VolumesAllowed, refuse_volume
from weaviate_backup.errors import InvalidInput, Permanent
from weaviate_backup.kube import LOCATIONS, SECRETS, Kube

NOT_TRIED = "LocationNotReady"
TRIED_SECONDS = 20
"""A location that was tried and does not work may be mended beside an operation for so long."""
PROBED_SECONDS = 300
"""A probe ends before, whatever happens to it."""


@dataclass(frozen=True)
class LocationView:
    """`spec` None: there is no such location. `refusals`: every reason not to start."""

    spec: LocationSpec | None
    refusals: tuple[Failure, ...]


@dataclass(frozen=True)
class Secrets:
    """Of a location: a word that changes when one of them does, and what is not there. Their content is not read."""

    version: str
    missing: tuple[Failure, ...]


async def read_location(
    kube: Kube, namespace: str, name: str, *, writing: bool, path: str | None, volumes: VolumesAllowed | None
) -> LocationView:
    """With `path`, the location is used at that path instead of its own; `volumes` as for `refuse_volume`.

    Raises `InvalidInput` when it names what cannot be, or cannot be read.
    """
    found = await kube.get(LOCATIONS, namespace, name)
    if found is None:
        message = f"there is no WeaviateBackupLocation {name!r} in namespace {namespace}"
        return LocationView(None, (_passing("LocationNotFound", message),))
    where, cure = f"WeaviateBackupLocation {name}", "correct the location"
    spec = read_object(LocationSpec, found.get("spec"), where=f"{where}: spec", cure=cure)
    check_shapes(spec, where=f"{where}: spec", cure=cure)
    try:
        refuse_volume(spec, volumes)
    except Permanent as error:
        return LocationView(None, (_passing(error.reason, f"location {name} cannot be used: {error.message}"),))
    status = read_or_new(LocationStatus, found.get("status") or {})
    secrets = await read_secrets(kube, namespace, spec)
    unsigned = await _refuse_without_signing_key(kube, namespace, spec) if writing else ()
    generation = found["metadata"].get("generation")
    refusals = refuse_use(name, spec, status, generation=generation, secrets_version=secrets.version, writing=writing)
    return LocationView(
        at_path(spec, path),
        (
            *(refusal for refusal in refusals if not refusal.transient),
            *secrets.missing,
            *unsigned,
            *(refusal for refusal in refusals if refusal.transient and not secrets.missing),
        ),
    )


def refuse_use(
    name: str,
    spec: LocationSpec,
    status: LocationStatus,
    *,
    generation: int | None,
    secrets_version: str,
    writing: bool,
) -> tuple[Failure, ...]:
    """What location and status say against an operation. Pure."""
    refusals: list[Failure] = []
    if spec.suspend:
        refusals.append(conflict("LocationSuspended", f"location {name} is suspended (spec.suspend)"))
    if writing and spec.read_only:
        refusals.append(conflict("LocationReadOnly", f"location {name} is read-only (spec.readOnly)"))
    refusals.extend(refuse_bad_keys(spec))
    if refusals:
        return tuple(refusals)
    ready, trying = find(status.conditions, READY), find(status.conditions, RECONCILING)
    if ready is None or status.observed_generation != generation or ready.reason == SUSPENDED:
        return (_passing(NOT_TRIED, f"location {name} has not been tried yet", seconds=PROBED_SECONDS),)
    if trying is not None and ready.reason == PROBING:
        return (_passing(NOT_TRIED, f"location {name} is being tried: {ready.message}", seconds=PROBED_SECONDS),)
    if trying is None and status.secrets_version != secrets_version:
        return (_passing(NOT_TRIED, f"location {name} is to be tried with its new Secrets", seconds=PROBED_SECONDS),)
    if ready.status != "True":
        return (_passing(ready.reason, f"location {name} is not ready: {ready.message}"),)
    return ()


async def read_secrets(kube: Kube, namespace: str, spec: LocationSpec) -> Secrets:
    """A Secret that is missing would leave an agent's pod in ContainerCreating for ever. Keys are agents' to miss."""
    versions, missing = [], []
    for name, field in spec.secrets.items():
        try:
            version = await kube.version(SECRETS, namespace, name)
        except InvalidInput as error:
            raise InvalidInput(error.reason, f"{field}: {error.message}") from None
        versions.append(f"{name}:{version}")
        if version is None:
            message = f"there is no Secret {name!r} in namespace {namespace}, which {field} names; create it"
            missing.append(_passing("SecretNotFound", message))
    return Secrets(hashlib.sha256(" ".join(versions).encode()).hexdigest()[:16], tuple(missing))


async def _refuse_without_signing_key(kube: Kube, namespace: str, spec: LocationSpec) -> tuple[Failure, ...]:
    """Needed by who writes alone, so it is none of the location's Secrets that it is tried with."""
    if spec.signing is None:
        return ()
    name = spec.signing.key_secret_ref.name
    if await kube.version(SECRETS, namespace, name) is not None:
        return ()
    message = f"there is no Secret {name!r} in namespace {namespace}, which spec.signing.keySecretRef names; create it"
    return (_passing("SecretNotFound", message),)


def at_path(spec: LocationSpec, path: str | None) -> LocationSpec:
    """The location with another path; operations and agents know only the result."""
    if path is None:
        return spec
    store = spec.s3 or spec.gcs or spec.azure or spec.filesystem
    assert store is not None
    return spec.model_copy(update={spec.kind: store.model_copy(update={"path": path.strip("/")})})


def _passing(reason: str, message: str, *, seconds: float = TRIED_SECONDS) -> Passing:
    return Passing(reason=reason, message=message, transient=True, patience_seconds=seconds)
