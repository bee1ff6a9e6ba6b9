"""What a reader says of a stored backup: one document spoiled at a time, and all that a restore takes from it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agent.foreign_backup import COLLECTION, ForeignBackup, chain, shard_of
from tests.stored.conftest import BIG
from tests.stored.own_backup import UID, own_backup

from weaviate_backup.errors import Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.descriptors import ClassDescriptor
from weaviate_backup.stored.backup_reading import BackupReader, aliases_of, is_own_manifest
from weaviate_backup.weaviate.late_writes import LATE_WRITES

Change = Callable[[dict[str, Any]], object]


def reader_of(backup: ForeignBackup) -> BackupReader:
    return BackupReader(backup.store, backup.backup_id)


def packed(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def of_collection(**changes: object) -> Change:
    return lambda document: document["classes"][0].update(changes)


@pytest.fixture
def stock(tmp_path: Path) -> ForeignBackup:
    return ForeignBackup(tmp_path / "stock", "nightly", files=BIG).write()


def test_what_is_read_twice_must_be_the_same(own: ForeignBackup) -> None:
    reader = reader_of(own)
    list(reader.chunk_lines("n1"))
    own.put_bytes("n1/manifest.json.zst", b"another")
    with pytest.raises(Permanent, match=r"BackupChanged: nightly/n1/manifest.json.zst changed while it was read"):
        list(reader.chunk_lines("n1"))


def test_a_descriptor_is_believed_as_far_as_its_nodes_manifest_names_its_hash(own: ForeignBackup) -> None:
    assert reader_of(own).descriptor("n1").collection(COLLECTION) is not None
    own.change("n1/backup.json", lambda document: document.update(error="none"))
    with pytest.raises(Permanent, match=r"BackupDamaged: nightly/n1/backup.json is not what was written"):
        reader_of(own).descriptor("n1")


def test_a_manifest_that_is_gone_is_a_damage(own: ForeignBackup) -> None:
    own.remove("n1/manifest.json.zst")
    with pytest.raises(Permanent, match=r"BackupDamaged: nightly/n1/manifest\.json\.zst is missing"):
        reader_of(own).contents("n1")


def test_a_node_that_the_manifest_does_not_name_is_none_of_it(own: ForeignBackup) -> None:
    with pytest.raises(Permanent, match=r"BackupIncomplete: .*has no node n7"):
        reader_of(own).contents("n7")


def test_a_manifest_of_another_backup_is_not_this_ones(own: ForeignBackup) -> None:
    own.change("manifest.json", lambda document: document.update(backup_id="weekly"))
    with pytest.raises(Permanent, match=r"BackupIdMismatch: .*'weekly'; it was moved"):
        reader_of(own).manifest  # noqa: B018 (read when it is asked for)


def test_bases_are_read_from_the_newest_on(tmp_path: Path) -> None:
    newest = chain(tmp_path)
    assert [each.backup_id for each in reader_of(newest).bases] == ["b2", "b1"]
    for base in ("b2", "b1"):
        (tmp_path / base / "backup_config.json").rename(tmp_path / "aside")
        with pytest.raises(Permanent, match=f"BaseMissing: backup 'b3' builds on '{base}', which is not in this"):
            reader_of(newest).bases  # noqa: B018
        (tmp_path / "aside").rename(tmp_path / base / "backup_config.json")
    (tmp_path / "b2" / "backup_config.json").write_bytes(b"{}")
    with pytest.raises(Permanent, match=r"HostileBackup: b2/backup_config.json"):
        reader_of(newest).bases  # noqa: B018


def test_bases_that_build_on_one_another_are_refused(tmp_path: Path) -> None:
    newest = chain(tmp_path)
    ForeignBackup(tmp_path, "b1").change("backup_config.json", lambda marker: marker.update(baseBackupId="b2"))
    with pytest.raises(Permanent, match="BaseUnusable: backup 'b3' builds on 'b2', which builds on it"):
        reader_of(newest).bases  # noqa: B018


def test_one_hash_stands_for_a_servers_backup_and_all_it_builds_on(tmp_path: Path) -> None:
    newest = chain(tmp_path)
    before = reader_of(newest).sha256
    assert reader_of(newest).sha256 == before
    for backup_id, name in (("b3", "n1/backup.json"), ("b1", "n0/backup.json"), ("b1", "backup_config.json")):
        path = tmp_path / backup_id / name
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"error": ""', b'"error":  ""', 1))
        assert reader_of(newest).sha256 != before, f"{path} is not in it"
        path.write_bytes(content)
    (tmp_path / "b1" / "n1" / "backup.json").unlink()
    assert reader_of(newest).sha256 != before, "a node that joined later is not in the base, and that is said, too"


def test_the_leader_is_named_or_the_first_that_describes_everything(stock: ForeignBackup) -> None:
    assert reader_of(stock).leader == "n0"
    stock.change("backup_config.json", lambda marker: marker.update(leader="n1"))
    assert reader_of(stock).leader == "n1"
    stock.change("backup_config.json", lambda marker: marker.update(leader=""))
    assert reader_of(stock).leader == "n0"
    stock.change("n0/backup.json", lambda document: document.update(classes=[]))
    assert reader_of(stock).leader == "n1"
    stock.change("n1/backup.json", lambda document: document.update(classes=[]))
    assert reader_of(stock).leader == "n0"
    stock.change("backup_config.json", lambda marker: marker.update(nodes={}))
    assert reader_of(stock).leader == ""


def test_a_collection_is_as_the_leaders_descriptor_has_it(stock: ForeignBackup) -> None:
    found = reader_of(stock).restored_class(COLLECTION)
    assert (found.name, found.class_json, found.aliases) == (COLLECTION, {"class": COLLECTION}, ("News",))
    assert set(found.state["physical"]) == {"s0", "s1"}
    with pytest.raises(Permanent, match=r"CollectionNotFound: .*no collection 'Other'"):
        reader_of(stock).restored_class("Other")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shardingState": packed([])}, "the sharding state of Article is no JSON object"),
        ({"schema": packed("x")}, "the schema of Article is no JSON object"),
        ({"shardingState": packed({"physical": {"../x": {}}})}, "the sharding state of Article: '../x' is no name"),
        ({"aliases": packed([{"class": "Article"}])}, "the aliases of Article are no list of aliases"),
        ({"aliases": packed([{"alias": "a/b"}])}, "the aliases of Article are no list of aliases"),
        ({"aliases": packed({"alias": "News"})}, "the aliases of Article are no list of aliases"),
    ],
)
def test_a_collection_of_another_form_is_refused(stock: ForeignBackup, changes: dict[str, object], said: str) -> None:
    stock.change("n0/backup.json", of_collection(**changes))
    with pytest.raises(Permanent, match=f"HostileBackup: {said}"):
        reader_of(stock).restored_class(COLLECTION)


TENANTS = {
    "partitioningEnabled": True,
    "physical": {
        "s0": {"belongsToNodes": ["n0"], "status": "COLD"},
        "s1": {"belongsToNodes": ["n1"], "status": "COLD"},
        "deleted": {"belongsToNodes": ["n0", "n1"], "status": "HOT"},
    },
}


def with_tenants(backup: ForeignBackup) -> None:
    """One tenant per node; the one on n1 was written to while it was cut."""
    for node in ("n0", "n1"):
        written = [f"{COLLECTION.lower()}/{shard_of(node)}/{LATE_WRITES}"] if node == "n1" else [f"{LATE_WRITES}/x"]
        backup.change(f"{node}/backup.json", of_collection(shardingState=packed(TENANTS)))
        shards = [{"name": shard_of(node), "node": node, "files": written}]
        backup.change(f"{node}/backup.json", of_collection(shards=shards))


def test_tenants_of_our_own_backups_are_those_that_a_node_holds(tmp_path: Path) -> None:
    backup = own_backup(tmp_path, "nightly", files={}, change=with_tenants)
    state = reader_of(backup).restored_class(COLLECTION).state
    assert {name: shard["status"] for name, shard in state["physical"].items()} == {"s0": "COLD", "s1": "HOT"}


def test_a_servers_tenants_stay_as_its_state_has_them(stock: ForeignBackup) -> None:
    with_tenants(stock)
    assert reader_of(stock).restored_class(COLLECTION).state == TENANTS


@pytest.mark.parametrize(
    ("aliases", "included", "names"),
    [(b'[{"alias": "A"}, {"alias": "B"}]', True, ["A", "B"]), (b'[{"alias": "A"}]', False, []), (None, True, []),
     (b"", True, []), (b"null", True, [])],
)  # fmt: skip
def test_aliases_count_when_they_were_included(aliases: bytes | None, included: bool, names: list[str]) -> None:
    part = ClassDescriptor(
        name="Article", sharding_state=b"{}", class_json=b"{}", aliases=aliases, aliases_included=included
    )
    assert aliases_of(part) == names


def test_a_manifest_is_of_the_operation_that_wrote_it(own: ForeignBackup) -> None:
    key = keys.manifest("nightly")
    assert is_own_manifest(own.store, key, UID)
    assert not is_own_manifest(own.store, key, "another")
    own.put_bytes("manifest.json", b"{}")
    assert not is_own_manifest(own.store, key, UID)
    own.remove("manifest.json")
    assert not is_own_manifest(own.store, key, UID)


def test_a_signature_is_read_as_it_lies_there(own: ForeignBackup) -> None:
    assert reader_of(own).signature is None
    own.put_bytes("manifest.json.sig", b"anything")
    assert reader_of(own).signature == b"anything"
