"""Between tests, which make files by paths, and the product, which knows places below a root."""

from pathlib import Path

from weaviate_backup.beneath import Place, Root


def place_of(path: Path) -> Place:
    """As the root of a volume."""
    return Root(path).place


def path_of(place: Place) -> Path:
    return Path(str(place))
