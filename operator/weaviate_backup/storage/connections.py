"""What GCS and Azure share of their connections: a pool for many threads, no retries, and whom to trust."""

from typing import Any

import requests
from requests.adapters import HTTPAdapter

CONNECTIONS = 64


def prepare(session: requests.Session, ca_file: str | None) -> None:
    """Give the session a pool of its own, with the authority that answers must be signed by; None: the public ones."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(ca_file))


class _Adapter(HTTPAdapter):
    """The session's own `verify` would give way to a variable of the environment, such as REQUESTS_CA_BUNDLE."""

    def __init__(self, ca_file: str | None) -> None:
        super().__init__(pool_connections=4, pool_maxsize=CONNECTIONS, max_retries=0)
        self._ca_file = ca_file

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        if self._ca_file:
            options["verify"] = self._ca_file
        return super().send(request, *arguments, **options)
