"""Backups that servers made: chains are put together, and every way in which one can be wrong is refused by name.

The layout is a server's, written by hand so that each test spoils one thing; `tests/interop` has real servers' ones.
"""

import base64
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent.foreign_backup import COLLECTION, NODES, SMALL, ForeignBackup, Json, chain, path_of
from tests.places import place_of

from weaviate_backup.agent.chunk_receiver import ChunkReceiver
from weaviate_backup.agent.inspect_backup import read_contents_of
from weaviate_backup.agent.wanted_files import wanted_files
from weaviate_backup.core.session import BackupContents
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.chunk_writer import OFFSET_RECORD
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter

LIMIT_BYTES = 1 << 20
LIMIT_INODES = 100
CONFIG = "backup_config.json"
NODE = "n0/backup.json"


def contents_of(backup: ForeignBackup) -> BackupContents:
    return read_contents_of(BackupReader(backup.store, backup.backup_id), Meter())


def restored(
    backup: ForeignBackup,
    node: str,
    directory: Path,
    *,
    limit_bytes: int = LIMIT_BYTES,
    limit_inodes: int = LIMIT_INODES,
) -> dict[str, bytes]:
    """Path -> content of all that came, checked as the step checks it."""
    wanted = wanted_files(BackupReader(backup.store, backup.backup_id), node, (COLLECTION,))
    directory.mkdir(parents=True, exist_ok=True)
    receiver = ChunkReceiver(
        backup.store, place_of(directory), Meter(), limit_bytes=limit_bytes, limit_inodes=limit_inodes
    )
    for chunk in wanted.chunks():
        receiver.receive(chunk)
    wanted.check_complete(place_of(directory))
    root = directory / COLLECTION
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def problems_of(backup: ForeignBackup) -> dict[str, str]:
    """Reason -> messages of what inspection finds, in the documents and in what they make one fetch."""
    reader = BackupReader(backup.store, backup.backup_id)
    found = [(each.reason, each.message) for each in read_contents_of(reader, Meter()).problems]
    for node in NODES:
        try:
            wanted_files(reader, node, (COLLECTION,))
        except Permanent as error:
            found.append((error.reason, error.message))
    return {reason: "\n".join(message for each, message in found if each == reason) for reason, _ in found}


@pytest.fixture
def backup(tmp_path: Path) -> ForeignBackup:
    return chain(tmp_path / "store")


def test_a_chain_of_three_is_put_together(backup: ForeignBackup, tmp_path: Path) -> None:
    assert problems_of(backup) == {}
    contents = contents_of(backup)
    assert (contents.leader, contents.collections, contents.aliases) == ("n0", (COLLECTION,), {"News": COLLECTION})
    assert not contents.verifiable
    assert [each.reason for each in contents.warnings] == ["NotVerifiable"]
    for node in NODES:
        came = restored(backup, node, tmp_path / node)
        assert came == backup.expected(node)
        assert len(came) == 6


def test_only_the_meant_file_is_taken_from_an_older_chunk(backup: ForeignBackup, tmp_path: Path) -> None:
    assert backup.base is not None
    older = backup.base
    big = path_of("n0", "lsm/objects/segment-2.db")
    stale = {path_of("n0", "version"): b"an older version", big: older.expected("n0")[big]}
    older.put_chunk("n0", 2, stale)
    assert restored(backup, "n0", tmp_path / "n0") == backup.expected("n0")


def test_a_node_that_was_not_in_the_base_holds_everything_itself(backup: ForeignBackup, tmp_path: Path) -> None:
    """As a server writes it for a node that joined later: no base in its descriptor, all files its own."""
    whole = ForeignBackup(backup.root, "whole", files={"lsm/objects/segment-9.db": b"own" * 100}).write()
    backup.put("n1/backup.json", whole.get("n1/backup.json") | {"id": "b3"})
    for number in (1, 2):
        chunk = f"n1/{COLLECTION}/chunk-{number}"
        backup.put_bytes(chunk, (whole.root / "whole" / chunk).read_bytes())
    assert backup.base is not None
    backup.base.remove("n1/backup.json")
    assert problems_of(backup) == {}
    assert restored(backup, "n1", tmp_path / "n1") == whole.expected("n1")


def setting(key: str, value: object) -> Callable[[Json], object]:
    return lambda document: document.update({key: value})


def in_shard(change: Callable[[Json], object]) -> Callable[[Json], object]:
    return lambda document: change(document["classes"][0]["shards"][0])


def in_class(key: str, value: object) -> Callable[[Json], object]:
    return lambda document: document["classes"][0].update({key: value})


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def aliases(text: str) -> Callable[[Json], object]:
    return lambda document: document["classes"][0].update(aliases=encoded(text), aliasesIncluded=True)


