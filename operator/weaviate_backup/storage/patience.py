"""How long and how often a store is waited for: one value for every kind of store."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """`read_seconds`: without a byte for so long, a connection is given up. Waits between attempts grow from
    `first_wait_seconds` to `longest_wait_seconds`, at random, unless the store says how long.

    A check begins no attempt after `check_seconds`, waits `connect_seconds` for a connection and `check_read_seconds`
    for an answer: it tells soon that a store is out of reach, and outlasts a short stumble.

    An identity that a new process does not have is waited for until it is `identity_seconds` old: Google says that
    metadata can be out of reach in a pod's first seconds, and who hands out roles on a new node starts within a minute.
    """

    connect_seconds: float = 5
    read_seconds: float = 60
    attempts: int = 6
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 20
    check_seconds: float = 10
    check_read_seconds: float = 10
    identity_seconds: float = 75


USUAL = Patience()
