"""Which server may be sent a credential, however its address is written: the same host that client libraries go to."""

import re
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weaviate_backup.core.credential_reach import NOBODY, OWN_HOSTS, Credential, Origin, Reach, TrustedHosts, origin_of
from weaviate_backup.errors import Permanent

FIELD = "spec.x.endpoint"
OWN = {
    "s3": (
        "s3.amazonaws.com",
        "s3.eu-central-1.amazonaws.com",
        "s3-us-west-2.amazonaws.com",
        "s3.dualstack.us-east-1.amazonaws.com",
        "s3-fips.us-gov-west-1.amazonaws.com",
        "s3-accelerate.amazonaws.com",
        "backups.s3.us-east-1.amazonaws.com",
        "with.dots.s3.amazonaws.com",
        "bucket.vpce-0a1b-c2d3.s3.us-east-1.vpce.amazonaws.com",
        "s3.cn-north-1.amazonaws.com.cn",
        "S3.EU-Central-1.amazonaws.com",
    ),
    "gcs": (
        "storage.googleapis.com",
        "backups.storage.googleapis.com",
        "www.googleapis.com",
        "private.googleapis.com",
        "restricted.googleapis.com",
        "storage-psc1.p.googleapis.com",
        "storage.europe-west3.rep.googleapis.com",
        "storage.europe-west3.p.rep.googleapis.com",
        "storage.mtls.googleapis.com",
    ),
    "azure": (
        "acc.blob.core.windows.net",
        "acc-secondary.blob.core.windows.net",
        "acc.privatelink.blob.core.windows.net",
        "acc.blob.core.usgovcloudapi.net",
        "acc.blob.core.chinacloudapi.cn",
        "acc.z14.blob.storage.azure.net",
    ),
}
FOREIGN = {
    "s3": (
        "abc123.execute-api.us-east-1.amazonaws.com",  # a customer's own program answers there
        "mine-1.us-east-1.elb.amazonaws.com",
        "ec2-1-2-3-4.compute-1.amazonaws.com",
        "s3.evil.amazonaws.com",
        "evils3.amazonaws.com",
        "amazonaws.com",
    ),
    "gcs": (
        "connectgateway.googleapis.com",
        "evilstorage.googleapis.com",
        "googleapis.com",
        "storage.googleapis.com.evil.com",
        "storage.googleapis.community",
        "storagexgoogleapis.com",
    ),
    "azure": (
        "blob.core.windows.net",
        "acc.file.core.windows.net",
        "acc.z1.web.core.windows.net",
        "acc.blob.core.windows.net.evil.com",
        "acc.zz.blob.storage.azure.net",
        "acc.azurewebsites.net",
    ),
}
TRICKS = (
    "https://storage.googleapis.com@evil.com",
    "https://storage.googleapis.com:x@evil.com",
    "https://user@storage.googleapis.com",
    "https://storage.googleapis.com.",
    "https://evil.com#.googleapis.com",
    "https://evil.com\\.storage.googleapis.com",
    "https://storage.googleapis.com\\@evil.com",
    "https://storage.googleapis.com%2eevil.com",
    "https://%73torage.googleapis.com",
    "https://storage。googleapis。com",
    "https://\u017ftorage.googleapis.com",
    "https://storage.googleapis.com\n.evil.com",
    "https://storage.googleapis.com\n",
    " https://storage.googleapis.com",
    "https:storage.googleapis.com",
    "https:///storage.googleapis.com",
    "https://storage.googleapis.com:443x",
    "https://[storage.googleapis.com]",
    "https://[fe80::1%25eth0]",
    "file://storage.googleapis.com",
    "//storage.googleapis.com",
    "",
)


def allowed(reach: Reach, url: str, credential: Credential = Credential.TOKEN) -> bool:
    try:
        reach.check(credential, url, field=FIELD)
    except Permanent as refused:
        assert refused.reason in {"LocationInvalid", "EndpointNotTrusted"}
        assert FIELD in refused.message
        return False
    return True


@pytest.mark.parametrize(("kind", "host"), [(kind, host) for kind, hosts in OWN.items() for host in hosts])
def test_the_providers_own_hosts_are_sent_credentials_over_tls_alone(kind: str, host: str) -> None:
    for credential in Credential:
        assert allowed(Reach(kind), f"https://{host}", credential)
        assert allowed(Reach(kind), f"https://{host}:8443/path", credential)
        assert not allowed(Reach(kind), f"http://{host}", credential)
    assert not any(allowed(Reach(other), f"https://{host}") for other in OWN if other != kind)


@pytest.mark.parametrize(("kind", "host"), [(kind, host) for kind, hosts in FOREIGN.items() for host in hosts])
def test_nobody_elses_are(kind: str, host: str) -> None:
    assert not allowed(Reach(kind), f"https://{host}")
    assert allowed(Reach(kind, TrustedHosts.parse(f"x.example, {host}")), f"https://{host}:9000/")
    assert not allowed(Reach(kind, TrustedHosts.parse(host)), f"http://{host}:9000/")


@pytest.mark.parametrize("url", TRICKS)
def test_an_address_that_is_not_written_plainly_is_refused(url: str) -> None:
    everybody = TrustedHosts.parse("storage.googleapis.com, evil.com, *.evil.com, *.com")
    assert not allowed(Reach("gcs"), url)
    assert not allowed(Reach("gcs", everybody), url)


