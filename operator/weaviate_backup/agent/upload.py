"""UPLOAD: pack the frozen set into chunks, send them, then this node's manifest and, last, its native descriptor.

All that is sent comes from the frozen set and the journal, so that a repeated upload plans the same chunks and writes
the same documents; it sends only what the journal does not know. Neither is believed alone: the frozen set must hold
what the journal says of each shard, before anything is sent and while it is, and a chunk that was sent must hold what
is planned. Plans, records and documents are streams: a node may have millions of files.
"""

from collections.abc import Iterable, Iterator
from importlib.metadata import version

from weaviate_backup.agent.access import kept_access
from weaviate_backup.agent.chunk_sender import ChunkSender, sent_of, stored_record
from weaviate_backup.agent.describing import (
    believed,
    describe_class,
    describe_node,
    is_described,
    last_cut_at,
    shard_records,
)
from weaviate_backup.agent.fates import Fates, fates, frozen_of, records_of
from weaviate_backup.agent.frozen_plan import FrozenPlan, frozen_set_lost
from weaviate_backup.agent.journal import Journal, journal_damaged
from weaviate_backup.agent.kept_files import keep_file
from weaviate_backup.agent.survey import put_reading, read_schema
from weaviate_backup.agent.workspace import DOCUMENTS, FROZEN, Workspace
from weaviate_backup.core.session import Frozen, StepCommand, Uploaded
from weaviate_backup.layout import keys
from weaviate_backup.layout.descriptors import (
    ClassDescriptor,
    NodeDescriptor,
    ShardDescriptor,
    encode_in_pieces,
)
from weaviate_backup.layout.manifests import ChunkLine, Line, NodeHeader, StoredDocument, encode_lines
from weaviate_backup.layout.packing import Packing, PlannedChunk, survey
from weaviate_backup.layout.versions import reads_split_files
from weaviate_backup.stored.claiming import ClaimedPlace
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import Document, abort_unfinished, folder_of
from weaviate_backup.tasks import in_thread

DISTRIBUTION = "weaviate-backup-operator"


async def upload(workspace: Workspace, command: StepCommand, meter: Meter) -> Uploaded:
    """The step."""
    done = workspace.journal.result("uploaded", Uploaded)
    if done is not None:
        return done
    return await in_thread(_upload, workspace, command.collections, meter)


def _upload(workspace: Workspace, collections: tuple[str, ...], meter: Meter) -> Uploaded:
    journal, place = workspace.journal, workspace.place_in(workspace.open_store())
    place.refuse_strangers()
    what_became = fates_of(journal, collections)
    plan = plan_of(workspace, what_became)
    packing = survey(plan)
    begin_packing(journal, packing)
    meter.expect(bytes_total=packing.bytes_total, files_total=packing.parts)
    _clear_folder(workspace, place, packing)
    send(workspace, place, plan, packing, meter)
    result = _Documents(workspace, what_became, plan, packing, collections).store(place)
    journal.append("uploaded", result=result.model_dump(mode="json"))
    return result


def fates_of(journal: Journal, collections: Iterable[str]) -> Fates:
    """What became of each of their shards."""
    found = fates(journal)
    return {name: found.get(name, {}) for name in sorted(collections)}


def plan_of(workspace: Workspace, what_became: Fates) -> FrozenPlan:
    """The chunks of what is frozen."""
    order = workspace.backup
    split_bytes = order.split_file_bytes if reads_split_files(workspace.order.server_version) else None
    return FrozenPlan(workspace.directory / FROZEN, frozen_of(what_became), order.chunk_size_bytes, split_bytes)


def begin_packing(journal: Journal, packing: Packing) -> None:
    """Remember how the frozen set is packed. An agent that packs otherwise, of another version perhaps, begins anew:
    what its predecessor journaled does not fit between its own chunks."""
    begun = journal.last("uploading")
    if begun is None or begun.get("packing") != packing.digest:
        journal.append("uploading", packing=packing.digest)


def send(workspace: Workspace, place: ClaimedPlace, plan: FrozenPlan, packing: Packing, meter: Meter) -> None:
    """Every chunk. The frozen set is read for it once more, and must still be what was packed."""
    sent = Packing()
    ChunkSender(workspace, place, meter).send_all(_counted(plan, sent))
    if sent.digest != packing.digest:
        raise frozen_set_lost(f"{workspace.node} changed while they were sent")


def _counted(chunks: Iterable[PlannedChunk], packing: Packing) -> Iterator[PlannedChunk]:
    for chunk in chunks:
        packing.add(chunk)
        yield chunk


