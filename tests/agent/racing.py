"""Two operations of one identifier in one place, each with a node whose shards are frozen by hand."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tests.agent.hand_frozen import COLLECTION, Node, shard_of
from tests.agent.small_restore import PLACE
from tests.agent.turns import Program, SharedStore

from weaviate_backup.agent.commit import _commit
from weaviate_backup.agent.freeze import take_place
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.upload import _upload
from weaviate_backup.agent.verify import _verify
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.layout import keys
from weaviate_backup.layout.chunk_reader import read_chunk
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter

UIDS = ("aaaaaaaa-1", "bbbbbbbb-2")
NODE = "weaviate-0"
NO_CREDENTIALS: Mapping[str, str] = {}


@dataclass(frozen=True)
class SharedWorkspace(Workspace):
    """A workspace whose store it shares, call by call."""

    program: Program | None = None

    def open_store(self, **_: object) -> SharedStore:  # type: ignore[override]
        assert self.program is not None
        return SharedStore(super().open_store(), self.program)


@contextmanager
def opened(node: Node, program: Program | None = None, *, beside: bool = False) -> Iterator[Workspace]:
    """The workspace of a node's agent, its journal closed afterwards; or of another agent beside it, without one."""
    plain = node.workspace()
    if beside:
        plain.journal.close()
        plain = Workspace(plain.settings, plain.order, Journal(None))
    with plain.journal:
        yield SharedWorkspace(plain.settings, plain.order, plain.journal, program=program) if program else plain


def complete(workspace: Workspace) -> None:
    """From FREEZE to COMMIT."""
    take_place(workspace)
    _upload(workspace, (COLLECTION,), Meter())
    verified = _verify(workspace, workspace.node, Meter())
    _commit(workspace, {workspace.node: verified.manifest_sha256}, Meter())


class Race:
    """Nodes of two operations, and one store: a directory of its own, if none is given."""

    numbers = itertools.count()

    def __init__(
        self, base: Path, location: LocationSpec | None = None, credentials: Mapping[str, str] = NO_CREDENTIALS
    ) -> None:
        number = next(self.numbers)
        self.base, self.backup_id = base / str(number), f"nightly-{number}"
        store = self.base / "store"
        store.mkdir(parents=True)
        self.nodes = tuple(
            Node(
                self.base / uid,
                store,
                uid,
                {"s1": shard_of(uid)},
                backup_id=self.backup_id,
                location=location or LocationSpec.model_validate(PLACE),
                credentials=credentials,
            )
            for uid in UIDS
        )
        for node in self.nodes:
            node.freeze()

    def second_node(self) -> Node:
        """Of the first operation."""
        first, names = self.nodes[0], (NODE, "weaviate-1")
        self.nodes = (replace(first, nodes=names), self.nodes[1])
        second = replace(first, base=self.base / "second", name=names[1], nodes=names)
        second.freeze()
        return second

    @cached_property
    def truth(self) -> ObjectStore:
        with opened(self.nodes[0]) as workspace:
            return workspace.open_store()

    def left(self) -> list[str]:
        return sorted(each.key for each in self.truth.list(f"{self.backup_id}/"))

    def refuse_less_than_whole(self, number: int) -> None:
        """Nothing but the whole backup of that operation is there, with the bytes that it froze."""
        manifest = BackupReader(self.truth, self.backup_id).manifest
        assert manifest is not None
        assert manifest.operation_uid == UIDS[number]
        with opened(self.nodes[number]) as workspace:
            verified = _verify(workspace, NODE, Meter())
        whole = {keys.claim(self.backup_id), keys.manifest(self.backup_id), keys.backup_config(self.backup_id)}
        assert whole <= set(self.left())
        assert len(self.left()) == verified.objects + len(whole)
        with self.truth.open(keys.chunk(self.backup_id, NODE, COLLECTION, 1)) as stream:
            found = {
                entry.path.removeprefix("article/s1/"): b"".join(entry.blocks)
                for entry in read_chunk(stream, compression=CompressionType.NONE, collection=COLLECTION)
            }
        assert found == self.nodes[number].shards["s1"]
