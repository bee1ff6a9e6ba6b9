"""COMMIT on its own: what makes a backup exist is ours, describes what lies there, and is the same when repeated."""

import base64
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
from tests.agent.foreign_backup import NODES, ForeignBackup, Json
from tests.agent.hand_frozen import Node
from tests.agent.small_restore import PLACE
from tests.stored.own_backup import UID, own_backup
from tests.whole_manifest import NodeManifest, decode_node_manifest, encode_node_manifest

from weaviate_backup.agent import commit as committing
from weaviate_backup.agent.commit import _commit, _put_manifest, _without_vanished
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.session import Committed, SessionOrder, StoreOrder
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.settings import AgentSettings
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.claiming import ClaimedPlace
from weaviate_backup.stored.meter import Meter

MARKER = "backup_config.json"
MANIFEST = "manifest.json"
STARTED = b'{"startedAt":"2026-01-01T00:00:00Z","id":"b","status":"STARTED","version":"2.1","serverVersion":"1.39.1"}'


@pytest.fixture
def uploaded(tmp_path: Path) -> ForeignBackup:
    return uploaded_with(tmp_path, lambda _: None)


def uploaded_with(directory: Path, change: Callable[[ForeignBackup], None]) -> ForeignBackup:
    """All nodes have stored and verified their parts, which `change` made a little different."""
    backup = own_backup(directory / "store", "b", files={}, change=change)
    backup.remove(MARKER)
    backup.remove(MANIFEST)
    return backup


def hashes_of(backup: ForeignBackup) -> dict[str, str]:
    """Of the nodes' manifests, as they lie there."""
    folder = backup.root / backup.backup_id
    return {node: hashlib.sha256((folder / node / "manifest.json.zst").read_bytes()).hexdigest() for node in NODES}


def commit(
    backup: ForeignBackup,
    *,
    verified: Mapping[str, str] | None = None,
    signing_key: bytes | None = None,
    verify: Json | None = None,
    meter: Meter | None = None,
    leader: str = "",
) -> Committed:
    """By a store worker, of an earlier operator unless it is told the `leader`. `verified`: what was, if not all that
    lies there. With `verify` the location signs; `signing_key`: what its Secret holds, None: nothing."""
    nowhere, signing = backup.root / "nowhere", backup.root.parent / "signing"
    place = PLACE
    if signing_key is not None or verify is not None:
        place = {**PLACE, "signing": {"keySecretRef": {"name": "signer", "key": "pem"}}, "verify": verify}
    shutil.rmtree(signing, ignore_errors=True)
    if signing_key is not None:
        signing.mkdir()
        (signing / "key").write_bytes(signing_key)
    order = SessionOrder(
        operation_uid=UID,
        node="store-0",
        backup_id=backup.backup_id,
        location=LocationSpec.model_validate(place),
        server_version="1.39.1",
        weaviate=None,
        work=StoreOrder(leader=leader),
    )
    settings = AgentSettings(
        operation_uid=UID,
        node="store-0",
        filesystem_root=backup.root,
        credentials_directory=nowhere,
        ca_directory=nowhere,
        signing_directory=signing,
    )
    hashes = hashes_of(backup) if verified is None else verified
    return _commit(Workspace(settings, order, Journal(None)), hashes, meter or Meter())


def test_the_manifest_vouches_for_the_marker_and_its_digest_is_told(uploaded: ForeignBackup) -> None:
    done = commit(uploaded)
    folder = uploaded.root / "b"
    assert done.backup_sha256 == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    marker = uploaded.get(MANIFEST)["marker"]
    assert marker["sha256"] == hashlib.sha256((folder / MARKER).read_bytes()).hexdigest()
    assert BackupReader(uploaded.store, "b").sha256 == done.backup_sha256


@pytest.mark.parametrize("lost", [(), (MARKER,), (MARKER, MANIFEST)])
def test_a_commit_that_is_repeated_says_the_same(uploaded: ForeignBackup, lost: tuple[str, ...]) -> None:
    done = commit(uploaded)
    before = (uploaded.root / "b" / MARKER).read_bytes()
    for name in lost:
        uploaded.remove(name)
    again = commit(uploaded)
    if MANIFEST not in lost:
        assert again == done
        assert (uploaded.root / "b" / MARKER).read_bytes() == before
    assert BackupReader(uploaded.store, "b").sha256 == again.backup_sha256


