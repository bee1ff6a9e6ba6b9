"""Whether signatures can be had of a backup, or held to in a restore, as its location wants it. Pure."""

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.orders import conflict
from weaviate_backup.core.session import Failure
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.signatures import load_public_keys

PUBLIC_KEYS_FIELD = "spec.verify.publicKeys"


def requires_signature(location: LocationSpec) -> bool:
    return location.verify is not None and location.verify.require_signed


def refuse_unsigned_backup(location: LocationSpec, *, by_server: bool) -> tuple[Failure, ...]:
    """A backup that the very location it goes to would not restore."""
    if not requires_signature(location):
        return ()
    if by_server:
        message = "the location has verify.requireSigned, and what Weaviate writes itself cannot be signed"
        return (conflict("SignatureImpossible", f"{message}; use method Agent"),)
    if location.signing is None:
        message = "the location has verify.requireSigned, but no key to sign with; set its spec.signing"
        return (conflict("SigningKeyMissing", message),)
    return ()


def warn_of_unsigned(location: LocationSpec, *, by_server: bool) -> tuple[Failure, ...]:
    if not by_server or location.signing is None:
        return ()
    message = "the location signs backups, but not what Weaviate writes itself (method Server)"
    return (conflict("NotSigned", message),)


def refuse_unheld_restore(location: LocationSpec) -> tuple[Failure, ...]:
    """Method Server: the server reads the store itself, after our look, and compares no checksums of ours."""
    if not requires_signature(location):
        return ()
    message = "the location has verify.requireSigned, but Weaviate's own restore takes what is in the store unchecked"
    return (conflict("SignatureNotHeld", f"{message}; use method Agent"),)


def refuse_bad_keys(location: LocationSpec) -> tuple[Failure, ...]:
    """Public keys that pass for some, and are none."""
    try:
        load_public_keys(location.verify.public_keys if location.verify else (), what=PUBLIC_KEYS_FIELD)
    except Permanent as error:
        return (conflict(error.reason, error.message),)
    return ()
