"""No Secret's value is sent as a key unless the Secret says that it is one."""

import pytest

from weaviate_backup.api.location import SecretKeyReference
from weaviate_backup.core.secret_purpose import API_KEY_LABEL, API_KEY_NAMES, check_api_key, check_customer_key
from weaviate_backup.errors import Permanent


@pytest.mark.parametrize(
    ("key", "labels"), [*((name, {}) for name in API_KEY_NAMES), ("admin", {API_KEY_LABEL: "true", "app": "x"})]
)
def test_a_key_of_weaviates_is_known_by_its_name_or_by_a_label(key: str, labels: dict[str, str]) -> None:
    check_api_key(SecretKeyReference(name="keys", key=key), labels)


@pytest.mark.parametrize(
    ("key", "labels"),
    [("password", {}), ("api-key", {"app": "x"}), ("admin", {API_KEY_LABEL: "false"}), ("weaviate_api_key", {})],
)
def test_any_other_secret_is_refused_with_both_cures(key: str, labels: dict[str, str]) -> None:
    with pytest.raises(Permanent, match=r"SecretNotMeant: spec\.auth\.apiKeySecretRef") as refused:
        check_api_key(SecretKeyReference(name="prod-db", key=key), labels)
    assert all(word in refused.value.message for word in (repr(key), "'prod-db'", f"{API_KEY_LABEL}=true"))
    assert all(name in refused.value.message for name in API_KEY_NAMES[1:])


def test_a_customers_key_is_known_by_its_name() -> None:
    check_customer_key(SecretKeyReference(name="keys", key="SSE_CUSTOMER_KEY"))
    with pytest.raises(Permanent, match=r"SecretNotMeant: .*customerKeySecretRef.key 'password'.*SSE_CUSTOMER_KEY"):
        check_customer_key(SecretKeyReference(name="keys", key="password"))