def commit_by_agent(backup: ForeignBackup, leader: str) -> Committed:
    """By the leader's own."""
    others = (name for name in NODES if name != leader)
    base = backup.root.parent / f"agent-{leader}"
    node = Node(base, backup.root, UID, {}, name=leader, nodes=(leader, *others), backup_id="b")
    workspace = node.workspace()
    with workspace.journal:
        return _commit(workspace, hashes_of(backup), Meter())


@pytest.mark.parametrize("leader", NODES)
@pytest.mark.parametrize("lost", [(), (MARKER,), (MARKER, MANIFEST)], ids=["its answer", "the marker", "all of it"])
def test_a_worker_completes_what_any_leader_began(uploaded: ForeignBackup, leader: str, lost: tuple[str, ...]) -> None:
    done = commit_by_agent(uploaded, leader)
    before = uploaded.get(MARKER)
    for name in lost:
        uploaded.remove(name)
    again = commit(uploaded, leader=leader)
    assert uploaded.get(MARKER)["leader"] == leader
    if MANIFEST not in lost:
        assert (again, uploaded.get(MARKER)) == (done, before)


def by_clock(monkeypatch: pytest.MonkeyPatch, off: timedelta) -> None:
    """Of the committer."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(datetime.now(tz).timestamp(), tz) + off

    monkeypatch.setattr(committing, "datetime", Clock)


@pytest.mark.parametrize("minutes", [-10, 10], ids=["behind", "ahead"])
def test_a_commit_is_repeated_whatever_the_clock_of_the_first_said(
    uploaded: ForeignBackup, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    with monkeypatch.context() as patched:
        by_clock(patched, timedelta(minutes=minutes))
        done = commit(uploaded)
    assert commit(uploaded) == done


def test_a_time_to_come_locks_nothing_for_longer(uploaded: ForeignBackup, monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[datetime] = []
    monkeypatch.setattr(committing, "lock_backup", lambda *_, completed_at, **__: locked.append(completed_at))
    with monkeypatch.context() as patched:
        by_clock(patched, timedelta(hours=23))
        done = commit(uploaded)
    assert {*locked} == {done.completed_at}
    locked.clear()
    assert commit(uploaded).completed_at == done.completed_at
    (at,) = locked
    assert at < datetime.now(UTC) + timedelta(minutes=6)


def test_no_backup_is_complete_before_it_began(tmp_path: Path) -> None:
    """The operator's clock says when that was, an agent's when it was complete."""
    began_at = datetime.now(UTC) + timedelta(minutes=10)

    def change(backup: ForeignBackup) -> None:
        for node in NODES:
            backup.change(f"{node}/backup.json", lambda it: it.update(startedAt=began_at.isoformat()))

    uploaded = uploaded_with(tmp_path, change)
    done = commit(uploaded)
    assert done.completed_at == began_at
    assert commit(uploaded) == done
    uploaded.remove(MARKER)
    assert commit(uploaded) == done


def test_what_was_lost_behind_our_backs_makes_no_backup(
    uploaded: ForeignBackup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look and the marker, by whoever may delete there."""
    refuse_strangers = ClaimedPlace.refuse_strangers
    calls = itertools.count()

    def then_lose(self: ClaimedPlace) -> None:
        refuse_strangers(self)
        if next(calls):  # the second one is just before the marker
            uploaded.remove("n1/backup.json")

    monkeypatch.setattr(ClaimedPlace, "refuse_strangers", then_lose)
    with pytest.raises(Permanent, match=r"VerificationFailed: .*n1/backup\.json"):
        commit(uploaded)


def test_a_manifest_of_an_older_version_is_completed(uploaded: ForeignBackup) -> None:
    """Its attempt died before the marker; the operator was updated meanwhile."""
    commit(uploaded)
    uploaded.remove(MARKER)
    uploaded.change(MANIFEST, lambda it: it.pop("marker"))
    commit(uploaded)
    assert "marker" in uploaded.get(MANIFEST)


@pytest.mark.parametrize("manifest_first", [True, False])
def test_a_marker_of_weaviates_own_engine_is_not_ours(uploaded: ForeignBackup, manifest_first: bool) -> None:
    """It writes one before it begins, also between our manifest and our marker."""
    if manifest_first:
        commit(uploaded)
    uploaded.put_bytes(MARKER, STARTED)
    with pytest.raises(Permanent, match=r"BackupExists: .* was made by another operation"):
        commit(uploaded)
    assert json.loads((uploaded.root / "b" / MARKER).read_bytes())["status"] == "STARTED"


