"""What a backup lacks because of the server's version: by Weaviate's own engine, and by agents. Pure; two tables.

A gap is closed from a patch of each release line on; a line that is not named has it if it is older than the newest
named line, and does not have it if it is newer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weaviate_backup.api.config import CompressionLevel
from weaviate_backup.core.orders import conflict
from weaviate_backup.core.session import Failure
from weaviate_backup.layout.versions import minor_key, version_key

Class = Mapping[str, Any]
Lines = Mapping[tuple[int, int], int]
NAMES_SHOWN = 8
LEVELS_SINCE: Lines = {(1, 32): 18, (1, 33): 6, (1, 34): 1}
GZIP = frozenset({CompressionLevel.DEFAULT_COMPRESSION, CompressionLevel.BEST_SPEED, CompressionLevel.BEST_COMPRESSION})


@dataclass(frozen=True)
class Gap:
    """`closed`: release line → first patch without it. `concerns`: whether a class can be hit."""

    reason: str
    closed: Lines
    concerns: Callable[[Class], bool]
    message: str


def knows(version: str, since: Lines) -> bool:
    """Whether a server has what its line got with a patch."""
    line = minor_key(version)
    if line in since:
        return version_key(version) >= (*line, since[line])
    return line > max(since)


def open_gaps(version: str, *, by_server: bool) -> tuple[Gap, ...]:
    """Those that a backup of some class on that server has."""
    return tuple(gap for gap in (GAPS if by_server else GAPS_OF_AGENTS) if not knows(version, gap.closed))


def gaps_of(version: str, classes: Iterable[Class], *, by_server: bool) -> tuple[Failure, ...]:
    """What a backup of these classes on that server may lack, for a person."""
    known, found = list(classes), []
    for gap in open_gaps(version, by_server=by_server):
        hit = sorted(str(each.get("class")) for each in known if gap.concerns(each))
        if hit:
            more = f" and {len(hit) - NAMES_SHOWN} more" if len(hit) > NAMES_SHOWN else ""
            names = ", ".join(hit[:NAMES_SHOWN]) + more
            found.append(conflict(gap.reason, f"Weaviate {version} {gap.message}: {names}"))
    return tuple(found)


def refuse_level(version: str, level: CompressionLevel) -> Failure | None:
    if level in GZIP or knows(version, LEVELS_SINCE):
        return None
    message = f"config.compressionLevel is {level}, which Weaviate {version} does not know; use DefaultCompression"
    return conflict("CompressionLevelUnsupported", f"{message}, BestSpeed or BestCompression")


def _index_types(each: Class) -> Iterator[str]:
    yield str(each.get("vectorIndexType", ""))
    for named in (each.get("vectorConfig") or {}).values():
        yield str(named.get("vectorIndexType", ""))


def _is_multi_tenant(each: Class) -> bool:
    return bool((each.get("multiTenancyConfig") or {}).get("enabled"))


def _has_geo(each: Class) -> bool:
    return any("geoCoordinates" in (entry.get("dataType") or ()) for entry in each.get("properties") or ())


def _is_dynamic(each: Class) -> bool:
    return "dynamic" in _index_types(each)


def _is_flat(each: Class) -> bool:
    return not {"flat", "dynamic"}.isdisjoint(_index_types(each))


def _any(_: Class) -> bool:
    return True


GAPS = (
    Gap(
        "InactiveTenantsLeftOut",
        {(1, 35): 17, (1, 36): 10},
        _is_multi_tenant,
        "leaves inactive tenants out of its own backups; activate them first",
    ),
    Gap(
        "GeoIndexLeftOut",
        {(1, 38): 10, (1, 39): 1},
        _has_geo,
        "leaves indexes of geoCoordinates out of its own backups; after a restore their filters find nothing",
    ),
    Gap(
        "DynamicIndexLeftOut",
        {(1, 36): 19, (1, 37): 10, (1, 38): 2},
        _is_dynamic,
        "leaves the state of dynamic indexes out of its own backups; after a restore vector searches may find nothing",
    ),
    Gap(
        "FlatIndexUnprotected",
        {(1, 36): 19, (1, 37): 10, (1, 38): 2},
        _is_flat,
        "reads the state of flat indexes while it changes, so that a copy may be torn",
    ),
    Gap(
        "QueuedVectorsLeftOut",
        {(1, 34): 15, (1, 35): 8},
        _any,
        "leaves vectors that wait to be indexed (ASYNC_INDEXING) out of its own backups",
    ),
)
GAPS_OF_AGENTS = (
    Gap(
        "NewestPlacesLeftOut",
        {(1, 37): 0},
        _has_geo,
        "keeps the newest 32 KiB of an index of geoCoordinates in memory until it is stopped; after a restore their "
        "filters may not find the places in them",
    ),
)
