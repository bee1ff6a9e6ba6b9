"""How far a store's clock is ahead of ours. Signatures and tokens are refused when that is minutes.

Any answer of a server tells, also a refusal, and needs no credentials; a file system tells by the time of a new file.
"""

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent

TIMEOUT_SECONDS = 3.0


def endpoint_url(location: LocationSpec, credentials: Mapping[str, str]) -> str | None:
    """The URL behind which the location's server is; None where there is none, or it cannot be told."""
    if location.s3 is not None:
        host = location.s3.host or f"s3.{location.s3.region or 'us-east-1'}.amazonaws.com"
        return f"{'https' if location.s3.secure else 'http'}://{host}/"
    if location.gcs is not None:
        return location.gcs.endpoint or "https://storage.googleapis.com/"
    if location.azure is not None:
        parts = dict(
            part.split("=", 1)
            for part in credentials.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";")
            if "=" in part
        )
        account = parts.get("AccountName") or credentials.get("AZURE_STORAGE_ACCOUNT") or location.azure.account
        suffix = parts.get("EndpointSuffix", "core.windows.net")
        named = location.azure.endpoint or parts.get("BlobEndpoint")
        if named:
            return named.partition("?")[0]  # behind it a signature may stand
        return f"https://{account}.blob.{suffix}/" if account else None
    return None


def skew_of_server(url: str, *, ca_pem: bytes | None = None) -> float | None:
    """Seconds, to about one; None when the server cannot be asked or tells no time."""
    try:
        context = ssl.create_default_context(cadata=ca_pem.decode() if ca_pem else None)
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirects())
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (the CRD lets only http and https in)
        asked_at = datetime.now(UTC)
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                said = answer.headers.get("Date")
        except urllib.error.HTTPError as refusal:
            with refusal:
                said = refusal.headers.get("Date")
        here = asked_at + (datetime.now(UTC) - asked_at) / 2
        there = parsedate_to_datetime(said or "")
    except (OSError, ValueError, HTTPException):
        return None
    return there.timestamp() + 0.5 - here.timestamp()  # whole seconds are told, cut off


def skew_of_file(place: Place, *, written_at: datetime) -> float | None:
    """Of a file that was written then, by our clock; None when it was not, or when something else stands there."""
    try:
        return place.stat().st_mtime - written_at.timestamp() if place.is_file() else None
    except (OSError, Permanent):
        return None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The store itself is asked, not where it points to."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
