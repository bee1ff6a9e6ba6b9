"""A document of Google credentials leads an agent to Google alone, and to no file but a mounted token."""

from typing import Any

import pytest

from weaviate_backup.core.credential_reach import NOBODY, TrustedHosts
from weaviate_backup.core.google_document import check_document
from weaviate_backup.errors import Permanent

FIELD = "the Secret"
STS = {"token_url": "https://sts.googleapis.com/v1/token"}
IMPERSONATION = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.iam:generateAccessToken"
METADATA = "http://169.254.169.254/metadata/identity/oauth2/token?resource=x"


def source(**given: Any) -> dict[str, Any]:
    return {**STS, "credential_source": given}


ALLOWED: list[dict[str, Any]] = [
    {},
    {"token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com"},
    {"token_uri": "https://accounts.google.com/o/oauth2/token"},
    {"token_uri": "https://www.googleapis.com/oauth2/v4/token"},
    {"token_url": "https://sts.us-east7.rep.googleapis.com/v1/token"},
    {**STS, "service_account_impersonation_url": IMPERSONATION},
    source(file="/var/run/secrets/tokens/gcp-ksa/token"),
    source(file="/run/secrets/tokens/t"),
    source(url=METADATA, headers={"Metadata": "True"}),
    source(url="http://metadata.google.internal/computeMetadata/v1/x"),
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"universe_domain": "evil.com"}, "universe_domain"),
    ({"universe_domain": None}, "universe_domain"),
    ({"token_uri": "http://oauth2.googleapis.com/token"}, "token_uri"),
    ({"token_uri": "https://evil.com/token"}, "token_uri"),
    ({"token_uri": "https://oauth2.googleapis.com@evil.com/token"}, "token_uri"),
    ({"token_uri": "https://oauth2.googleapis.com.evil.com/token"}, "token_uri"),
    ({"token_uri": 7}, "token_uri"),
    # a bucket that everybody may write to would collect the identity
    ({"token_url": "https://storage.googleapis.com/upload/storage/v1/b/evil/o?uploadType=media"}, "token_url"),
    ({"token_url": "https://www.googleapis.com/oauth2/v4/token/../../../upload/storage/v1/b/evil/o"}, "token_url"),
    ({"token_info_url": "https://evil.com/"}, "token_info_url"),
    ({"service_account_impersonation_url": "https://evil.com/v1"}, "service_account_impersonation_url"),
    (source(file="/etc/weaviate-backup/tls/tls.key"), "credential_source.file"),
    (source(file="/var/run/secrets/../../etc/weaviate-backup/tls/tls.key"), "credential_source.file"),
    (source(file="/var/run/secrets"), "credential_source.file"),
    (source(file="/var/run/secrets-of-mine/x"), "credential_source.file"),
    (source(file="var/run/secrets/x"), "credential_source.file"),
    (source(file=["/var/run/secrets/x"]), "credential_source.file"),
    (source(url="http://10.0.0.1/token"), "credential_source.url"),
    (source(url="https://evil.com/token"), "credential_source.url"),
    (source(url="http://169.254.169.254@evil.com/"), "credential_source.url"),
    (source(executable={"command": "/bin/true"}), "credential_source"),
    (source(file="/var/run/secrets/x", executable={"command": "/bin/true"}), "credential_source"),
    (source(certificate={"use_default_certificate_config": True}), "credential_source"),
    ({**STS, "credential_source": "x"}, "credential_source"),
    (source(), "credential_source"),
]


@pytest.mark.parametrize("info", ALLOWED)
def test_what_google_gives_passes(info: dict[str, Any]) -> None:
    check_document(info, field=FIELD, trusted=NOBODY)


@pytest.mark.parametrize(("info", "name"), REFUSED)
def test_what_leads_elsewhere_is_named(info: dict[str, Any], name: str) -> None:
    with pytest.raises(Permanent, match=f"CredentialsInvalid: {name} in {FIELD}") as refused:
        check_document(info, field=FIELD, trusted=NOBODY)
    assert "evil.com" not in refused.value.message


def test_the_installer_may_list_another_server_for_tokens() -> None:
    trusted = TrustedHosts.parse("sts.example.com")
    info = {"token_uri": "https://sts.example.com/t", **source(url="https://sts.example.com/subject")}
    check_document(info, field=FIELD, trusted=trusted)
    for plain in ({"token_uri": "http://sts.example.com/t"}, source(url="http://sts.example.com/subject")):
        with pytest.raises(Permanent, match="CredentialsInvalid"):
            check_document(plain, field=FIELD, trusted=trusted)
