"""What became of each shard of a backup, as the journal's last word of it says.

A node may have a hundred thousand tenants: little is held of each, and its record is read again where all of it is
asked for.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weaviate_backup.agent.expansion import TenantStatus
from weaviate_backup.agent.journal import GONE, OFFLOADED, SHARD, THAWED, Journal, Record
from weaviate_backup.weaviate.inactive_tenants import DRIVER as INACTIVE_DRIVER


@dataclass(frozen=True, slots=True)
class Fate:
    """Of one shard. `kind`: `SHARD` when it is frozen, `GONE` or `OFFLOADED` when it was before its cut; `number`: of
    its record in the journal. The rest is of what is frozen."""

    kind: str
    number: int
    driver: str = ""
    files: int = 0
    size_bytes: int = 0
    halt_seconds: float = 0.0

    @property
    def is_frozen(self) -> bool:
        return self.kind == SHARD

    @property
    def status(self) -> TenantStatus | None:
        """Of a tenant when it was cut; None of one that was gone by then."""
        if self.kind == OFFLOADED:
            return TenantStatus.OFFLOADED
        if not self.is_frozen:
            return None
        return TenantStatus.INACTIVE if self.driver == INACTIVE_DRIVER else TenantStatus.ACTIVE


Fates = Mapping[str, Mapping[str, Fate]]
"""collection -> shard -> what became of it. Sorted."""


def fates(journal: Journal) -> Fates:
    """Of every shard that the journal knows to be frozen, gone or offloaded, since it was thawed."""
    last: dict[str, dict[str, Fate]] = {}
    for number, record in journal.numbered(SHARD, GONE, OFFLOADED, THAWED):
        if record["kind"] == THAWED:
            last.clear()
        else:
            last.setdefault(record["collection"], {})[record["shard"]] = _fate_of(number, record)
    return {collection: dict(sorted(of.items())) for collection, of in sorted(last.items())}


def _fate_of(number: int, record: Record) -> Fate:
    kind = sys.intern(record["kind"])
    if kind != SHARD:
        return Fate(kind, number)
    driver = sys.intern(record["driver"])
    return Fate(kind, number, driver, record["files"], record["bytes"], record["halt_seconds"])


def frozen_of(found: Fates) -> Fates:
    """Those that are frozen, of every collection."""
    return {
        collection: {shard: fate for shard, fate in of.items() if fate.is_frozen} for collection, of in found.items()
    }


def records_of(journal: Journal, found: Fates) -> Iterator[Record]:
    """All that is known of each."""
    return (journal.at(fate.number) for of in found.values() for fate in of.values())