@pytest.mark.parametrize(
    ("key", "change", "reason", "message"),
    [
        (CONFIG, setting("id", "other"), "BackupIdMismatch", "says that it is 'other'"),
        (CONFIG, setting("error", "disk full"), "BackupNotSuccessful", "disk full"),
        (CONFIG, setting("version", "3.0"), "FormatTooNew", "structure 3.0"),
        (CONFIG, setting("version", "1.0"), "FormatTooOld", "structure 1.0"),
        (CONFIG, setting("serverVersion", "1.22.13"), "FormatTooOld", "1.22.13"),
        (CONFIG, setting("leader", "n7"), "BackupIncomplete", "'n7' as its leader, which is none of its nodes"),
        (CONFIG, setting("baseBackupId", "b9"), "BaseMissing", "'b9', which is not in this location"),
        (CONFIG, setting("baseBackupId", "b3"), "BaseUnusable", "which builds on it"),
        (CONFIG, setting("startedAt", "2026-05-02T10:00:00Z"), "BaseUnusable", "not before 2026-05-02T10:00:00Z"),
        (CONFIG, setting("compressionType", "zstd"), "BaseUnusable", "gzip, not zstd"),
        (CONFIG, setting("baseBackupId", ""), "BaseUnusable", "on which backup 'b3' does not build"),
        (NODE, setting("id", "other"), "BackupIdMismatch", "the descriptor of n0 belongs to backup 'other'"),
        (NODE, setting("status", "FAILED"), "BackupNotSuccessful", "node n0 ended as FAILED"),
        (NODE, setting("classes", []), "BackupIncomplete", "node n0"),
        (NODE, in_class("schema", base64.b64encode(b"{").decode()), "HostileBackup", "schema of Article is not JSON"),
        (NODE, in_class("shardingState", base64.b64encode(b"[" * 100_000).decode()), "HostileBackup", "is not JSON"),
        (NODE, in_class("schema", encoded('{"class":"Article","CLASS":"B"}')), "HostileBackup", "'CLASS' stands for"),
        (NODE, in_class("shardingState", encoded('{"Physical":{"../x":{}}}')), "HostileBackup", "'Physical' stands"),
        (NODE, aliases('[{"alias":"a","Alias":"b"}]'), "HostileBackup", "'Alias' stands for 'alias'"),
        (NODE, setting("userBackups", encoded('{"Data":{},"data":{}}')), "HostileBackup", "'data' stands for 'Data'"),
        (NODE, setting("rbacBackups", encoded('{"version":1,"version":1}')), "HostileBackup", "'version' comes twice"),
        (NODE, in_class("shards", []), "BackupIncomplete", "Article/s0 belongs to node n0, whose backup does not"),
        (NODE, in_class("chunks", {"../x": []}), "HostileBackup", "chunks.../x"),
        (NODE, in_class("name", "../Article"), "HostileBackup", "is no name"),
        (NODE, in_shard(setting("name", "a/b")), "HostileBackup", "is no name"),
        (NODE, in_shard(setting("files", ["article/../../x"])), "HostileBackup", "no plain path"),
        (NODE, in_shard(setting("files", ["/etc/passwd"])), "HostileBackup", "no plain path"),
    ],
)
def test_what_is_wrong_in_a_document_is_named(
    backup: ForeignBackup, key: str, change: Callable[[Json], object], reason: str, message: str
) -> None:
    backup.change(key, change)
    assert message in problems_of(backup).get(reason, ""), problems_of(backup)


def test_who_is_given_a_role_is_told_without_a_role_or_a_user(backup: ForeignBackup) -> None:
    """As much of a long subject as leaves room for the role; the placeholder and what settings assign is nobody's."""
    given = [
        ["db:wv_internal_empty", "role:admin"],
        ["oidc:owner", "role:root"],
        ["oidc:ada", "role:editor"],
        ["oidc:mallory@evil.example", "role:admin"],
        [f"oidc:{'m' * 300}", "role:viewer"],
    ]
    text = json.dumps({"roles_policies": [], "grouping_policies": given, "version": 1})
    backup.change(NODE, setting("rbacBackups", base64.b64encode(text.encode()).decode()))
    found = contents_of(backup)
    long = f"oidc:{'m' * 120}… -> viewer"
    assert found.assignments == ("oidc:mallory@evil.example -> admin", long, "oidc:ada -> editor")
    assert (found.assignments_count, found.roles, found.users) == (3, ("editor",), ())


