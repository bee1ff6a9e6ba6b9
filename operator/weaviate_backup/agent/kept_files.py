"""Large documents that are made on the volume, beside the frozen set, and stored from there."""

import hashlib
from collections.abc import Iterable, Iterator

from weaviate_backup.beneath import Place, write_all
from weaviate_backup.layout.compression import gathered
from weaviate_backup.stored.storing import READ_BLOCK_BYTES, Document


def keep_file(place: Place, pieces: Iterable[bytes]) -> Document:
    """In place of what a predecessor made there. It need not outlast anything: it is made anew from what does."""
    place.parent.make_directory()
    place.unlink(missing_ok=True)
    digest, size_bytes = hashlib.sha256(), 0
    with place.create(mode=0o600) as file:
        for block in gathered(pieces):
            write_all(file.fileno(), block)
            digest.update(block)
            size_bytes += len(block)
    return Document(lambda: _blocks_of(place), size_bytes, digest.hexdigest())


def _blocks_of(place: Place) -> Iterator[bytes]:
    with place.open() as file:
        while block := file.read(READ_BLOCK_BYTES):
            yield block
