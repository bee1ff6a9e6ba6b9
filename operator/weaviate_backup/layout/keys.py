"""Names of a backup's objects, relative to the location's path: Weaviate's own, and our manifests beside them.

One function per object, all in this file. Weaviate's listing looks only for `*/backup_config.json`, so what is ours
never gets in its way.
"""

CLAIM = "operation.json"
BACKUP_CONFIG = "backup_config.json"
RESTORE_CONFIG = "restore_config.json"
NODE_DESCRIPTOR = "backup.json"
MANIFEST = "manifest.json"
MANIFEST_SIGNATURE = "manifest.json.sig"
NODE_MANIFEST = "manifest.json.zst"
SCHEMA = "schema.json.zst"
OURS = frozenset({MANIFEST, MANIFEST_SIGNATURE, NODE_MANIFEST, SCHEMA})
"""Last parts of keys that no server writes, of backups that have manifests. A claim may stand beside a server's."""


def claim(backup_id: str) -> str:
    """Ours, written first and deleted last: which operation may write and delete below the identifier."""
    return f"{backup_id}/{CLAIM}"


def backup_config(backup_id: str) -> str:
    """Weaviate's global descriptor: the commit marker, written last and deleted first."""
    return f"{backup_id}/{BACKUP_CONFIG}"


def restore_config(backup_id: str) -> str:
    """How Weaviate's own restore of the backup stands or ended; no part of the backup."""
    return f"{backup_id}/{RESTORE_CONFIG}"


def node_descriptor(backup_id: str, node: str) -> str:
    """Weaviate's descriptor of what one node holds."""
    return f"{backup_id}/{node}/{NODE_DESCRIPTOR}"


def schema(backup_id: str, node: str) -> str:
    """Ours, of the leader: what all nodes of the backup froze by."""
    return f"{backup_id}/{node}/{SCHEMA}"


def chunk(backup_id: str, node: str, collection: str, number: int) -> str:
    """One tar stream of a collection's files on a node. Numbers start at 1."""
    return f"{backup_id}/{node}/{collection}/chunk-{number}"


def manifest(backup_id: str) -> str:
    """Ours, of the whole backup; written just before the global descriptor."""
    return f"{backup_id}/{MANIFEST}"


def manifest_signature(backup_id: str) -> str:
    """Ours, of the manifest; written between it and the global descriptor, where a location says so."""
    return f"{backup_id}/{MANIFEST_SIGNATURE}"


def node_manifest(backup_id: str, node: str) -> str:
    """Ours, of one node: every chunk and every file with its checksum."""
    return f"{backup_id}/{node}/{NODE_MANIFEST}"


def is_ours(key: str) -> bool:
    """Whether only we write an object of that name: below a backup or a node of it, a collection has chunks alone."""
    return key.count("/") <= 2 and key.rpartition("/")[2] in OURS