@pytest.mark.parametrize(
    ("reused", "reason", "message"),
    [
        ({"b7": []}, "BaseUnusable", "lies partly in backup 'b7'"),
        ({"../b1": []}, "HostileBackup", "is no name"),
        ({"b1": [{"file": "article/s0/lsm/objects/segment-1.db", "chunkKeys": []}]}, "BaseUnusable", "any chunk"),
        (
            {"b1": [{"file": "article/s0/lsm/objects/segment-1.db", "chunkKeys": ["Article/chunk-5"]}]},
            "BaseUnusable",
            "does not hold it in Article/chunk-5",
        ),
        ({"b1": [{"file": "../../x", "chunkKeys": ["Article/chunk-2"]}]}, "HostileBackup", "no plain path"),
    ],
)
def test_what_is_wrong_in_a_reference_to_an_older_backup_is_named(
    backup: ForeignBackup, reused: Json, reason: str, message: str
) -> None:
    backup.change(NODE, in_shard(setting("incrementalBackupInfo", {"filesPerBackup": reused})))
    assert message in problems_of(backup).get(reason, ""), problems_of(backup)


def test_a_chunk_key_that_leaves_the_backup_is_refused(backup: ForeignBackup) -> None:
    assert backup.base is not None
    path, keys = path_of("n0", "lsm/objects/segment-2.db"), ["../../elsewhere/chunk-1"]
    big = {path: {"chunkKeys": keys, "size": 1, "modifiedAt": ""}}
    backup.base.change(NODE, in_shard(setting("bigFilesChunk", big)))
    reused = {"filesPerBackup": {"b2": [{"file": path, "chunkKeys": keys}]}}
    backup.change(NODE, in_shard(setting("incrementalBackupInfo", reused)))
    assert "elsewhere" in problems_of(backup)["HostileBackup"]


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (CONFIG, setting("status", "STARTED"), "ended as STARTED"),
        (CONFIG, setting("id", "b0"), "says that it is 'b0'"),
        (CONFIG, setting("compressionType", "none"), "none, not gzip"),
        (CONFIG, setting("startedAt", "2026-06-01T00:00:00Z"), "it was made again"),
        (NODE, setting("classes", []), "is to hold files of Article/s0 on n0, but does not"),
    ],
)
def test_a_base_that_cannot_be_used_is_refused(
    backup: ForeignBackup, key: str, change: Callable[[Json], object], message: str
) -> None:
    assert backup.base is not None
    backup.base.change(key, change)
    assert message in problems_of(backup)["BaseUnusable"]


def test_a_base_of_a_base_that_is_gone_is_refused(backup: ForeignBackup) -> None:
    assert backup.base is not None
    assert backup.base.base is not None
    backup.base.base.remove(CONFIG)
    assert "'b1', which is not in this location" in problems_of(backup)["BaseMissing"]


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b'{"id":"b3"}', b'{"id":' + b"[" * 100_000])
def test_damaged_documents_are_refused_by_key(backup: ForeignBackup, content: bytes) -> None:
    backup.put_bytes("n1/backup.json", content)
    assert "b3/n1/backup.json is no descriptor" in problems_of(backup)["HostileBackup"]
    backup.put_bytes(CONFIG, content)
    with pytest.raises(Permanent, match=r"HostileBackup: b3/backup_config\.json is no descriptor"):
        contents_of(backup)


def test_a_backup_that_is_not_there_is_told(backup: ForeignBackup) -> None:
    backup.remove(CONFIG)
    with pytest.raises(Permanent, match="BackupNotFound"):
        contents_of(backup)


def test_inactive_tenants_that_an_old_server_left_out_are_told(backup: ForeignBackup) -> None:
    state = {
        "partitioningEnabled": True,
        "physical": {
            "s0": {"belongsToNodes": ["n0"]},
            "s1": {"belongsToNodes": ["n1"]},
            "asleep": {"belongsToNodes": ["n1"], "status": "COLD"},
            "away": {"belongsToNodes": ["n1"], "status": "FROZEN"},
        },
    }
    packed = base64.b64encode(repr(state).replace("'", '"').replace("True", "true").encode()).decode()
    backup.change(NODE, in_class("shardingState", packed))
    assert problems_of(backup) == {}
    (missing,) = (each for each in contents_of(backup).warnings if each.reason == "TenantsMissing")
    assert missing.message.startswith("1 tenants are not in the backup")
    assert "Article/asleep" in missing.message