def _clear_folder(workspace: Workspace, place: ClaimedPlace, packing: Packing) -> None:
    """Nothing stays there that this packing will not write, from an earlier one or of a process that is dead."""
    backup_id, node = workspace.backup_id, workspace.node
    folder = folder_of(backup_id, node)
    abort_unfinished(place.store, folder)
    wanted = {
        keys.chunk(backup_id, node, collection, int(number))
        for collection, numbers in packing.shards_of_chunks.items()
        for number in numbers
    }
    wanted |= {keys.node_manifest(backup_id, node), keys.node_descriptor(backup_id, node)}
    if node == workspace.backup.leader:
        wanted.add(keys.schema(backup_id, node))
    place.delete([each.key for each in place.store.list(folder) if each.key not in wanted])


class _Documents:
    """This node's descriptor and manifest, made from the frozen set and the journal, the same ones each time."""

    def __init__(
        self,
        workspace: Workspace,
        what_became: Fates,
        plan: FrozenPlan,
        packing: Packing,
        collections: tuple[str, ...],
    ) -> None:
        self._workspace = workspace
        self._fates = what_became
        self._plan = plan
        self._packing = packing
        self._collections = sorted(collections)
        self._described: list[str] = []
        self._stored_bytes = 0

    def store(self, place: ClaimedPlace) -> Uploaded:
        """The manifest first: a node's part is whole once its descriptor is there."""
        workspace, directory = self._workspace, self._workspace.directory / DOCUMENTS
        head = self._head()
        descriptor = keep_file(directory / "descriptor", encode_in_pieces(head, self._classes()))
        place.refuse_strangers()
        survey = put_reading(workspace, place)  # it lies there, unless somebody took it away
        manifest = keep_file(directory / "manifest", encode_lines(self._lines(head, descriptor, survey)))
        place.put_exactly(keys.node_manifest(workspace.backup_id, workspace.node), manifest)
        place.put_exactly(keys.node_descriptor(workspace.backup_id, workspace.node), descriptor)
        directory.remove_tree()
        return Uploaded(
            manifest_sha256=manifest.sha256,
            objects=self._packing.chunks + 2 + (survey is not None),
            bytes_stored=self._stored_bytes
            + sum(each.size_bytes for each in (descriptor, manifest, survey) if each is not None),
        )

    def _head(self) -> NodeDescriptor:
        order = self._workspace.backup
        return describe_node(
            backup_id=self._workspace.backup_id,
            started_at=order.started_at,
            completed_at=last_cut_at(records_of(self._workspace.journal, self._fates)) or order.started_at,
            server_version=self._workspace.order.server_version,
            level=order.compression_level,
            bytes_total=self._packing.bytes_total,
            access=kept_access(self._workspace),
        )

    def _classes(self) -> Iterator[tuple[ClassDescriptor, Iterator[ShardDescriptor]]]:
        self._described.clear()
        leading = self._workspace.node == self._workspace.backup.leader
        for name in self._collections:
            schema, what_became = read_schema(self._workspace, name), self._fates[name]
            if not is_described(schema, what_became.values(), leading=leading):
                continue
            self._described.append(name)
            described = describe_class(
                name,
                schema,
                backup_id=self._workspace.backup_id,
                node=self._workspace.node,
                fates=what_became,
                chunks=self._packing.shards_of_chunks.get(name, {}),
                bytes_total=self._packing.bytes_of_collections.get(name, 0),
            )
            del schema
            yield described, self._shards(name)

    def _shards(self, collection: str) -> Iterator[ShardDescriptor]:
        for shard, files in self._plan.files_of(collection):
            yield ShardDescriptor(name=shard, node=self._workspace.node, files=tuple(each.path for each in files))

    def _lines(self, head: NodeDescriptor, descriptor: Document, survey: Document | None) -> Iterator[Line]:
        frozen = self._workspace.journal.result("frozen", Frozen)
        assert frozen is not None
        yield NodeHeader(
            operation_uid=self._workspace.uid,
            tool_version=version(DISTRIBUTION),
            backup_id=self._workspace.backup_id,
            node=self._workspace.node,
            server_version=self._workspace.order.server_version,
            compression_type=head.compression_type,
            collections=tuple(self._described),
            descriptor=StoredDocument(size_bytes=descriptor.size_bytes, sha256=descriptor.sha256),
            survey=StoredDocument(size_bytes=survey.size_bytes, sha256=survey.sha256) if survey else None,
            tenants_offloaded=frozen.tenants_offloaded,
        )
        yield from shard_records(records_of(self._workspace.journal, self._fates))
        yield from self._chunks()

    def _chunks(self) -> Iterator[ChunkLine]:
        """Each as it was stored, in order; as many as were planned."""
        sent, self._stored_bytes = sent_of(self._workspace.journal), 0
        for collection, numbers in sorted(self._packing.shards_of_chunks.items()):
            for number in map(int, numbers):
                at = sent.get((collection, number))
                if at is None:
                    raise journal_damaged("chunk")
                record = stored_record(self._workspace.journal, at)
                self._stored_bytes += record.stored_bytes
                with believed("chunk"):
                    line = ChunkLine.of(collection, record)
                yield line