def planted(backup: ForeignBackup, **changes: object) -> None:
    """Documents that name this operation and vouch for each other, by somebody who may write to the store."""
    backup.change(MARKER, lambda it: it.update(changes))
    content = (backup.root / "b" / MARKER).read_bytes()
    backup.change(MANIFEST, lambda it: it.update({key: value for key, value in changes.items() if key == "leader"}))
    backup.change(
        MANIFEST,
        lambda it: it["marker"].update(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)),
    )


@pytest.mark.parametrize("change", [{"leader": "evil"}, {"leader": "n1"}, {"error": "none"}])
def test_documents_that_vouch_for_each_other_are_not_ours_by_that(
    uploaded: ForeignBackup, change: dict[str, object]
) -> None:
    commit(uploaded)
    planted(uploaded, **change)
    before = {name: (uploaded.root / "b" / name).read_bytes() for name in (MARKER, MANIFEST)}
    with pytest.raises(Permanent, match=r"BackupExists: .* was made by another operation"):
        commit(uploaded)
    assert {name: (uploaded.root / "b" / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("on_top", ["evil/backup.json", "evil/manifest.json.zst", "n0/more"])
def test_an_object_that_nobody_verified_keeps_a_backup_from_being_complete(
    uploaded: ForeignBackup, on_top: str
) -> None:
    commit(uploaded)
    uploaded.put_bytes(on_top, b"{}")
    with pytest.raises(Permanent, match="VerificationFailed"):
        commit(uploaded)


@pytest.mark.parametrize("when", ["1999-01-01T00:00:00Z", "9999-12-31T00:00:00Z"])
def test_a_time_that_is_not_of_the_operation_decides_nothing(uploaded: ForeignBackup, when: str) -> None:
    """It says for how long objects are locked."""
    commit(uploaded)
    uploaded.remove(MARKER)
    uploaded.change(MANIFEST, lambda it: it.update(completed_at=when))
    began_at = datetime.now(UTC)
    assert began_at <= commit(uploaded).completed_at <= datetime.now(UTC)


def rewritten(backup: ForeignBackup, node: str, change: Callable[[NodeManifest], NodeManifest]) -> None:
    key = f"{node}/manifest.json.zst"
    content = (backup.root / backup.backup_id / key).read_bytes()
    backup.put_bytes(key, encode_node_manifest(change(decode_node_manifest(content, key=key))))


def refused(backup: ForeignBackup, said: str, *, verified: Mapping[str, str] | None = None) -> None:
    with pytest.raises(Permanent, match=said):
        commit(backup, verified=verified)
    assert not (backup.root / "b" / MARKER).exists()
    assert not (backup.root / "b" / MANIFEST).exists()


def test_what_is_told_of_a_backup_is_what_lies_there(uploaded: ForeignBackup) -> None:
    done = commit(uploaded)
    objects = {path: path.stat().st_size for path in uploaded.root.rglob("*") if path.is_file()}
    of_nodes = [size for path, size in objects.items() if path.parent.name != "b"]
    assert (done.objects, done.bytes_stored) == (len(objects), sum(of_nodes))
    manifest = uploaded.get(MANIFEST)
    files = [content for node in NODES for content in uploaded.expected(node).values()]
    assert done.bytes_total == manifest["source_bytes"] == sum(map(len, files))
    assert manifest["objects"] == sum(each["objects"] for each in manifest["nodes"].values()) == len(of_nodes)
    assert sum(each["stored_bytes"] for each in manifest["nodes"].values()) == manifest["stored_bytes"]


def test_a_server_is_told_what_each_node_told(tmp_path: Path) -> None:
    def change(backup: ForeignBackup) -> None:
        for number, node in enumerate(NODES):
            told = {"preCompressionSizeBytes": 40 + number, "startedAt": f"2026-05-0{2 - number}T10:00:00Z"}
            backup.change(f"{node}/backup.json", lambda it, told=told: it.update(told))  # type: ignore[misc]

    uploaded = uploaded_with(tmp_path, change)
    commit(uploaded)
    marker = uploaded.get(MARKER)
    assert {node: each["preCompressionSizeBytes"] for node, each in marker["nodes"].items()} == {"n0": 40, "n1": 41}
    assert marker["preCompressionSizeBytes"] == 81
    assert {tuple(each["classes"]) for each in marker["nodes"].values()} == {("Article",)}
    assert marker["startedAt"] == "2026-05-01T10:00:00Z", "the earliest of all"


def test_tenants_that_are_offloaded_anywhere_are_told(uploaded: ForeignBackup) -> None:
    for number, node in enumerate(NODES, start=2):
        told = {"tenants_offloaded": number}
        rewritten(uploaded, node, lambda it, told=told: replace(it, header=it.header.model_copy(update=told)))  # type: ignore[misc]
    commit(uploaded)
    assert uploaded.get(MANIFEST)["tenants_offloaded"] == 2 + 3


def test_only_what_was_verified_is_made_a_backup(uploaded: ForeignBackup) -> None:
    hashes = hashes_of(uploaded)
    refused(uploaded, "InvalidRequest: commit needs the verified manifests' hashes", verified={})
    said = "VerificationFailed: the manifest of n1 is not the one that was verified"
    refused(uploaded, said, verified={**hashes, "n1": hashes["n0"]})
    refused(uploaded, "VerificationFailed: .*b/n1/", verified={"n0": hashes["n0"]})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("n0/Article/chunk-1", b"shorter", "chunk-1"),
        ("n0/Article/chunk-1", None, "chunk-1"),
        ("n1/backup.json", b"{}", "backup.json"),
        ("n1/manifest.json.zst", None, "n1/manifest.json.zst is missing"),
    ],
)
def test_what_changed_since_it_was_verified_is_found(
    uploaded: ForeignBackup, name: str, content: bytes | None, said: str
) -> None:
    hashes = hashes_of(uploaded)
    if content is None:
        uploaded.remove(name)
    else:
        uploaded.put_bytes(name, content)
    refused(uploaded, f"VerificationFailed: .*{said}", verified=hashes)


