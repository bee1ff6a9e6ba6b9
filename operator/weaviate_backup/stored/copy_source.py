"""Reads what there is to copy: a complete backup, and those that it builds on. Refuses what is not whole or unknown."""

import hashlib
import itertools
import re
from collections.abc import Iterable

from weaviate_backup.api.config import BACKUP_ID_PATTERN
from weaviate_backup.core.copy_plan import SourceBackup, gather_source
from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout import keys
from weaviate_backup.layout.acceptance import judge_base, judge_config, judge_node
from weaviate_backup.layout.descriptors import SUCCESS, chunk_keys
from weaviate_backup.layout.integrity import Finding, summarize
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.storing import prefix_of, read_document, sizes_of


def read_source(store: ObjectStore, backup_id: str, *, with_bases: bool) -> tuple[SourceBackup, ...]:
    """The backup and all that it builds on, the oldest first, so that one that is there can always be restored.

    Raises `InvalidRequest`, `BackupNotFound`, `BackupIncomplete`, `BackupNotSuccessful`, `BackupDamaged`, and what
    `acceptance` finds; without `with_bases`, `BasesNeeded` for one that builds on others.
    """
    if re.fullmatch(BACKUP_ID_PATTERN, backup_id) is None:
        message = f"{excerpt(backup_id, 80)!r} is no identifier of a backup, of lower-case letters, digits, _ and -"
        raise Permanent("InvalidRequest", message)
    reader = BackupReader(store, backup_id)
    _refuse_unfinished(store, reader)
    chain = (reader, *reader.bases)
    if len(chain) > 1 and not with_bases:
        bases = ", ".join(each.backup_id for each in chain[1:])
        message = f"backup {backup_id!r} holds only what changed since {bases}; copy those, too"
        raise Permanent("BasesNeeded", message)
    for child, base in itertools.pairwise(chain):
        _refuse(judge_base(base.config, child=child.config, base_id=base.backup_id))
    return tuple(_read(store, each) for each in reversed(chain))


def _refuse_unfinished(store: ObjectStore, reader: BackupReader) -> None:
    try:
        status = reader.config.status
    except Permanent as error:
        if error.reason == "BackupNotFound" and next(iter(store.list(prefix_of(reader.backup_id))), None):
            message = f"backup {reader.backup_id!r} has objects, but no {keys.BACKUP_CONFIG}: it was never completed"
            raise Permanent("BackupIncomplete", f"{message}; wait for its end, or copy another one") from error
        raise
    if status != SUCCESS:
        message = f"backup {reader.backup_id!r} stands at {status[:40]}, not {SUCCESS}; only a whole one is copied"
        raise Permanent("BackupNotSuccessful", message)


def _read(store: ObjectStore, reader: BackupReader) -> SourceBackup:
    backup_id, config = reader.backup_id, reader.config
    _refuse(judge_config(config, backup_id=backup_id))
    required: set[str] = set()
    for node in config.nodes:
        descriptor = reader.descriptor(node)
        _refuse(judge_node(descriptor, config=config, node=node))
        required.add(keys.node_descriptor(backup_id, node))
        required |= chunk_keys(descriptor, backup_id, node)
    return gather_source(
        backup_id,
        listed=sizes_of(store, prefix_of(backup_id)),
        required=required,
        written=_written(store, reader),
        marker=read_document(store, keys.backup_config(backup_id)),
        base_id=config.base_backup_id or None,
    )


def _written(store: ObjectStore, reader: BackupReader) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of every object, by our manifests; empty for a backup of a server."""
    if reader.manifest is None:
        return {}
    backup_id, key = reader.backup_id, keys.manifest(reader.backup_id)
    content = read_document(store, key)
    written = {key: (len(content), hashlib.sha256(content).hexdigest())}
    if reader.signature is not None:
        signature = reader.signature
        written[keys.manifest_signature(backup_id)] = (len(signature), hashlib.sha256(signature).hexdigest())
    for node, entry in reader.manifest.nodes.items():
        written[keys.node_manifest(backup_id, node)] = (entry.manifest.size_bytes, entry.manifest.sha256)
        contents = reader.contents(node)
        descriptor = contents.header.descriptor
        written[keys.node_descriptor(backup_id, node)] = (descriptor.size_bytes, descriptor.sha256)
        written |= contents.hashed
    return written


def _refuse(findings: Iterable[Finding]) -> None:
    found = tuple(findings)
    if found:
        raise Permanent(found[0].reason, summarize(found))
