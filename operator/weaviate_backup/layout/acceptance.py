"""What makes a stored backup no backup to restore: findings on its descriptors, by the rules that servers go by.

Weaviate applies these rules to its own restores (1.38.8 and 1.39 all of them, older ones fewer). Pure: descriptors come
in, findings go out, and no finding is the only good answer.
"""

from collections.abc import Iterator

from weaviate_backup.layout.descriptors import NEVER, STRUCTURE_VERSION, SUCCESS, BackupConfig, NodeDescriptor
from weaviate_backup.layout.integrity import Finding
from weaviate_backup.layout.versions import minor_key, version_key

OLDEST_STRUCTURE = (1, 0)
"""Structures up to this one hold files that are not compressed, beside a descriptor of one node only."""
OLDEST_SERVER = (1, 23)
"""Older servers kept all shards of a collection in one directory."""


def judge_config(config: BackupConfig, *, backup_id: str) -> Iterator[Finding]:
    """The global descriptor of the backup that was asked for. Its status is the caller's to judge."""
    if config.id != backup_id:
        message = f"the backup in the place of {backup_id!r} says that it is {config.id!r}; it was moved or overwritten"
        yield Finding("BackupIdMismatch", backup_id, message)
    if not config.nodes:
        yield Finding("BackupIncomplete", backup_id, "the backup names no node")
    elif config.leader and config.leader not in config.nodes:
        message = f"the backup names {config.leader[:64]!r} as its leader, which is none of its nodes"
        yield Finding("BackupIncomplete", backup_id, message)
    if config.error:
        yield Finding("BackupNotSuccessful", backup_id, f"the backup says of itself: {config.error[:200]}")
    if config.started_at == NEVER:
        yield Finding("BackupDamaged", backup_id, "the backup does not say when it was started")
    yield from judge_versions(config.version, config.server_version, subject=backup_id)


def judge_versions(structure: str, server: str, *, subject: str) -> Iterator[Finding]:
    """Structure and server version together say whether the layout is one that we know."""
    newest = version_key(STRUCTURE_VERSION)
    if version_key(structure)[0] == 0 or minor_key(server) == (0, 0):
        message = f"structure {structure[:40]!r} and server version {server[:40]!r} are no versions"
        yield Finding("BackupDamaged", subject, f"{subject}: {message}")
        return
    if version_key(structure)[0] > newest[0]:
        message = f"structure {structure[:40]} is newer than {STRUCTURE_VERSION}, which this version reads"
        yield Finding("FormatTooNew", subject, f"{subject}: {message}; update the operator")
    if minor_key(structure) <= OLDEST_STRUCTURE:
        message = f"structure {structure[:40]} holds uncompressed files, which nothing restores any more"
        yield Finding("FormatTooOld", subject, f"{subject}: {message}; restore it with Weaviate before 1.38")
    if minor_key(server) < OLDEST_SERVER:
        message = f"Weaviate {server[:40]} laid files out in another way than servers since 1.23"
        yield Finding("FormatTooOld", subject, f"{subject}: {message}; restore it with Weaviate before 1.38")


def judge_node(descriptor: NodeDescriptor, *, config: BackupConfig, node: str) -> Iterator[Finding]:
    """A node's descriptor beside the global one."""
    if descriptor.id != config.id:
        message = f"the descriptor of {node} belongs to backup {descriptor.id!r}; it was moved or overwritten"
        yield Finding("BackupIdMismatch", node, message)
    if descriptor.status != SUCCESS or descriptor.error:
        why = f" ({descriptor.error[:200]})" if descriptor.error else ""
        yield Finding("BackupNotSuccessful", node, f"node {node} ended as {descriptor.status[:40]}{why}, not SUCCESS")
    yield from judge_versions(descriptor.version, descriptor.server_version, subject=node)
    named = set(config.nodes[node].classes) if node in config.nodes else set()
    missing = sorted(named - {each.name for each in descriptor.classes})
    if missing:
        message = f"node {node} is said to hold {', '.join(missing[:3])}, which its descriptor does not know"
        yield Finding("BackupIncomplete", node, message)


def judge_leader(descriptor: NodeDescriptor, *, config: BackupConfig, node: str) -> Iterator[Finding]:
    """Schemas and sharding states come from the leader's descriptor alone."""
    missing = sorted(set(config.collections) - {each.name for each in descriptor.classes})
    if missing:
        message = f"node {node} leads the backup and must describe every collection, but lacks {', '.join(missing[:3])}"
        yield Finding("BackupIncomplete", node, message)


def judge_base(base: BackupConfig, *, child: BackupConfig, base_id: str) -> Iterator[Finding]:
    """A backup that another one builds on. One that is not older was made again and holds other bytes."""
    who = f"{base_id!r}, on which {child.id!r} builds,"
    if base.id != base_id:
        yield Finding("BaseUnusable", base_id, f"{who} says that it is {base.id!r}; it was moved or overwritten")
    if base.status != SUCCESS or base.error:
        yield Finding("BaseUnusable", base_id, f"{who} ended as {base.status[:40]}, not SUCCESS")
    if base.compression_type is not child.compression_type:
        message = f"{who} is compressed with {base.compression_type}, not {child.compression_type}"
        yield Finding("BaseUnusable", base_id, message)
    if base.started_at >= child.started_at:
        times = f"{base.started_at:%Y-%m-%dT%H:%M:%SZ}, not before {child.started_at:%Y-%m-%dT%H:%M:%SZ}"
        message = f"{who} was started at {times}: it was made again, the files that were meant are gone"
        yield Finding("BaseUnusable", base_id, message)
    yield from judge_versions(base.version, base.server_version, subject=base_id)