def test_under_an_authority_of_the_locations_own_a_providers_name_proves_nothing() -> None:
    host = "storage.googleapis.com"
    with pytest.raises(Permanent, match=r"EndpointNotTrusted.*spec\.gcs\.caSecretRef.*remove caSecretRef, or let"):
        Reach("gcs", own_authority=True).check(Credential.TOKEN, f"https://{host}", field=FIELD)
    assert allowed(Reach("gcs", TrustedHosts.parse(host), own_authority=True), f"https://{host}")


def test_a_refusal_names_host_and_cure_and_nothing_more_of_the_address() -> None:
    with pytest.raises(Permanent) as refused:
        Reach("azure").check(Credential.SHARED_ACCESS, "https://evil.com:1/c?sig=SECRET", field=FIELD)
    message = refused.value.message
    assert message.startswith(f"{FIELD} 'https://evil.com' is no host of Azure's own")
    assert "operator.trustedStoreHosts" in message
    assert "--trust-host" in message
    assert "SECRET" not in message


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("", (), ("a.b", "")),
        ("store.example.com", ("store.example.com",), ("x.store.example.com", "example.com", "store.example.com.evil")),
        ("*.example.com", ("a.example.com", "a.b.example.com"), ("example.com", "xexample.com", "a.example.com.evil")),
        ("Store.Example.COM , minio", ("store.example.com", "minio"), ("minio.example.com",)),
        ("*.0.0.1,*.example.com", ("x.example.com",), ("127.0.0.1", "10.0.0.1")),
        ("10.0.0.7,[fd00:0::7],127.0.0.1", ("10.0.0.7", "fd00::7", "127.0.0.1"), ("10.0.0.71", "110.0.0.7", "fd00::8")),
    ],
)
def test_a_list_of_hosts(text: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    trusted = TrustedHosts.parse(text)
    assert [host for host in inside if host not in trusted] == []
    assert [host for host in outside if host in trusted] == []


@pytest.mark.parametrize(
    "text", ["*", "*.", "a.*", "*.*.com", "https://a.b", "a.b:9000", "a b", "a.b.", "a..b", "u@a", "*.10.0.0.7", "ä.de"]
)
def test_what_is_no_list_of_hosts_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        TrustedHosts.parse(f"good.example.com,{text}")


@pytest.mark.parametrize(
    ("url", "headers", "refused"),
    [
        ("http://h/", {"Authorization": "AWS4-HMAC-SHA256 Credential=k"}, False),
        ("http://h/", {"Authorization": "SharedKey acc:xxx", "x-amz-security-token": "t"}, False),
        ("http://h/", {"authorization": "bearer t"}, True),
        ("http://h/", {"Authorization": b"Bearer t"}, True),
        ("http://h/c?comp=list&sig=s", {}, True),
        ("http://h/c?design=s", {}, False),
        ("http://h/", {"X-Amz-Server-Side-Encryption-Customer-Key": "a2V5"}, True),
        ("https://s3.amazonaws.com/", {"x-amz-server-side-encryption-customer-key": "a2V5"}, False),
    ],
)
def test_a_request_is_judged_by_what_it_carries(url: str, headers: dict[str, str | bytes], refused: bool) -> None:
    if refused:
        with pytest.raises(Permanent):
            Reach("s3").check_request(url, headers)
    else:
        Reach("s3").check_request(url, headers)


PIECES = st.sampled_from(
    ["storage", "googleapis", "com", "evil.com", "storage.googleapis.com", ".", "@", ":", "/", "#", "?", "\\", "%2e",
     "%40", "443", "[", "]", "::1", "。", "\u017f", "\u212a", "xn--", "\t", "\n", " ", ";", "&", "..", "-", "_", "A"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["https://", "HTTPS://", "http://", "https:/", ""]), st.lists(PIECES, max_size=7).map("".join))
@example("https://", "storage.googleapis.com:443/?@evil.com")
def test_what_is_allowed_every_parser_takes_to_the_providers_host(scheme: str, rest: str) -> None:
    url = scheme + rest
    if not allowed(Reach("gcs"), url):
        return
    hosts = {urlsplit(url).hostname, urlsplit(requests.Request("GET", url).prepare().url or "").hostname}
    (host,) = hosts
    assert host is not None
    assert OWN_HOSTS["gcs"].fullmatch(host)
    assert urlsplit(url).scheme == "https"


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=2, max_size=5).map(".".join)


@given(HOST, HOST, st.booleans())
def test_a_list_lets_in_exactly_what_it_names(listed: str, host: str, below: bool) -> None:
    trusted = TrustedHosts.parse(f"*.{listed}" if below else listed)
    expected = host.endswith(f".{listed}") if below else host == listed
    assert (host in trusted) == expected
    assert (f"x.{listed}" in trusted) == below
    assert host not in NOBODY


@given(HOST, st.sampled_from(["http", "https"]), st.integers(1, 65535), st.sampled_from(["", "/", "/a/b", "?q=1"]))
def test_an_address_is_scheme_and_host(host: str, scheme: str, port: int, rest: str) -> None:
    assert origin_of(f"{scheme.upper()}://{host.upper()}:{port}{rest}") == Origin(scheme, host)
