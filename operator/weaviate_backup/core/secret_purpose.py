"""Which Secrets may be sent to somebody as a key. Pure.

Whoever may write our objects names Secrets that he may not read. So a value is only sent as what its Secret says that
it is: by the name of its key, or by a label that somebody has set who may change the Secret.
"""

from collections.abc import Mapping

from weaviate_backup.api.location import CUSTOMER_KEY, CUSTOMER_KEY_CURE, SecretKeyReference
from weaviate_backup.errors import Permanent

API_KEY_NAMES = ("AUTHENTICATION_APIKEY_ALLOWED_KEYS", "WEAVIATE_API_KEY", "weaviate-api-key")
"""The first is what Weaviate's own chart calls it."""
API_KEY_LABEL = "backup.weaviate.io/api-key"
REFUSED = "SecretNotMeant"


def check_customer_key(reference: SecretKeyReference) -> None:
    """Raises for a location that was stored before its schema demanded the name."""
    if reference.key != CUSTOMER_KEY:
        field = "spec.s3.serverSideEncryption.customerKeySecretRef.key"
        raise Permanent(REFUSED, f"{field} {reference.key!r}: {CUSTOMER_KEY_CURE}, and name that")


def check_api_key(reference: SecretKeyReference, labels: Mapping[str, str]) -> None:
    """Raises when nothing says that the Secret's value is a key of Weaviate's, which its pods are sent."""
    if reference.key in API_KEY_NAMES or labels.get(API_KEY_LABEL) == "true":
        return
    raise Permanent(
        REFUSED,
        f"spec.auth.apiKeySecretRef names key {reference.key!r} of Secret {reference.name!r}, and nothing says that it "
        f"is for Weaviate; call the key {' or '.join(API_KEY_NAMES[1:])}, or label the Secret {API_KEY_LABEL}=true",
    )
