"""The node of an agent is lost to the operator, not to the store: its upload ends while a new agent's is completed.

Its volume is elsewhere by then, or its file system locks nothing between machines, so that no lock keeps the two apart.
"""

import itertools
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.agent.hand_frozen import COLLECTION, Node
from tests.agent.racing import Race, opened
from tests.agent.turns import Program, switching_at, take_turns

from weaviate_backup.agent.commit import _commit
from weaviate_backup.agent.freeze import take_place
from weaviate_backup.agent.upload import _upload
from weaviate_backup.agent.verify import _verify
from weaviate_backup.layout import keys
from weaviate_backup.stored.meter import Meter

ORDERS = 60
MOST_CALLS = 60
"""Of either to the store."""


def uploaded(node: Node) -> dict[str, str]:
    with opened(node) as workspace:
        take_place(workspace)
        _upload(workspace, (COLLECTION,), Meter())
        return {node.name: _verify(workspace, node.name, Meter()).manifest_sha256}


def other_kernels(node: Node) -> Node:
    """What another machine has of the volume."""
    old = replace(node, base=node.base.with_name("old"))
    shutil.copytree(node.base, old.base)
    return old


def test_it_spoils_nothing_in_whatever_order_they_come(tmp_path: Path) -> None:
    ends = Counter[tuple[str, ...]]()
    for moments in random.Random(3).sample(list(itertools.combinations(range(1, MOST_CALLS), 2)), ORDERS):
        race = Race(tmp_path)
        node = race.nodes[0]
        old = other_kernels(node)
        verified = uploaded(node)

        def committing(program: Program, node: Node = node, verified: dict[str, str] = verified) -> None:
            with opened(node, program, beside=True) as workspace:
                _commit(workspace, verified, Meter())

        def uploading(program: Program, old: Node = old) -> None:
            with opened(old, program) as workspace:
                _upload(workspace, (COLLECTION,), Meter())

        programs = [Program(committing), Program(uploading)]
        take_turns(programs, switching_at(moments, first=1, programs=2))
        ends[tuple(getattr(each.error, "reason", str(each.error)) for each in programs)] += 1
        race.refuse_less_than_whole(0)
    assert ends == {("None", "None"): ORDERS}


def test_what_is_stored_of_one_journal_is_the_same_whoever_stores_it(tmp_path: Path) -> None:
    race = Race(tmp_path)
    node = race.nodes[0]
    old = other_kernels(node)
    verified = uploaded(node)
    documents = {keys.node_manifest(race.backup_id, node.name), keys.node_descriptor(race.backup_id, node.name)}
    before = {key: (node.store / key).stat().st_ino for key in documents}
    assert uploaded(old) == verified
    assert {key: (node.store / key).stat().st_ino for key in documents} == before, "nothing was replaced"
