"""What the JSON of Google credentials in a Secret may make an agent do. Pure.

google-auth believes it: it reads the file and asks the URL that the document names, and posts what it got, or a signed
request for a token, to another. So the author of a Secret could read an agent's files, or collect its identity.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from weaviate_backup.core.credential_reach import LISTED, TrustedHosts, origin_of
from weaviate_backup.errors import Permanent

TOKEN_FIELDS = ("token_uri", "token_url", "token_info_url", "service_account_impersonation_url")
"""Where google-auth posts to."""
LEGACY_TOKEN_URLS = frozenset(
    {
        "https://accounts.google.com/o/oauth2/token",
        "https://www.googleapis.com/oauth2/v3/token",
        "https://www.googleapis.com/oauth2/v4/token",
    }
)
"""On hosts that serve more than tokens: these paths alone."""
TOKEN_HOSTS = re.compile(
    r"(oauth2|sts|iamcredentials)(\.mtls|\.[a-z0-9-]+(\.p)?\.rep|-[a-z0-9-]+\.p)?\.googleapis\.com"
)
METADATA_HOSTS = frozenset({"169.254.169.254", "metadata.google.internal", "fd00:ec2::254"})
"""They are asked over plain http, and answer nobody but the node."""
MOUNTED_TOKENS = (PurePosixPath("/var/run/secrets"), PurePosixPath("/run/secrets"))
UNIVERSE = "googleapis.com"


def check_document(info: Mapping[str, Any], *, field: str, trusted: TrustedHosts) -> None:
    """Raises `CredentialsInvalid` with the part of the document that leads elsewhere; never with its content."""
    universe = info.get("universe_domain", UNIVERSE)
    if universe != UNIVERSE:
        raise Permanent(
            "CredentialsInvalid", f"universe_domain in {field} is not {UNIVERSE}, and no other is supported"
        )
    for name in TOKEN_FIELDS:
        if name in info and not _is_token_server(info[name], trusted):
            raise Permanent(
                "CredentialsInvalid",
                f"{name} in {field} is none of Google's own over https, and identities are exchanged nowhere else; put "
                f"the JSON there as Google gave it, or let the installer list the host ({LISTED})",
            )
    source = info.get("credential_source")
    if source is not None:
        _check_source(source, field=field, trusted=trusted)


def _check_source(source: Any, *, field: str, trusted: TrustedHosts) -> None:
    given = source if isinstance(source, Mapping) else {}
    file, url = given.get("file"), given.get("url")
    if not (file or url) or "certificate" in given or "executable" in given:
        raise Permanent(
            "CredentialsInvalid", f"credential_source in {field} names neither a file nor a url; no other is supported"
        )
    if file and not _is_mounted_token(file):
        raise Permanent(
            "CredentialsInvalid",
            f"credential_source.file in {field} is not below {MOUNTED_TOKENS[0]}, where tokens are mounted; no other "
            "file of an agent is read",
        )
    if url and not _gives_subjects(url, trusted):
        raise Permanent(
            "CredentialsInvalid",
            f"credential_source.url in {field} is not the node's metadata server; name that, or let the installer list "
            f"the host ({LISTED}) and use https",
        )


def _is_token_server(url: Any, trusted: TrustedHosts) -> bool:
    origin = origin_of(url) if isinstance(url, str) else None
    if origin is None or origin.scheme != "https":
        return False
    return url in LEGACY_TOKEN_URLS or origin.host in trusted or TOKEN_HOSTS.fullmatch(origin.host) is not None


def _is_mounted_token(file: Any) -> bool:
    path = PurePosixPath(file) if isinstance(file, str) else PurePosixPath()
    return ".." not in path.parts and any(root in path.parents for root in MOUNTED_TOKENS)


def _gives_subjects(url: Any, trusted: TrustedHosts) -> bool:
    origin = origin_of(url) if isinstance(url, str) else None
    if origin is None:
        return False
    return origin.host in METADATA_HOSTS or (origin.scheme == "https" and origin.host in trusted)
