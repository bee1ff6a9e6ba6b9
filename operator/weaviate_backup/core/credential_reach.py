"""Whom a store's credential may be sent to. Pure.

A signature proves who asks and gives nothing away: an S3 key pair (whose session token is worth nothing without it) and
the key of an Azure account may therefore be used with any server, over plain http, too. A token, a shared access
signature and a customer's key go over the line themselves. Whoever is sent one has it, so they go over TLS only, to the
provider's own hosts and to those that the installer lists.

A location's author chooses the endpoint and its certificate authority. Under an authority of his own choice the
provider's names prove nothing, so that they, too, must be listed then.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from weaviate_backup.errors import Permanent

LISTED = "operator.trustedStoreHosts of the chart, --trust-host of kubectl weaviate-backup"


class Credential(StrEnum):
    """What goes over the line itself."""

    TOKEN = "an identity's token"  # noqa: S105
    SHARED_ACCESS = "a shared access signature"
    CUSTOMER_KEY = "a customer's key"


OWN_HOSTS = {
    "s3": re.compile(
        r"(.+\.)?s3(-fips|-accelerate)?(\.dualstack)?([.-][a-z]{2,}(-[a-z]+)+-[0-9]+)?(\.vpce)?"
        r"\.amazonaws\.(com|com\.cn|eu)"
    ),
    "gcs": re.compile(
        r"(([^.]+\.)*storage(\.mtls)?|storage\.[a-z0-9-]+(\.p)?\.rep|storage-[a-z0-9-]+\.p|www|private|restricted)"
        r"\.googleapis\.com"
    ),
    "azure": re.compile(
        r".+\.blob\.core\.(windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)|[^.]+\.z[0-9]+\.blob\.storage\.azure\.net"
    ),
}
"""By kind of store. Narrower than the providers' domains, since customers have hosts of their own below those."""
_PROVIDERS = {"s3": "AWS", "gcs": "Google", "azure": "Azure"}
_LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?([/?]|\Z)", re.ASCII | re.IGNORECASE
)
_SIGNATURE = re.compile(r"[?&]sig=", re.IGNORECASE)
_KEY_HEADER = "x-amz-server-side-encryption-customer-key"


@dataclass(frozen=True)
class Origin:
    """The server that a URL leads to; the host in lower case."""

    scheme: str
    host: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}"


def origin_of(url: str) -> Origin | None:
    """None when the URL is not written plainly: with a user, escapes, a final dot, or letters that only some parsers
    take for part of a host. What is plain all of them read alike."""
    found = _URL.match(url)
    host = _plain(found["host"]) if found else None
    return Origin(found["scheme"].lower(), host) if found and host else None


@dataclass(frozen=True)
class TrustedHosts:
    """The installer's list. `*.x` stands for every host below x, not for x. Ports do not count: TLS proves a host."""

    hosts: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> "TrustedHosts":
        """Of names with commas between. Raises ValueError for what is no host."""
        hosts, suffixes = set[str](), set[str]()
        for entry in filter(None, (each.strip() for each in text.split(","))):
            below = entry.startswith("*.")
            host = _plain(entry[2:] if below else entry)
            if host is None or (below and _is_address(host)):
                raise ValueError(
                    f"{entry!r} is no host to trust; write a name such as store.example.com, *.example.com for all "
                    "below it, or an address, without scheme and port"
                )
            (suffixes if below else hosts).add(host)
        return cls(frozenset(hosts), frozenset(suffixes))

    def __contains__(self, host: str) -> bool:
        if host in self.hosts or _is_address(host):
            return host in self.hosts
        parts = host.split(".")
        return any(".".join(parts[at:]) in self.suffixes for at in range(1, len(parts)))


NOBODY = TrustedHosts()


@dataclass(frozen=True)
class Reach:
    """How far credentials of one location go. `own_authority`: the location brings the authority that is believed."""

    kind: str
    trusted: TrustedHosts = NOBODY
    own_authority: bool = False

    def check(self, credential: Credential, url: str, *, field: str) -> None:
        """Raises when the server may not be sent it. `field` is where the address comes from; only its host is told,
        since the rest of one from a Secret is a secret."""
        origin = origin_of(url)
        if origin is None:
            raise Permanent(
                "LocationInvalid",
                f"{field} is not written plainly; use https://host, without user, escapes or final dot",
            )
        if origin.scheme != "https":
            raise Permanent(
                "LocationInvalid",
                f"{field} {str(origin)!r} is not https, and {credential} is never sent in the clear; use https",
            )
        own = OWN_HOSTS[self.kind].fullmatch(origin.host) is not None
        if origin.host in self.trusted or (own and not self.own_authority):
            return
        why, cure = (
            (f"is believed by spec.{self.kind}.caSecretRef", "remove caSecretRef")
            if own
            else (f"is no host of {_PROVIDERS[self.kind]}'s own", "name the provider's host")
        )
        raise Permanent(
            "EndpointNotTrusted",
            f"{field} {str(origin)!r} {why}, and who is sent {credential} has it; {cure}, or let the installer list "
            f"{origin.host} ({LISTED})",
        )

    def check_request(self, url: str, headers: Mapping[str, Any]) -> None:
        """The same for a request as it goes out, wherever a client library or a server's answer has led it."""
        for credential in _carried(url, headers):
            self.check(credential, url, field="the store's address")


def _carried(url: str, headers: Mapping[str, Any]) -> list[Credential]:
    named = {name.lower(): _text(value) for name, value in headers.items()}
    found = [Credential.TOKEN] if named.get("authorization", "").lower().startswith("bearer ") else []
    if _SIGNATURE.search(url):
        found.append(Credential.SHARED_ACCESS)
    if _KEY_HEADER in named:
        found.append(Credential.CUSTOMER_KEY)
    return found


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _plain(host: str) -> str | None:
    """As it is compared; None when it is no plain name or address."""
    host = host.lower()
    if host.startswith("[") or _is_address(host):
        return str(ipaddress.ip_address(host.strip("[]"))) if _is_address(host.strip("[]")) else None
    return host if _NAME.fullmatch(host) else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
