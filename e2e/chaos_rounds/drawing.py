"""What happens in a round: drawn from seed and number alone, so that any round can be repeated by itself. No I/O."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

BACKUP_PHASES = ("Pending", "Preparing", "Uploading", "Finalizing")
RESTORE_PHASES = ("Pending", "Validating", "Downloading", "Applying", "Verifying")
NODES = 3
STILL = ("Article", "Photo", "Note", "Draft", "Named")
"""Collections that nobody changes."""
CHANGING = ("Moving", "MovingTwice", "Visitors", "Passing")
"""Collections that are written: with one replica, with two, of tenants, and one that is deleted and made anew."""
BYTES_PER_SECOND = (0, 400_000, 1_000_000, 3_000_000)
UNPACKED = 8
"""So many times more bytes are sent without compression, and the line is as much faster: a round has its bounds."""
CHANGES = ("writes", "replicated writes", "tenants", "alias", "anew")


@dataclass(frozen=True)
class Kind:
    """A kind of fault: how often it is drawn beside the others, and how long it lasts at least and at most."""

    weight: float
    shortest_seconds: float = 0
    longest_seconds: float = 0
    target: str = ""
    """What is drawn as its target: `node`, `nodes` (two), or nothing."""


KINDS: Mapping[str, Kind] = {
    "operator killed": Kind(3),
    "operator away": Kind(1.5, 10, 40),
    "two operators": Kind(1, 5, 20),
    "operator frozen": Kind(1, 5, 40),
    "agent killed": Kind(4, target="node"),
    "agent pod deleted": Kind(2, target="node"),
    "agent frozen": Kind(1, 5, 45, "node"),
    "Weaviate killed": Kind(3, target="node"),
    "Weaviate pod deleted": Kind(1.5, target="node"),
    "Weaviate frozen": Kind(1, 3, 20, "node"),
    "kubelet killed": Kind(1, 3, 20, "node"),
    "node reset": Kind(1, 2, 10, "node"),
    "API server killed": Kind(1.5, 0, 15),
    "API server frozen": Kind(1, 3, 25),
    "store killed": Kind(2, 0, 20),
    "store frozen": Kind(1, 3, 25),
    "store answers 503": Kind(1.5, 2, 20),
    "store slow": Kind(1.5, 5, 20),
    "store cuts connections": Kind(1.5, 2, 20),
    "store silent": Kind(1, 3, 25),
    "network cut between nodes": Kind(1, 3, 25, "nodes"),
    "network cut to the control plane": Kind(1, 3, 30, "node"),
    "volume full": Kind(1, 2, 20, "node"),
    "canceled": Kind(0.6),
    "deleted": Kind(0.6),
}
"""`network cut to the control plane` cuts a node from API server, DNS and store at once."""
AT_THE_SERVER = frozenset({"Weaviate killed", "Weaviate pod deleted", "Weaviate frozen", "node reset", "volume full"})
"""Faults that the server itself has to survive."""


@dataclass(frozen=True)
class Strike:
    """One fault: so many seconds after the operation was first seen in this phase or a later one."""

    phase: str
    after_seconds: float
    kind: str
    lasts_seconds: float
    target: tuple[int, ...]
    """Ordinals of nodes."""

    def __str__(self) -> str:
        where = f" {'-'.join(map(str, self.target))}" if self.target else ""
        span = f" {self.lasts_seconds:.0f}s" if self.lasts_seconds else ""
        return f"{self.kind}{where}{span} @{self.phase}+{self.after_seconds:.1f}"


@dataclass(frozen=True)
class Round:
    """All that is decided before it begins."""

    seed: int
    number: int
    method: str
    include: tuple[str, ...]
    """Collections to back up; none: all."""
    chunk_mebibytes: int
    level: str
    bytes_per_second: int
    """Of the line to the store, so that a transfer takes a while; 0: as fast as it is."""
    changes: tuple[str, ...]
    before_seconds: float
    """How long the data changes before the backup begins."""
    by_server: bool
    """Stock Weaviate restores it."""
    backup_strikes: tuple[Strike, ...]
    restore_strikes: tuple[Strike, ...]

    @property
    def collections(self) -> tuple[str, ...]:
        return self.include or (*STILL, *CHANGING)


def draw(seed: int, number: int) -> Round:
    """The same round for the same two numbers, on every machine."""
    chance = random.Random(f"{seed}/{number}")
    method = "Server" if chance.random() < 0.12 else "Agent"
    include = _include(chance, method)
    changes = tuple(change for change in CHANGES if chance.random() < (0.12 if change == "anew" else 0.6))
    by_server = method == "Agent" and chance.random() < 0.12
    chunk_mebibytes = chance.choice((2, 2, 8, 128))
    level = chance.choice(("ZstdBestSpeed", "ZstdBestSpeed", "DefaultCompression", "NoCompression"))
    bytes_per_second = chance.choice(BYTES_PER_SECOND)
    return Round(
        seed=seed,
        number=number,
        method=method,
        include=include,
        chunk_mebibytes=chunk_mebibytes,
        level=level,
        bytes_per_second=bytes_per_second * UNPACKED if level == "NoCompression" else bytes_per_second,
        changes=changes,
        before_seconds=round(chance.uniform(0.5, 2.5), 1),
        by_server=by_server,
        backup_strikes=_strikes(chance, BACKUP_PHASES),
        restore_strikes=() if by_server else _strikes(chance, RESTORE_PHASES),
    )


def _include(chance: random.Random, method: str) -> tuple[str, ...]:
    """The server's own backup is asked for what nobody changes: what it makes of the rest is not ours to promise."""
    if method == "Server":
        return STILL
    if chance.random() < 0.7:
        return ()
    everything = (*STILL, *CHANGING)
    return tuple(sorted(chance.sample(everything, chance.randint(1, len(everything) - 1)), key=everything.index))


def _strikes(chance: random.Random, phases: tuple[str, ...]) -> tuple[Strike, ...]:
    number = chance.choices((0, 1, 2, 3), (1, 5, 3, 1))[0]
    strikes = [_strike(chance, phases) for _ in range(number)]
    return tuple(sorted(strikes, key=lambda strike: (phases.index(strike.phase), strike.after_seconds)))


def _strike(chance: random.Random, phases: tuple[str, ...]) -> Strike:
    name = chance.choices([*KINDS], [kind.weight for kind in KINDS.values()])[0]
    kind = KINDS[name]
    wanted = {"node": 1, "nodes": 2}.get(kind.target, 0)
    return Strike(
        phase=chance.choice(phases),
        after_seconds=round(chance.uniform(0, 2.5), 1),
        kind=name,
        lasts_seconds=round(chance.uniform(kind.shortest_seconds, kind.longest_seconds), 1),
        target=tuple(sorted(chance.sample(range(NODES), wanted))),
    )
