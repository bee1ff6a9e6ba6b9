"""Who restores whose backups: Weaviate ours, we Weaviate's, from version to version, in every compression.

Each cell restores a backup of three nodes onto an empty cluster and compares all that a user can see: every object with
its vector, counts, searches by vector and by word, filters, places, aliases, tenants and their states, named vectors.
"""

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from e2e.dataset.comparison import compare
from e2e.dataset.observation import Observation
from tests.agent.surroundings import Surroundings, nothing_left
from tests.interop.driving import our_restore, stock_restore
from tests.interop.releases import Release
from tests.whole_manifest import decode_node_manifest

from weaviate_backup.layout.descriptors import ShardDescriptor, parse_node_descriptor

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]


class Cell(NamedTuple):
    """A backup by its name in `Release.seen`, where it was made, and where it is restored."""

    backup: str
    made_on: str
    restored_on: str


STOCK_RESTORES = [
    Cell("ours-gzip", "new", "new"),
    Cell("ours-zstd", "new", "new"),
    Cell("ours-none", "new", "new"),
    Cell("ours-split", "new", "new"),
    Cell("ours-gzip", "new", "old"),
    Cell("ours-zstd", "new", "old"),
    Cell("ours-none", "new", "old"),
    Cell("ours-split", "new", "old"),
    Cell("ours-zstd", "old", "old"),
    Cell("ours-split", "old", "old"),
    Cell("ours-zstd", "old", "new"),
]
WE_RESTORE = [
    Cell("stock-gzip", "new", "new"),
    Cell("stock-none", "new", "new"),
    Cell("stock-chain-2", "new", "new"),
    Cell("ours-split", "new", "new"),
    Cell("stock-gzip", "old", "old"),
    Cell("stock-chain-2", "old", "old"),
    Cell("stock-none", "old", "new"),
    Cell("stock-chain-2", "old", "new"),
    Cell("ours-zstd", "old", "old"),
    Cell("ours-zstd", "old", "new"),
    Cell("ours-split", "old", "new"),
]
REFUSED = [Cell("stock-chain-2", "new", "old"), Cell("ours-zstd", "new", "old")]


def shards_of(store: Surroundings, backup_id: str) -> Iterator[ShardDescriptor]:
    """Of every node's descriptor."""
    for path in sorted((store.objects / backup_id).glob("*/backup.json")):
        for each in parse_node_descriptor(path.read_bytes(), key=path.parent.name).classes:
            yield from each.shards


@pytest.mark.parametrize("name", ["new", "old"])
async def test_the_backups_are_what_the_cells_say(name: str, new: Release, old: Release, store: Surroundings) -> None:
    """Small data was really split and left to bases: a restore of anything simpler would prove nothing."""
    made = {"new": new, "old": old}[name]
    for backup in ("stock-gzip", "stock-zstd", "stock-none"):
        big = [each for shard in shards_of(store, made.id_of(backup)) for each in shard.big_files.values()]
        assert any(len(each.chunk_keys) == 1 for each in big), "no file alone in its chunk"
        assert any(len(each.chunk_keys) > 1 for each in big), "no file is split"
    chain = list(shards_of(store, made.id_of("stock-chain-2")))
    bases = {base for shard in chain for base in shard.incremental.files_per_backup}
    assert bases == {made.id_of("stock-zstd"), made.id_of("stock-chain-1")}
    assert any(
        len(each.chunk_keys) > 1
        for shard in chain
        for per in shard.incremental.files_per_backup.values()
        for each in per
    )
    for split in (backup for backup in made.seen if backup == "ours-split"):
        keys = sorted((store.objects / made.id_of(split)).glob("*/manifest.json.zst"))
        lines = [line for key in keys for line in decode_node_manifest(key.read_bytes(), key=key.name).chunks]
        assert any(offset for line in lines for _, offset, _, _ in line.files), "no file is split"
        shared = [{path.split("/")[1] for path, *_ in line.files} for line in lines if line.collection == "Note"]
        assert any(len(tenants) > 1 for tenants in shared), "no tenants share a chunk"


@pytest.mark.parametrize("cell", STOCK_RESTORES, ids="-".join)
async def test_weaviate_restores_ours(cell: Cell, new: Release, old: Release) -> None:
    made, target = {"new": new, "old": old}[cell.made_on], {"new": new, "old": old}[cell.restored_on]
    await target.empty()
    await stock_restore(target.cluster, made.id_of(cell.backup))
    await assert_same(made, target, cell.backup)


@pytest.mark.parametrize("cell", WE_RESTORE, ids="-".join)
async def test_we_restore(cell: Cell, new: Release, old: Release, store: Surroundings, tmp_path: Path) -> None:
    made, target = {"new": new, "old": old}[cell.made_on], {"new": new, "old": old}[cell.restored_on]
    await target.empty()
    verdict = await our_restore(tmp_path, target.cluster, store, made.id_of(cell.backup), version=target.version)
    assert verdict.refusals == ()
    warned = {each.reason for each in verdict.warnings}
    assert warned == ({"NotVerifiable"} if cell.backup.startswith("stock") else set())
    await assert_same(made, target, cell.backup)
    assert nothing_left(target.cluster)


async def assert_same(made: Release, target: Release, backup: str) -> None:
    """What is seen now on the target is what was seen when the backup was made."""
    before = made.seen[backup]
    after = await target.see(before.dataset)
    left, right = before.observation, after.observation
    if made.version != target.version:
        left, right = without_changed_defaults(left), without_changed_defaults(right)
    if backup.startswith("stock") and made.version.startswith("1.37"):
        left, right = without_places(left), without_places(right)
    assert compare(left, right) == []
    assert after.posters == before.posters


def without_changed_defaults(seen: Observation) -> Observation:
    """Replication repairs itself by default since 1.38 or 1.39; each server shows its own default, stored or not."""
    definitions = copy.deepcopy(dict(seen.definitions))
    for each in definitions.values():
        each["replicationConfig"].pop("asyncEnabled")
    return dataclasses.replace(seen, definitions=definitions)


def without_places(seen: Observation) -> Observation:
    """Servers before 1.38.10 leave the index of places out of their own backups, so nobody can bring it back."""
    kept = {key: ids for key, ids in seen.selections.items() if ": near " not in key}
    return dataclasses.replace(seen, selections=kept)


@pytest.mark.parametrize("cell", REFUSED, ids="-".join)
async def test_a_newer_releases_backup_is_refused_before_anything_is_written(
    cell: Cell, new: Release, old: Release, store: Surroundings, tmp_path: Path
) -> None:
    await old.empty()
    there = {path.name for node in old.cluster.nodes for path in node.data_path.iterdir()}
    verdict = await our_restore(tmp_path, old.cluster, store, new.id_of(cell.backup), version=old.version)
    assert [each.reason for each in verdict.refusals] == ["VersionTooOld"]
    assert "made by Weaviate 1.39.1, the target runs 1.37.14" in verdict.refusals[0].message
    assert {path.name for node in old.cluster.nodes for path in node.data_path.iterdir()} <= there
    assert nothing_left(old.cluster)
