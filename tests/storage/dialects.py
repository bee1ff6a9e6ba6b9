"""How the protocol of each kind of store says what: which verb a request is, and how a store refuses it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qs, urlsplit

from tests.storage.faults import Answer, Edit, Fault, Header, Request

Headers = tuple[tuple[str, str], ...]


class Verb(Enum):
    """What is asked of a store, whatever its protocol calls it."""

    PUT = "put"
    START = "start parts"
    PART = "part"
    COMPLETE = "complete parts"
    ABORT = "abort parts"
    READ = "read"
    STAT = "stat"
    LIST = "list"
    DELETE = "delete"


@dataclass(frozen=True)
class Dialect:
    """How a protocol says it.

    `error(status, code)` is an error in its own form. `verbs` are those that our store uses, `last` the one after which
    a large object is there, `documents` those whose answer is never empty. `second_page` is in the query of a listing
    from its second page on. `left_out` edits the answer to a deletion of several: one failed (None: each is deleted by
    a request of its own). `wrong_checksum` makes the answer to a part name another content (None: nobody relies on it).
    """

    verb: Callable[[Request], Verb | None]
    error: Callable[[int, str], tuple[bytes, Headers]]
    verbs: frozenset[Verb]
    last: Verb
    documents: frozenset[Verb]
    throttled: tuple[int, str]
    expired: tuple[int, str]
    conflict: tuple[int, str]
    second_page: str
    left_out: Callable[[bytes], bytes] | None = None
    wrong_checksum: Fault | None = None

    def refuse(self, status: int, code: str, *, headers: Headers = (), done: bool = False) -> Answer:
        body, own = self.error(status, code)
        return Answer(status, body, own + headers, done)

    def is_verb(self, verb: Verb) -> Callable[[Request], bool]:
        return lambda request: self.verb(request) is verb


def _query(request: Request) -> Mapping[str, list[str]]:
    return parse_qs(urlsplit(request.path).query, keep_blank_values=True)


def _verb_of_s3(request: Request) -> Verb | None:
    query = _query(request)
    has_key = urlsplit(request.path).path.strip("/").count("/") > 0
    verbs = {
        "PUT": Verb.PART if "partNumber" in query else Verb.PUT,
        "POST": Verb.START if "uploads" in query else Verb.COMPLETE if "uploadId" in query else Verb.DELETE,
        "DELETE": Verb.ABORT if "uploadId" in query else Verb.DELETE,
        "GET": Verb.READ if has_key else Verb.LIST,
        "HEAD": Verb.STAT,
    }
    return verbs.get(request.method)


def _error_of_s3(_: int, code: str) -> tuple[bytes, Headers]:
    body = f"<Error><Code>{code}</Code><Message>said by the line</Message></Error>".encode()
    return body, (("Content-Type", "application/xml"),)


def _failed_in_part(_: bytes) -> bytes:
    failure = "<Error><Key>one-of-them</Key><Code>InternalError</Code><Message>try again</Message></Error>"
    return f"<DeleteResult>{failure}</DeleteResult>".encode()


S3 = Dialect(
    _verb_of_s3,
    _error_of_s3,
    verbs=frozenset(Verb),
    last=Verb.COMPLETE,
    documents=frozenset({Verb.START, Verb.COMPLETE, Verb.DELETE, Verb.LIST}),
    throttled=(503, "SlowDown"),
    expired=(400, "ExpiredToken"),
    conflict=(409, "ConditionalRequestConflict"),
    second_page="continuation-token=",
    left_out=_failed_in_part,
    wrong_checksum=Header("ETag", '"0123456789abcdef0123456789abcdef"'),
)


def _verb_of_gcs(request: Request) -> Verb | None:
    query = _query(request)
    is_object = "/o/" in urlsplit(request.path).path
    if urlsplit(request.path).path.startswith(("/upload/", "/resumable/")):
        started = {"POST": Verb.START if query.get("uploadType") == ["resumable"] else Verb.PUT}
        return {**started, "PUT": Verb.PART, "DELETE": Verb.ABORT}.get(request.method)
    if request.method == "GET" and is_object:
        return Verb.READ if query.get("alt") == ["media"] else Verb.STAT
    return {"GET": Verb.LIST, "DELETE": Verb.DELETE}.get(request.method)


def _error_of_gcs(status: int, code: str) -> tuple[bytes, Headers]:
    error = {"code": status, "message": "said by the line", "errors": [{"reason": code}]}
    return json.dumps({"error": error}).encode(), (("Content-Type", "application/json"),)


def _other_checksum(answer: bytes) -> bytes:
    return json.dumps({**json.loads(answer), "crc32c": "AAAAAA=="}).encode()


GCS = Dialect(
    _verb_of_gcs,
    _error_of_gcs,
    verbs=frozenset(Verb) - {Verb.COMPLETE},
    last=Verb.PART,
    documents=frozenset({Verb.START, Verb.PART, Verb.LIST}),
    throttled=(429, "rateLimitExceeded"),
    expired=(401, "authError"),
    conflict=(409, "conflict"),
    second_page="pageToken=",
    wrong_checksum=Edit(_other_checksum),
)


def _verb_of_azure(request: Request) -> Verb | None:
    query = _query(request)
    operation = query.get("comp", [""])[0]
    verbs = {
        "PUT": {"block": Verb.PART, "blocklist": Verb.COMPLETE}.get(operation, Verb.PUT),
        "GET": Verb.LIST if operation == "list" else Verb.READ,
        "HEAD": Verb.STAT,
        "POST": Verb.DELETE,
        "DELETE": Verb.DELETE,
    }
    return verbs.get(request.method)


def _error_of_azure(_: int, code: str) -> tuple[bytes, Headers]:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>said by the line</Message></Error>'.encode()
    return body, (("Content-Type", "application/xml"), ("x-ms-error-code", code))


def _refused_in_part(answer: bytes) -> bytes:
    return re.sub(rb"HTTP/1\.1 \d+ [^\r]*", b"HTTP/1.1 500 Internal Server Error", answer, count=1)


AZURE = Dialect(
    _verb_of_azure,
    _error_of_azure,
    verbs=frozenset(Verb) - {Verb.START, Verb.ABORT},
    last=Verb.COMPLETE,
    documents=frozenset({Verb.DELETE, Verb.LIST}),
    throttled=(503, "ServerBusy"),
    expired=(401, "InvalidAuthenticationInfo"),
    conflict=(400, "InvalidBlobOrBlock"),
    second_page="marker=",
    left_out=_refused_in_part,
)

DIALECTS = {"s3": S3, "gcs": GCS, "azure": AZURE}
