"""Hard links to sealed files of the data volume, and what a volume without them means."""

import errno

from weaviate_backup.beneath import Held, Place
from weaviate_backup.errors import Permanent

NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


def link_sealed(held: Held, source: Place, destination: Place) -> int | None:
    """Link a sealed file; its bytes, or None when it has as many links as it can have. `HardLinksUnsupported` when none
    can be linked."""
    try:
        return held.link(source, destination).st_size
    except OSError as error:
        if error.errno == errno.EMLINK:
            return None
        if error.errno in NO_LINKS:
            raise Permanent(
                "HardLinksUnsupported",
                f"{source.name!r} cannot be hard-linked into {destination.parent}: {error.strerror}; the data "
                "volume must be one file system with hard links, or use method: Server",
            ) from error
        raise
