"""Names under which Kubernetes knows us: group, version, kinds, plurals. Published once, never changed."""

from typing import Final

GROUP: Final = "backup.weaviate.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

BACKUP_KIND: Final = "WeaviateBackup"
BACKUP_PLURAL: Final = "weaviatebackups"
RESTORE_KIND: Final = "WeaviateRestore"
RESTORE_PLURAL: Final = "weaviaterestores"
LOCATION_KIND: Final = "WeaviateBackupLocation"
LOCATION_PLURAL: Final = "weaviatebackuplocations"

FIELD_MANAGER: Final = "weaviate-backup-operator"
"""Of every object and status we apply."""
FINALIZER: Final = f"{GROUP}/operator"
"""Only while an operation is active, or when deleting the object also deletes the stored backup."""

MAX_OBJECT_NAME: Final = 52
"""Names of pods and Secrets are derived from an object's name and must stay within 63 characters."""
