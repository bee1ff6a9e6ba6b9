"""What GCS and Azure share of their connections: a pool for many threads, no retries, whom to trust and with what, how
content goes and comes."""

from functools import partial
from typing import Any, BinaryIO

import requests
from requests.adapters import HTTPAdapter

from weaviate_backup.core.credential_reach import Reach
from weaviate_backup.storage import documents
from weaviate_backup.storage.bodies import Judge, exact_body, in_pieces

CONNECTIONS = 64


def prepare(session: requests.Session, ca_file: str | None, reach: Reach) -> None:
    """Give the session a pool of its own, with the authority that answers must be signed by; None: the public ones.

    What it sends keeps to `reach`. It follows no redirect: a store answers by itself.
    """
    session.max_redirects = 0
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(ca_file, reach))


def body_of(answer: requests.Response, failure: Judge, *, key: str, start: int, length: int | None) -> BinaryIO:
    """The body as it comes. Raises as `exact_body`."""
    announced = answer.headers.get("Content-Length", "")
    found_bytes = int(announced) if announced.isdecimal() else None
    read = partial(answer.raw.read, decode_content=False)  # decoding what is not encoded copies it twice
    return exact_body(read, found_bytes, failure, key=key, start=start, length=length)


class _Adapter(HTTPAdapter):
    """The session's own `verify` would give way to a variable of the environment, such as REQUESTS_CA_BUNDLE."""

    def __init__(self, ca_file: str | None, reach: Reach) -> None:
        super().__init__(pool_connections=4, pool_maxsize=CONNECTIONS, max_retries=0)
        self._ca_file, self._reach = ca_file, reach

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        self._reach.check_request(request.url or "", request.headers)
        if self._ca_file:
            options["verify"] = self._ca_file
        request.body = in_pieces(request.body)  # its length is among the headers already
        answer = super().send(request, *arguments, **options)
        documents.bound(answer.raw)
        documents.stay_here(answer.status_code, answer.headers)
        return answer
