"""Faults at random, the same ones for the same seed whatever order requests come in."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

from tests.storage.dialects import S3, Verb
from tests.storage.faults import Drip, Fault, Flip, HangUp, Moment, Request, Silence

ANYWHERE: tuple[Fault, ...] = (
    HangUp(Moment.BEFORE),
    HangUp(Moment.BEFORE, reset=False),
    HangUp(Moment.DONE),
    Silence(Moment.BEFORE, 0.5),
    Drip(0.03),
    S3.refuse(500, "InternalError"),
    S3.refuse(500, "InternalError", done=True),
    S3.refuse(503, "SlowDown", headers=(("Retry-After", "0"),)),
    S3.refuse(429, "TooManyRequests"),
    S3.refuse(400, "ExpiredToken"),
)
SENDING: tuple[Fault, ...] = (HangUp(Moment.SENDING, 100), Silence(Moment.SENDING, 0.5, 10), Flip(Moment.SENDING, 33))
RECEIVING: tuple[Fault, ...] = (HangUp(Moment.RECEIVING, 70), HangUp(Moment.RECEIVING, 50, reset=False))
HONEST: Mapping[Verb, tuple[Fault, ...]] = {
    **dict.fromkeys(Verb, ANYWHERE),
    Verb.PUT: ANYWHERE + SENDING,
    Verb.PART: ANYWHERE + SENDING,
    Verb.COMPLETE: (*ANYWHERE, S3.refuse(200, "InternalError"), S3.refuse(200, "InternalError", done=True)),
    Verb.READ: ANYWHERE + RECEIVING,
    Verb.LIST: ANYWHERE + RECEIVING,
}
"""What a store or the way to it may do; all of it passes."""
LYING: Mapping[Verb, tuple[Fault, ...]] = {
    **HONEST,
    Verb.READ: (
        *HONEST[Verb.READ],
        *[Flip(Moment.RECEIVING, at) for at in (20, 400, 60_000)],
        S3.refuse(404, "NoSuchKey"),
    ),
    Verb.STAT: (*ANYWHERE, S3.refuse(404, "NoSuchKey")),
}
"""And what it never must: other bytes than were stored, nothing where there is something."""


@dataclass
class Mix:
    """A share of all requests fails, each in one of the ways of its verb."""

    seed: str
    share: float
    faults: Mapping[Verb, Sequence[Fault]]
    seen: Counter[str] = field(default_factory=Counter)

    def __call__(self, request: Request) -> Fault | None:
        verb = S3.verb(request)
        what = f"{verb} {urlsplit(request.path).path}"
        self.seen[what] += 1
        random = Random(f"{self.seed} {what} {self.seen[what]}")
        return random.choice(self.faults[verb]) if verb and random.random() < self.share else None
