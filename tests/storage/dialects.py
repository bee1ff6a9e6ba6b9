"""How the protocol of each kind of store says what: which verb a request is, and how a store refuses it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qs, urlsplit

from tests.storage.faults import Answer, Request

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
    """`refusal(status, code)` is an error in the protocol's own form; `expired` is a token that ran out."""

    verb: Callable[[Request], Verb | None]
    error: Callable[[int, str], tuple[bytes, Headers]]
    throttled: tuple[int, str]
    expired: tuple[int, str]
    second_page: str
    """What the query of a listing holds from its second page on."""
    left_out: Callable[[bytes], bytes] | None = None
    """Edits the answer to a deletion of several: one of them failed. None: each is deleted by a request of its own."""

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
    throttled=(503, "SlowDown"),
    expired=(400, "ExpiredToken"),
    second_page="continuation-token=",
    left_out=_failed_in_part,
)
