"""The schema that a backup is of: read once, by the leader, and taken from the store by all nodes, itself included.

It stays in the backup, and is checked as its other objects are. The nodes freeze at the same time, and one that is slow
would see tenants that others do not: a tenant that comes, goes or sleeps in between would be on one node and not on
another. So who is there is of one instant; what a tenant is, its own node sees when it cuts it.
"""

import asyncio
import hashlib
import io
import logging
from collections.abc import Callable, Iterator

from pydantic import BaseModel

from weaviate_backup.agent.kept_documents import keep_content, keep_document, kept_document
from weaviate_backup.agent.workspace import SCHEMA, Workspace
from weaviate_backup.answers import document_bounds
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import StepCommand, Surveyed
from weaviate_backup.errors import ObjectNotFound, Permanent, Transient
from weaviate_backup.layout import keys
from weaviate_backup.layout.definitions import contradiction, made_anew, other_shards
from weaviate_backup.layout.schemas import FIELDS, Schema, encode_schema, read_schemas
from weaviate_backup.stored.claiming import ClaimedPlace
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import Document, read_small
from weaviate_backup.tasks import in_thread, together
from weaviate_backup.weaviate.raft import RaftClient, by_one_leader, if_there

COLLECTIONS_AT_ONCE = 4
SURVEY = "survey.jsonl.zst"
"""In an operation's directory, on the leader: what it read."""

log = logging.getLogger(__name__)


class Taken(BaseModel):
    """What this node keeps: of the reading with that hash these collections."""

    sha256: str
    collections: frozenset[str]


async def take_schema(workspace: Workspace, command: StepCommand, raft: RaftClient, meter: Meter) -> Taken:
    """Keeps the schema of every collection of the backup. The leader's journal and volume have what it read before
    anybody is told of it, so that it reads once, however often it starts again.

    Raises `SchemaLost` when somebody took it away, `SchemaChanging` (which passes) when it is another one there.
    """
    if workspace.node != workspace.backup.leader:
        if not command.schema_sha256:
            message = f"{workspace.node} freezes by what {workspace.backup.leader} read, and that has not told it yet"
            raise Transient("SchemaUnknown", message)
        return await in_thread(_take, workspace, command.schema_sha256, _stored)
    surveyed = workspace.journal.result("surveyed", Surveyed)
    if surveyed is None:
        lines = await by_one_leader(raft, lambda: _read_all(raft, workspace.backup.collections))
        content = b"".join(lines)
        surveyed = Surveyed(sha256=hashlib.sha256(content).hexdigest())
        await in_thread(_keep_reading, workspace, content)
        workspace.journal.append("surveyed", result=surveyed.model_dump(mode="json"))
    await in_thread(put_reading, workspace, workspace.place_in(workspace.open_store()))
    taken = await in_thread(_take, workspace, surveyed.sha256, _own)
    meter.tell(surveyed)
    return taken


def put_reading(workspace: Workspace, place: ClaimedPlace) -> Document | None:
    """Store what the leader read, unless it lies there. None where nothing was read: on others, or before a freeze."""
    surveyed = workspace.journal.result("surveyed", Surveyed)
    if surveyed is None:
        return None
    document = Document.of(_own(workspace, surveyed.sha256))
    place.put_exactly(keys.schema(workspace.backup_id, workspace.node), document)
    return document


def _keep_reading(workspace: Workspace, content: bytes) -> None:
    keep_content(workspace.directory / SURVEY, content, durable=True)
    workspace.directory.sync()


async def _read_all(raft: RaftClient, collections: tuple[str, ...]) -> list[bytes]:
    """Each as it is stored, those that are gone left out."""
    room, found = asyncio.Semaphore(COLLECTIONS_AT_ONCE), dict[str, bytes]()
    aliases = await raft.aliases()

    async def one(name: str) -> None:
        async with room:
            picture = await if_there(raft.snapshot(name))
        if picture is None:
            log.warning("collection %s is gone, it will be missing", name)
            return
        class_json, state, version = picture
        own = {alias: target for alias, target in aliases.items() if target == name}
        schema = {"class": class_json, "state": state, "aliases": own, "version": version}
        found[name] = await in_thread(encode_schema, name, schema)

    await together(one(name) for name in collections)
    return [found[name] for name in sorted(found)]


def _take(workspace: Workspace, sha256: str, read: Callable[[Workspace, str], bytes]) -> Taken:
    """Unless it was before: as long as all of it is there."""
    taken = workspace.journal.result("schema", Taken)
    if taken is None or taken.sha256 != sha256 or not _is_kept(workspace, taken.collections):
        found = _schemas_in(workspace, read(workspace, sha256))
        names = {_keep(workspace, name, schema) for name, schema in found}
        taken = Taken(sha256=sha256, collections=frozenset(names))
        workspace.journal.append("schema", result=taken.model_dump(mode="json"))
    return taken


def _is_kept(workspace: Workspace, collections: frozenset[str]) -> bool:
    there = (_place_of(workspace, name).is_file() for name in collections)
    return collections.issubset(workspace.backup.collections) and all(there)


def _own(workspace: Workspace, sha256: str) -> bytes:
    """What this node read, as its journal has it."""
    try:
        content = (workspace.directory / SURVEY).read_bytes(limit_bytes=document_bounds().size_bytes)
    except FileNotFoundError:
        content = b""
    if hashlib.sha256(content).hexdigest() != sha256:
        message = f"{workspace.directory / SURVEY} is not the schema that {workspace.node} read"
        raise Permanent("SchemaLost", f"{message}; make a new backup")
    return content


def _stored(workspace: Workspace, sha256: str) -> bytes:
    leader = workspace.backup.leader
    key = keys.schema(workspace.backup_id, leader)
    try:
        content = read_small(workspace.open_store(), key, limit_bytes=document_bounds().size_bytes)
    except ObjectNotFound as error:
        message = f"{key}, by which all nodes freeze, is not in the store any more; make a new backup"
        raise Permanent("SchemaLost", message) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Transient("SchemaChanging", f"{key} is not what {leader} told of: it read anew, or somebody changed it")
    return content


def _schemas_in(workspace: Workspace, content: bytes) -> Iterator[tuple[str, Schema]]:
    key = keys.schema(workspace.backup_id, workspace.backup.leader)
    for collection, schema in read_schemas(io.BytesIO(content), what=key, bounds=document_bounds()):
        if collection in workspace.backup.collections:
            yield collection, schema


def _place_of(workspace: Workspace, collection: str) -> Place:
    return workspace.directory / SCHEMA / f"{collection}.json"


def _kept(workspace: Workspace, collection: str) -> Schema | None:
    return kept_document(_place_of(workspace, collection), FIELDS)


def _keep(workspace: Workspace, collection: str, schema: Schema) -> str:
    """As the descriptors will hold it. A killed predecessor may have cut shards of another collection of that name."""
    before = _kept(workspace, collection)
    if before is not None:
        different = contradiction(before["class"], schema["class"]) or other_shards(before["state"], schema["state"])
        if different:
            raise made_anew(collection, different)
    keep_document(_place_of(workspace, collection), schema, durable=True)
    return collection


def read_schema(workspace: Workspace, collection: str) -> Schema:
    """What raft said of the collection before any shard was cut."""
    found = _kept(workspace, collection)
    if found is None:
        raise Permanent("CollectionNotFrozen", f"collection {collection!r} was not frozen on {workspace.node}")
    return found
