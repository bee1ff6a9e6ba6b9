"""Which tests a worker takes together, when the run has several: those that share servers.

A server that is started once for many tests would be started once per worker otherwise, and there can be only one lab.
The longest go first, so that no worker is left alone with them at the end, and those that need no server at all, but
time, go last, one by one.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

LAB = "lab"
_IN_A_LAB = ("lab", "scenarios", "kinds", "installation")
_LONGEST_FIRST = (LAB, "interop", "controller", "agent", "weaviate", "agent/test_access.py", "storage/test_faults.py")
_ALONE = "test_exploration"
_SERVERS_OF_THEIR_OWN = (
    "agent/test_access.py",
    "agent/test_changing_tenants.py",
    "agent/test_copies.py",
    "agent/test_killed_in_a_halt.py",
    "agent/test_offloaded_tenants.py",
    "agent/test_other_names.py",
    "storage/test_faults.py",
    "weaviate/test_cuts_under_writes.py",
    "weaviate/test_guarded_servers.py",
    "weaviate/test_pause_cuts.py",
    "weaviate/test_three_nodes.py",
)


def share_of(nodeid: str) -> str:
    """What a test belongs to: a folder of `tests`, a file with servers of its own, or itself alone."""
    path = PurePosixPath(nodeid.partition("::")[0]).relative_to("tests")
    if path.name.startswith(_ALONE):
        return nodeid
    if path.parts[0] in _IN_A_LAB:
        return LAB
    return str(path) if str(path) in _SERVERS_OF_THEIR_OWN else path.parts[0]


def order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The longest shares first; within them as they were collected."""
    places = {share: place for place, share in enumerate(_LONGEST_FIRST)}

    def place(item: pytest.Item) -> int:
        share = share_of(item.nodeid)
        return places.get(share, len(places) + (share == item.nodeid))

    return sorted(items, key=place)


class ByShare(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker a whole share."""

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)