def archive(*entries: tuple[str, int, bytes]) -> bytes:
    """An uncompressed chunk of (name, offset, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as written:
        for name, offset, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if offset:
                info.pax_headers = {OFFSET_RECORD: str(offset)}
            written.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


LONG = f"article/s0/{'x' * 300}"
NAMED = ("article/s0/a", "article/s0/a/b", LONG)
"""What the descriptor is made to name beside its own."""


def spoiled(backup: ForeignBackup, *entries: tuple[str, int, bytes]) -> None:
    """A chunk of these entries, in the place of the first one."""
    for key in (CONFIG, NODE):
        backup.change(key, setting("compressionType", "none"))
    backup.change(NODE, in_shard(lambda shard: shard["files"].extend(NAMED)))
    backup.put_bytes(f"n0/{COLLECTION}/chunk-1", archive(*entries))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("article/s0/a", 0, b"1"), ("article/s0/a/b", 0, b"1")], "cannot be a file beside the others"),
        ([("article/s0/a/b", 0, b"1"), ("article/s0/a", 0, b"1")], "cannot be a file beside the others"),
        ([(LONG, 0, b"1")], "cannot be a file beside the others"),
        ([("article/s0/a", 10**15, b"1")], "the volume has 1048576 free"),
        ([("article/s0/a", 0, bytes(LIMIT_BYTES + 1))], "makes the chunk larger than"),
        ([("article/s0/../../x", 0, b"1")], "no plain path"),
        ([("article/s0/c", 0, b"1")], "holds article/s0/c, which the descriptor of its node does not name"),
        ([("article/s1/indexcount", 0, b"1")], "which the descriptor of its node does not name"),
        ([("article/s0/lsm/version", 0, b"1")], "which the descriptor of its node does not name"),
    ],
)
def test_a_hostile_chunk_writes_nothing_elsewhere(
    backup: ForeignBackup, tmp_path: Path, entries: list[tuple[str, int, bytes]], message: str
) -> None:
    spoiled(backup, *entries)
    directory = tmp_path / "data" / "private"
    with pytest.raises(Permanent) as refused:
        restored(backup, "n0", directory)
    assert refused.value.reason == "HostileBackup"
    assert message in refused.value.message
    assert f"b3/n0/{COLLECTION}/chunk-1" in refused.value.message
    assert {each.name for each in (tmp_path / "data").glob("*")} <= {"private"}
    assert {each.relative_to(directory).as_posix() for each in directory.rglob("*") if each.is_file()} <= {
        f"{COLLECTION}/{name}" for name in NAMED
    }


def test_the_three_files_that_a_descriptor_does_not_list_are_taken(backup: ForeignBackup, tmp_path: Path) -> None:
    small = [path_of("n0", name) for name in SMALL]
    backup.change(NODE, in_shard(lambda shard: [shard["files"].remove(each) for each in small]))
    assert restored(backup, "n0", tmp_path / "n0") == backup.expected("n0")


@pytest.mark.parametrize("limit_inodes", [0, 1, 30, 40])
def test_files_and_folders_do_not_use_up_a_volumes_inodes(
    backup: ForeignBackup, tmp_path: Path, limit_inodes: int
) -> None:
    """Names of a descriptor are enough for many folders each."""
    names = [f"article/s0/{'/'.join([str(number)] * 20)}" for number in range(3)]
    spoiled(backup, *((name, 0, b"") for name in names))
    backup.change(NODE, in_shard(lambda shard: shard["files"].extend(names)))
    with pytest.raises(Permanent, match=r"NotEnoughSpace.*more files and folders than the"):
        restored(backup, "n0", tmp_path / "data", limit_inodes=limit_inodes)
    assert len(list((tmp_path / "data").rglob("*"))) <= limit_inodes + 1


def test_files_that_are_empty_take_room_too(backup: ForeignBackup, tmp_path: Path) -> None:
    """A volume has inodes and names for so many, where nobody counts them."""
    names = [f"article/s0/lsm/objects/segment-{number}.db" for number in range(500)]
    spoiled(backup, *((name, 0, b"") for name in names))
    backup.change(NODE, in_shard(lambda shard: shard["files"].extend(names)))
    with pytest.raises(Permanent, match="NotEnoughSpace"):
        restored(backup, "n0", tmp_path / "data", limit_bytes=100_000)


def test_chunks_together_do_not_fill_the_volume(backup: ForeignBackup, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="NotEnoughSpace"):
        restored(backup, "n0", tmp_path / "data", limit_bytes=2100)


def test_a_big_file_that_ends_early_is_noticed(backup: ForeignBackup, tmp_path: Path) -> None:
    path = path_of("n0", "lsm/objects/segment-3.db")
    backup.put_chunk("n0", 2, {path: b"short"})
    with pytest.raises(Permanent, match=r"BackupIncomplete: .*segment-3\.db has 5 bytes instead of"):
        restored(backup, "n0", tmp_path / "data")
