"""What can go wrong on the way to a store, as values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Request:
    """`path` with its query, as it was sent; `headers` in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class Moment(Enum):
    """Of an exchange. BEFORE: the store has seen nothing. DONE: it has done all, and the answer is lost."""

    BEFORE = "before"
    SENDING = "sending"
    DONE = "done"
    RECEIVING = "receiving"


@dataclass(frozen=True)
class Answer:
    """An answer in the store's place. With `done` the store was asked and did it all the same."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    done: bool = False


@dataclass(frozen=True)
class HangUp:
    """The connection ends, by a reset or in good order, `after_bytes` of the body at SENDING or RECEIVING."""

    at: Moment
    after_bytes: int = 0
    reset: bool = True


@dataclass(frozen=True)
class Silence:
    """No byte for so long, then on as if nothing had been."""

    at: Moment
    seconds: float
    after_bytes: int = 0


@dataclass(frozen=True)
class Drip:
    """Both bodies pass slowly."""

    seconds_per_mib: float


@dataclass(frozen=True)
class Flip:
    """One bit of the body changes on the way."""

    at: Moment
    after_bytes: int


@dataclass(frozen=True)
class Header:
    """A header of the true answer says something else, or is missing."""

    name: str
    value: str | None


@dataclass(frozen=True)
class Headers:
    """Headers of the true answer, by name: what they say instead, whether they were there or not; None: missing."""

    said: Mapping[str, str | None]


@dataclass(frozen=True)
class Edit:
    """The body of the true answer says something else."""

    edit: Callable[[bytes], bytes]


Fault = Answer | HangUp | Silence | Drip | Flip | Header | Headers | Edit
