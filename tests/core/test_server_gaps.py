"""What the server's own engine forgets is warned about, by version, and only for collections that it can hit."""

from typing import Any

import pytest

from weaviate_backup.api.config import CompressionLevel
from weaviate_backup.core.server_gaps import gaps_of, refuse_level

PLAIN: dict[str, Any] = {"class": "Plain", "vectorIndexType": "hnsw"}
TENANTS: dict[str, Any] = {"class": "Tenants", "multiTenancyConfig": {"enabled": True}}
PLACES = {"class": "Places", "properties": [{"name": "at", "dataType": ["geoCoordinates"]}]}
GROWING = {"class": "Growing", "vectorConfig": {"a": {"vectorIndexType": "dynamic"}}}
FLAT: dict[str, Any] = {"class": "Flat", "vectorIndexType": "flat"}
ALL: list[dict[str, Any]] = [PLAIN, TENANTS, PLACES, GROWING, FLAT]


@pytest.mark.parametrize(
    ("version", "reasons"),
    [
        ("1.39.1", set()),
        ("1.40.0", set()),
        ("1.39.0", {"GeoIndexLeftOut"}),
        ("1.38.10", set()),
        ("1.38.9", {"GeoIndexLeftOut"}),
        ("1.37.14", {"GeoIndexLeftOut"}),
        ("1.37.9", {"GeoIndexLeftOut", "DynamicIndexLeftOut", "FlatIndexUnprotected"}),
        ("1.36.9", {"InactiveTenantsLeftOut", "GeoIndexLeftOut", "DynamicIndexLeftOut", "FlatIndexUnprotected"}),
        ("1.36.10", {"GeoIndexLeftOut", "DynamicIndexLeftOut", "FlatIndexUnprotected"}),
    ],
)
def test_by_version(version: str, reasons: set[str]) -> None:
    assert {each.reason for each in gaps_of(version, ALL, by_server=True)} == reasons


OPEN_UNTIL = [
    ("InactiveTenantsLeftOut", "Tenants", ("1.35.17", "1.36.10")),
    ("GeoIndexLeftOut", "Places", ("1.38.10", "1.39.1")),
    ("DynamicIndexLeftOut", "Growing", ("1.36.19", "1.37.10", "1.38.2")),
    ("FlatIndexUnprotected", "Flat, Growing", ("1.36.19", "1.37.10", "1.38.2")),
    ("QueuedVectorsLeftOut", "Flat, Growing, Places, Plain, Tenants", ("1.34.15", "1.35.8")),
]
"""Each gap, whom it hits of all kinds, and the first version without it of each release line."""


@pytest.mark.parametrize(("reason", "hit", "closed"), OPEN_UNTIL, ids=[each[0] for each in OPEN_UNTIL])
def test_a_gap_hits_the_classes_it_is_about_until_its_patch(reason: str, hit: str, closed: tuple[str, ...]) -> None:
    oldest, newest = closed[0].split("."), closed[-1].split(".")
    after, before = f"1.{int(newest[1]) + 1}.0", f"1.{int(oldest[1]) - 1}.99"
    assert reason not in {each.reason for each in gaps_of(after, ALL, by_server=True)}
    lasts = [".".join((*line, str(int(patch) - 1))) for *line, patch in (each.split(".") for each in closed)]
    for version in (before, *lasts):
        (warning,) = (each for each in gaps_of(version, ALL, by_server=True) if each.reason == reason)
        assert warning.message.endswith(f": {hit}")
    for version in closed:
        assert reason not in {each.reason for each in gaps_of(version, ALL, by_server=True)}


def test_a_long_list_is_cut_and_counted() -> None:
    many = [{**PLACES, "class": f"P{number}"} for number in range(9)]
    (warning,) = gaps_of("1.37.14", many, by_server=True)
    assert warning.message.endswith("P6, P7 and 1 more")
    (warning,) = gaps_of("1.37.14", many[:8], by_server=True)
    assert warning.message.endswith("P6, P7")


def test_only_what_can_be_hit_is_named() -> None:
    assert gaps_of("1.37.14", [PLAIN, TENANTS, FLAT], by_server=True) == ()
    (warning,) = gaps_of("1.37.14", ALL, by_server=True)
    assert warning.message.endswith("find nothing: Places")
    assert "QueuedVectorsLeftOut" in {each.reason for each in gaps_of("1.33.18", [PLAIN], by_server=True)}


@pytest.mark.parametrize(
    ("version", "named"), [("1.36.0", True), ("1.36.23", True), ("1.37.0", False), ("1.39.1", False)]
)
def test_places_that_agents_cannot_read(version: str, named: bool) -> None:
    found = gaps_of(version, ALL, by_server=False)
    assert [each.reason for each in found] == ["NewestPlacesLeftOut"] * named
    assert all(each.message.endswith("places in them: Places") for each in found)
    assert gaps_of(version, [PLAIN], by_server=False) == ()


@pytest.mark.parametrize(
    ("version", "level", "known"),
    [
        ("1.31.22", "ZstdBestSpeed", False),
        ("1.31.22", "BestSpeed", True),
        ("1.32.18", "ZstdBestSpeed", True),
        ("1.34.0", "NoCompression", False),
        ("1.34.1", "NoCompression", True),
        ("1.39.1", "ZstdBestCompression", True),
    ],
)
def test_levels_that_a_server_does_not_know(version: str, level: str, known: bool) -> None:
    refusal: Any = refuse_level(version, CompressionLevel(level))
    assert (refusal is None) == known
