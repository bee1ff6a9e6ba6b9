"""Hard links to sealed files of the data volume, and what a volume without them means."""

import errno
import os
from pathlib import Path

from weaviate_backup.errors import Permanent

NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


def link_sealed(source: Path, destination: Path) -> bool:
    """Link a sealed file; False when it has as many links as it can have. `HardLinksUnsupported` when none can."""
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EMLINK:
            return False
        if error.errno in NO_LINKS:
            raise Permanent(
                "HardLinksUnsupported",
                f"{source.name!r} cannot be hard-linked into {destination.parent}: {error.strerror}; the data "
                "volume must be one file system with hard links, or use method: Server",
            ) from error
        raise
    return True
