"""A location in a file, as it would be applied, with credentials from the environment.

For places that no kubeconfig here reaches.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from weaviate_backup.api.location import CREDENTIAL_KEYS, CUSTOMER_KEY
from weaviate_backup.api.names import LOCATION_KIND
from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.plugin.location_access import LocationAccess, refuse_use, validated

GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS"


def location_in_file(
    path: Path,
    environment: Mapping[str, str],
    *,
    prefix: str,
    writing: bool,
    ca_file: Path | None = None,
    directory: Path | None = None,
) -> LocationAccess:
    """A location's YAML. Credentials are the variables whose names have the prefix (`FROM_` or `TO_`); if none is set,
    those of the plain names, so that two stores of one kind can have different keys.
    """
    spec = _spec_in(path)
    location = validated(spec, str(path))
    if unknown := next(_unknown(spec, location.model_dump(mode="json", by_alias=True), "spec"), None):
        raise Permanent("LocationInvalid", f"{path}: there is no field {unknown}; correct it or leave it away")
    refuse_use(location, str(path), writing=writing)
    if location.authority and ca_file is None:
        message = f"{path} names a caSecretRef: give its PEM with --{prefix.rstrip('_').lower()}-ca-file"
        raise Permanent("CertificateMissing", message)
    names = (*CREDENTIAL_KEYS.get(location.kind, ()), *([CUSTOMER_KEY] if location.customer_key else []))
    credentials = _set_in(environment, names, prefix=prefix) or _set_in(environment, names, prefix="")
    if location.credentials_secret and not credentials.keys() - {CUSTOMER_KEY}:
        wanted = ", ".join(names)
        message = f"{path} names Secret {location.credentials_secret!r}: set its keys in the environment ({wanted}"
        raise Permanent("CredentialsMissing", f"{message}, or all of them with {prefix} in front)")
    return LocationAccess(location, credentials, ca_file.read_bytes() if ca_file else None, directory)


def _set_in(environment: Mapping[str, str], names: Sequence[str], *, prefix: str) -> dict[str, str]:
    found = {name: environment[prefix + name] for name in names if environment.get(prefix + name)}
    if GOOGLE in found:
        found[GOOGLE] = _google_key(found[GOOGLE])
    return found


def _spec_in(path: Path) -> Any:
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent("FileUnreadable", f"{path} cannot be read: {excerpt(str(error), 120)}") from error
    except yaml.YAMLError as error:
        raise Permanent("FileUnreadable", f"{path} is no YAML: {excerpt(str(error), 120)}") from error
    found = [each for each in documents if isinstance(each, dict) and each.get("kind") == LOCATION_KIND]
    if len(found) != 1:
        raise Permanent("LocationInvalid", f"{path} holds {len(found)} objects of kind {LOCATION_KIND}, not one")
    return found[0].get("spec")


def _unknown(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> Iterator[str]:
    """Fields that an API server would refuse."""
    for name, value in given.items():
        if name not in known:
            yield f"{where}.{name}"
        elif isinstance(value, dict) and isinstance(known[name], dict):
            yield from _unknown(value, known[name], f"{where}.{name}")


def _google_key(value: str) -> str:
    """The environment names a file, a Secret holds its content."""
    if value.lstrip().startswith("{"):
        return value
    try:
        return Path(value).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent("CredentialsMissing", f"{GOOGLE} names a file that cannot be read") from error
