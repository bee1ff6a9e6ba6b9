"""All kinds of data in one lab, backed up by us and by the server itself, and brought back in every way.

Inside a lab, whose servers' version and settings the starting test chooses; outside, only that test is collected.
"""

import os
from collections.abc import Iterator

import pytest
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.surroundings import surroundings
from e2e.dataset.kinds import kinds_dataset
from e2e.dataset.weaviate_http import Weaviate
from tests.kinds.ways_back import WaysBack
from tests.scenarios.world import World

_STARTER = "test_kinds_in_labs.py"
collect_ignore_glob = [_STARTER] if os.environ.get("LAB_DIR") else ["test_[!k]*.py"]


@pytest.fixture(scope="session")
def ways_back() -> Iterator[WaysBack]:
    lab = surroundings()
    weaviate = Weaviate(lab.weaviate_urls[0])
    weaviate.wait_until_synchronized(nodes=len(lab.weaviate_urls))
    asynchronous = os.environ.get("LAB_ASYNC_INDEXING") == "true"
    dataset = kinds_dataset(asynchronous=asynchronous, replicas=len(lab.weaviate_urls))
    world = World(lab, Kubectl(lab.namespace), weaviate, dataset)
    world.begin("kinds")
    yield WaysBack(world, asynchronous=asynchronous)
    world.tidy()
    assert world.left_overs() == []
