"""The options of an operation, with the names, meanings and defaults of Weaviate's own request body."""

from enum import StrEnum


class CompressionLevel(StrEnum):
    """Weaviate's names. The first three are gzip, the next three zstd."""

    DEFAULT_COMPRESSION = "DefaultCompression"
    BEST_SPEED = "BestSpeed"
    BEST_COMPRESSION = "BestCompression"
    ZSTD_BEST_SPEED = "ZstdBestSpeed"
    ZSTD_DEFAULT_COMPRESSION = "ZstdDefaultCompression"
    ZSTD_BEST_COMPRESSION = "ZstdBestCompression"
    NO_COMPRESSION = "NoCompression"
