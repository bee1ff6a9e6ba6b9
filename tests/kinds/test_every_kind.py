"""Every kind of data comes back as it was: by us, by stock Weaviate from our backup, and by us from the server's.

Each test is a cell of the table *servers x kinds of data*; what the server's own backup loses is a cell, too.
"""

import pytest
from e2e.dataset.kinds import TITLES
from tests.kinds.ways_back import Way, WaysBack

from weaviate_backup.core.server_gaps import gaps_of

pytestmark = pytest.mark.lab
GEO = ("Replicated", "Flat", "FlatBinary", "Hnsw")
WITH_PLACE = {"class": "Any", "properties": [{"name": "place", "dataType": ["geoCoordinates"]}]}


def _skip_absent(ways_back: WaysBack, collection: str) -> None:
    if collection not in {shape.name for shape in ways_back.world.dataset.shapes}:
        pytest.skip(f"{TITLES[collection]}: exists only where servers index asynchronously")


def _not_warned_of(ways_back: WaysBack, way: Way, collection: str) -> list[str]:
    """Differences but for filters by place, where the status of the backup said that they may differ."""
    lost = ways_back.differences(way, collection)
    return [line for line in lost if not (ways_back.warned and " near " in line)]


@pytest.mark.parametrize("collection", TITLES)
@pytest.mark.parametrize("way", [Way.OURS, Way.OURS_BY_SERVER])
def test_what_we_backed_up_comes_back_as_it_was(ways_back: WaysBack, way: Way, collection: str) -> None:
    _skip_absent(ways_back, collection)
    assert _not_warned_of(ways_back, way, collection) == []


def test_the_status_warns_of_places_on_servers_that_keep_the_newest_in_memory_and_of_nothing_else(
    ways_back: WaysBack,
) -> None:
    assert ways_back.warned == {gap.reason for gap in gaps_of(ways_back.version, [WITH_PLACE], by_server=False)}


def test_inactive_tenants_had_data_in_logs_only(ways_back: WaysBack) -> None:
    """Otherwise the cells of that name would say nothing."""
    files = {name: found for name, found in ways_back.inactive_files.items() if name.startswith("TenantsInLogs/")}
    assert len(files) == 4
    assert all(found and all(name.endswith(".wal") for name in found) for found in files.values()), files


@pytest.mark.parametrize("collection", GEO)
def test_geo_filters_answer_after_our_backup_and_not_after_one_that_forgot_their_logs(
    ways_back: WaysBack, collection: str
) -> None:
    """Both say that they succeeded. Which servers forget is told by what warns of method Server."""
    assert _not_warned_of(ways_back, Way.OURS, collection) == []
    assert _not_warned_of(ways_back, Way.OURS_BY_SERVER, collection) == []
    lost = ways_back.differences(Way.SERVERS, collection)
    if "GeoIndexLeftOut" in {gap.reason for gap in gaps_of(ways_back.version, [WITH_PLACE], by_server=True)}:
        assert lost
        assert all(" near " in line and "is 0 results" in line for line in lost), lost
    else:
        assert lost == []
