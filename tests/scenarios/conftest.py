"""Scenarios run inside one lab, in one process; outside of it only the test that starts them is collected.

`world` is the loaded cluster. Whatever a scenario does, afterwards its objects are deleted and nothing of an operation
may be left on a volume, in the cluster or in memory: that is checked after every one of them.
"""

import os
from collections.abc import Iterator

import pytest
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.surroundings import surroundings
from e2e.dataset.shapes import small_dataset
from e2e.dataset.weaviate_http import Weaviate
from tests.scenarios.world import World

_STARTER = "test_all_scenarios_in_a_lab.py"
collect_ignore_glob = [_STARTER] if os.environ.get("LAB_DIR") else ["test_[!a]*.py", "test_a[!l]*.py"]


@pytest.fixture(scope="session")
def _world() -> World:
    lab = surroundings()
    weaviate = Weaviate(lab.weaviate_urls[0])
    weaviate.wait_until_synchronized(nodes=len(lab.weaviate_urls))
    return World(lab, Kubectl(lab.namespace), weaviate, small_dataset(objects=4500, replicas=len(lab.weaviate_urls)))


@pytest.fixture
def world(_world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    _world.begin(request.node.name)
    yield _world
    _world.tidy()
    assert _world.left_overs() == []