def test_a_servers_document_of_the_same_size_is_told_by_its_hash(uploaded: ForeignBackup) -> None:
    content = (uploaded.root / "b/n1/backup.json").read_bytes()
    uploaded.put_bytes("n1/backup.json", content.replace(b'"b"', b'"c"'))
    refused(uploaded, r"VerificationFailed: b/n1/backup.json is not what was written \(SHA-256 differs\)")


def test_a_shard_that_no_node_holds_is_missed(uploaded: ForeignBackup) -> None:
    rewritten(uploaded, "n1", lambda it: replace(it, shards=()))
    refused(uploaded, "VerificationFailed: Article/s1 belongs to node n1, whose backup does not hold it")


def with_class(document: Json, **changes: object) -> None:
    (collection,) = document["classes"]
    collection.update(changes)


def packed(document: Json) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (
            ("Author", "Book"),
            "VerificationFailed: no descriptor of n0, n1 names every",
        ),
        (
            (),
            "CollectionChanged: collection Article was deleted and made anew .*: on n0 and n1, vectorIndexType is",
        ),
    ],
    ids=["a collection that only one node has", "two collections of one name"],
)
def test_nodes_that_saw_different_collections_make_no_backup(tmp_path: Path, own: Sequence[str], said: str) -> None:
    """`own`: what each node alone has; without it, both have another collection of one name."""

    def change(backup: ForeignBackup) -> None:
        for node, name in zip(NODES, own, strict=False):
            another = {"name": name, "shardingState": packed({}), "schema": packed({"class": name})}
            backup.change(f"{node}/backup.json", lambda it: it["classes"].append(another))  # noqa: B023 (called at once)
        if not own:
            schema = packed({"class": "Article", "vectorIndexType": "flat"})
            backup.change("n1/backup.json", lambda it: with_class(it, schema=schema))

    refused(uploaded_with(tmp_path, change), said)


@pytest.mark.parametrize("tenants", [True, False])
def test_only_tenants_may_vanish_between_two_cuts(tmp_path: Path, tenants: bool) -> None:
    """The leader saw one more on the other node, which did not have it any more at its own cut."""

    def change(backup: ForeignBackup) -> None:
        for node in NODES:
            own = {f"s{each[1:]}": {"belongsToNodes": [each]} for each in NODES}
            more = {"more": {"belongsToNodes": ["n1"]}} if node == "n0" else {}
            state = packed({"partitioningEnabled": tenants, "physical": own | more})
            backup.change(f"{node}/backup.json", lambda it, state=state: with_class(it, shardingState=state))  # type: ignore[misc]

    uploaded = uploaded_with(tmp_path, change)
    if tenants:
        commit(uploaded)
    else:
        refused(uploaded, "VerificationFailed: Article/more belongs to node n1, whose backup does not hold it")


