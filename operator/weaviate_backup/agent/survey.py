"""The schema that a backup is of: read once, by the leader, and taken from the store by all nodes, itself included.

The nodes freeze at the same time, and one that is slow would see tenants that others do not: a tenant that comes, goes
or sleeps in between would be on one node and not on another. So who is there is of one instant; what a tenant is, its
own node sees when it cuts it.
"""

import asyncio
import hashlib
import io
import logging
from collections.abc import Iterator

from pydantic import BaseModel

from weaviate_backup.agent.kept_documents import keep_document, kept_document
from weaviate_backup.agent.workspace import SCHEMA, Workspace
from weaviate_backup.answers import document_bounds
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import StepCommand, Surveyed
from weaviate_backup.errors import ObjectNotFound, Permanent, Transient
from weaviate_backup.layout import keys
from weaviate_backup.layout.definitions import contradiction, made_anew, other_shards
from weaviate_backup.layout.schemas import FIELDS, Schema, encode_schema, read_schemas
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import Document, read_small
from weaviate_backup.tasks import in_thread, together
from weaviate_backup.weaviate.raft import RaftClient

COLLECTIONS_AT_ONCE = 4

log = logging.getLogger(__name__)


class _Taken(BaseModel):
    """Of the schema with that hash this node keeps these collections."""

    sha256: str
    collections: frozenset[str]


async def take_schema(workspace: Workspace, command: StepCommand, raft: RaftClient, meter: Meter) -> frozenset[str]:
    """Keeps the schema of every collection of the backup, and returns those that there are.

    Raises `SchemaLost` when it was taken away, `SchemaChanging` (which passes) when the leader reads it anew.
    """
    if workspace.node != workspace.backup.leader:
        if not command.schema_sha256:
            raise Permanent("InvalidRequest", f"freeze on {workspace.node} needs schema_sha256, as the leader told it")
        return await in_thread(_take, workspace, command.schema_sha256)
    surveyed = workspace.journal.result("surveyed", Surveyed)
    if surveyed is not None:
        try:
            kept = await in_thread(_take, workspace, surveyed.sha256)
        except (Permanent, Transient) as error:
            if error.reason not in ("SchemaLost", "SchemaChanging"):
                raise
            log.warning("the schema is read anew: %s", error)
        else:
            meter.tell(surveyed)
            return kept
    content = b"".join(await _read_all(raft, workspace.backup.collections))
    surveyed = Surveyed(sha256=hashlib.sha256(content).hexdigest())
    place = workspace.place_in(workspace.open_store())
    await in_thread(place.put_exactly, keys.schema(workspace.backup_id, workspace.node), Document.of(content))
    workspace.journal.append("surveyed", result=surveyed.model_dump(mode="json"))
    kept = await in_thread(_take, workspace, surveyed.sha256)
    meter.tell(surveyed)
    return kept


async def _read_all(raft: RaftClient, collections: tuple[str, ...]) -> list[bytes]:
    """Each as it is stored, those that are gone left out."""
    room, found = asyncio.Semaphore(COLLECTIONS_AT_ONCE), dict[str, bytes]()
    aliases = await raft.aliases()

    async def one(name: str) -> None:
        async with room:
            try:
                class_json, state, version = await raft.snapshot(name)
            except Permanent as error:
                if error.reason != "CollectionNotFound":
                    raise
                log.warning("collection %s is gone, it will be missing", name)
                return
        own = {alias: target for alias, target in aliases.items() if target == name}
        schema = {"class": class_json, "state": state, "aliases": own, "version": version}
        found[name] = await in_thread(encode_schema, name, schema)

    await together(one(name) for name in collections)
    return [found[name] for name in sorted(found)]


def _take(workspace: Workspace, sha256: str) -> frozenset[str]:
    """From the store, unless it was before: as long as all of it is there."""
    taken = workspace.journal.result("schema", _Taken)
    if taken is None or taken.sha256 != sha256 or not _is_kept(workspace, taken.collections):
        names = {_keep(workspace, name, schema) for name, schema in _read(workspace, sha256)}
        taken = _Taken(sha256=sha256, collections=frozenset(names))
        workspace.journal.append("schema", result=taken.model_dump(mode="json"))
    return taken.collections


def _is_kept(workspace: Workspace, collections: frozenset[str]) -> bool:
    there = (_place_of(workspace, name).is_file() for name in collections)
    return collections.issubset(workspace.backup.collections) and all(there)


def _read(workspace: Workspace, sha256: str) -> Iterator[tuple[str, Schema]]:
    leader, bounds = workspace.backup.leader, document_bounds()
    key = keys.schema(workspace.backup_id, leader)
    try:
        content = read_small(workspace.open_store(), key, limit_bytes=bounds.size_bytes)
    except ObjectNotFound as error:
        message = f"{key}, by which all nodes freeze, is not in the store any more; make a new backup"
        raise Permanent("SchemaLost", message) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Transient("SchemaChanging", f"{key} is not what {leader} told of; it reads the schema anew, or did")
    for collection, schema in read_schemas(io.BytesIO(content), what=key, bounds=bounds):
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
