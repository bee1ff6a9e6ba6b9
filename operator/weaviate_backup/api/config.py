"""The options of an operation, with the names, meanings and defaults of Weaviate's own request body."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from weaviate_backup.api.location import PATH_RULE
from weaviate_backup.api.model import ApiModel
from weaviate_backup.api.patterns import FREE_TEXT
from weaviate_backup.api.rules import matching, ranged

BACKUP_ID_PATTERN = r"^[a-z0-9_-]+$"
DEFAULT_TIMEOUT = "24h"
MAX_ADDRESS = 512


class CompressionLevel(StrEnum):
    """Weaviate's names. The first three are gzip, the next three zstd."""

    DEFAULT_COMPRESSION = "DefaultCompression"
    BEST_SPEED = "BestSpeed"
    BEST_COMPRESSION = "BestCompression"
    ZSTD_BEST_SPEED = "ZstdBestSpeed"
    ZSTD_DEFAULT_COMPRESSION = "ZstdDefaultCompression"
    ZSTD_BEST_COMPRESSION = "ZstdBestCompression"
    NO_COMPRESSION = "NoCompression"


class RestoreOption(StrEnum):
    """What becomes of the roles or users that a backup holds."""

    NO_RESTORE = "noRestore"
    ALL = "all"


CpuPercentage = Annotated[
    int,
    Field(
        ge=1,
        le=80,
        json_schema_extra=ranged(
            "config.cpuPercentage", 1, 80, "choose at most 80, so that Weaviate can go on serving"
        ),
    ),
]
BackupID = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=BACKUP_ID_PATTERN,
        json_schema_extra=matching(
            BACKUP_ID_PATTERN, "backupID may hold only lower-case letters, digits, '_' and '-'; choose another one"
        ),
    ),
]
ModuleAddresses = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=MAX_ADDRESS, pattern=FREE_TEXT)], ...],
    Field(max_length=64),
]
LocationPath = Annotated[str, Field(min_length=1, max_length=512, json_schema_extra=PATH_RULE)]


class BackupOptions(ApiModel):
    """The `config` of a backup."""

    cpu_percentage: CpuPercentage = 50
    """Share of an agent's CPUs that it may use, 1 to 80."""
    chunk_size: Annotated[
        int,
        Field(
            ge=2,
            le=512,
            json_schema_extra=ranged("config.chunkSize", 2, 512, "it counts MiB, and 128 is the default"),
        ),
    ] = 128
    """Size in MiB at which a chunk is full, 2 to 512."""
    compression_level: CompressionLevel = CompressionLevel.ZSTD_BEST_SPEED
    """Algorithm and effort, by Weaviate's names."""
    path: LocationPath | None = None
    """Use this path of the bucket, container or volume instead of the location's own."""


class RestoreOptions(ApiModel):
    """The `config` of a restore."""

    cpu_percentage: CpuPercentage = 50
    """Share of an agent's CPUs that it may use, 1 to 80."""
    path: LocationPath | None = None
    """Use this path of the bucket, container or volume instead of the location's own."""
    roles_options: RestoreOption = RestoreOption.NO_RESTORE
    """Whether the backup's roles and their assignments take the place of the target's: noRestore or all."""
    users_options: RestoreOption = RestoreOption.NO_RESTORE
    """Whether the backup's users, with the keys they had, take the place of the target's: noRestore or all."""
    module_addresses: ModuleAddresses = ()
    """Addresses that module settings of the collections may hold, such as a baseURL, exactly as the plan lists them, or
    * for any. The target's modules send texts and their own API keys there, so every other address is refused."""