def test_a_leader_that_stored_nothing_is_no_reason_for_a_crash(uploaded: ForeignBackup, tmp_path: Path) -> None:
    node = Node(tmp_path / "node", uploaded.root, UID, {}, name="n0", nodes=("n7", "n0"), backup_id="b")
    workspace = node.workspace()
    with workspace.journal, pytest.raises(Permanent, match="VerificationFailed: no descriptor of n7 names every"):
        _commit(workspace, hashes_of(uploaded), Meter())


@pytest.mark.parametrize("before", [b"{}", None])
def test_a_manifest_that_appeared_meanwhile_is_never_replaced(
    uploaded: ForeignBackup, tmp_path: Path, before: bytes | None
) -> None:
    """A marker may vouch for it already; what an earlier attempt left is replaced."""
    uploaded.put_bytes(MANIFEST, b"{}")
    workspace = Node(tmp_path / "node", uploaded.root, UID, {}, backup_id="b").workspace()
    with workspace.journal:
        place = workspace.place_in(workspace.open_store())
        if before is None:
            with pytest.raises(Transient, match="CommitOverlaps: another agent of this operation completes"):
                _put_manifest(workspace, place, b"[]", before=before)
            _put_manifest(workspace, place, b"{}", before=before)
        else:
            _put_manifest(workspace, place, b"[]", before=before)
    assert (uploaded.root / "b" / MANIFEST).read_bytes() == (b"{}" if before is None else b"[]")


def test_a_manifest_of_another_operation_is_never_written_over(uploaded: ForeignBackup) -> None:
    commit(uploaded)
    uploaded.remove(MARKER)
    uploaded.change(MANIFEST, lambda it: it.update(operation_uid="another"))
    before = (uploaded.root / "b" / MANIFEST).read_bytes()
    with pytest.raises(Permanent, match=r"BackupExists: .* was made by another operation"):
        commit(uploaded)
    assert (uploaded.root / "b" / MANIFEST).read_bytes() == before
    assert not (uploaded.root / "b" / MARKER).exists()


class StopsAt(Meter):
    """Told to stop just before it asks for the so-manieth time."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def check(self) -> None:
        self.left -= 1
        if not self.left:
            self.stop()
        super().check()


@pytest.mark.parametrize(("number", "written"), [(1, []), (2, []), (3, [MANIFEST])])
def test_who_is_told_to_end_completes_nothing(uploaded: ForeignBackup, number: int, written: list[str]) -> None:
    with pytest.raises(Permanent, match="StepCanceled"):
        commit(uploaded, meter=StopsAt(number))
    assert [name for name in (MANIFEST, MARKER) if (uploaded.root / "b" / name).exists()] == written


@pytest.mark.parametrize(
    ("own", "left"),
    [
        ({"belongsToNodes": ["n0", "n1"], "status": "HOT"}, ["n0", "n1"]),
        ({"belongsToNodes": ["n0", "n1"]}, ["n0", "n1"]),
        ({"belongsToNodes": ["n0", "n1"], "status": "COLD"}, ["n0", "n1"]),
        ({"belongsToNodes": ["n0", "n1"], "status": "FROZEN"}, ["n0"]),
        ({"belongsToNodes": ["n0"], "status": "HOT"}, ["n0"]),
        (None, ["n0"]),
    ],
    ids=["active", "without a word", "inactive", "offloaded", "moved away", "deleted"],
)
def test_tenants_that_vanished_before_a_nodes_own_cut_are_not_missed_there(own: Json | None, left: list[str]) -> None:
    shared, alone, elsewhere = ({"belongsToNodes": nodes} for nodes in (["n0", "n1"], ["n1"], ["n0"]))
    seen = {"partitioningEnabled": True, "physical": {"shared": shared, "alone": alone, "elsewhere": elsewhere}}
    there = {} if own is None else {"shared": own, "alone": {**own, "belongsToNodes": own["belongsToNodes"][1:]}}
    found = _without_vanished(seen, {"physical": there}, "n1")
    expected = {"shared": {"belongsToNodes": left}, "elsewhere": elsewhere}
    assert found["physical"] == (expected | ({"alone": alone} if "n1" in left else {}))
    assert found["partitioningEnabled"]
