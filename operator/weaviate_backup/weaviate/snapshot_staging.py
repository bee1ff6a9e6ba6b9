"""Where the server stages a replica snapshot, and which live files a cut must still be completed with.

The reply of `CreateReplicaSnapshot` names neither the directory nor its mode, and the list forgets files: the state of
dynamic indexes (`index.db`), and geo logs before 1.38.10; flat metadata and migration records are hard links to files
that change in place. This module computes the directory, judges it and adds or replaces such files inside it, so that
everything in a cut is sealed. Synchronous file work, no network.
"""

import hashlib
import logging
import os
import re
import stat as modes
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from weaviate_backup.beneath import Held, Place, write_all
from weaviate_backup.errors import BackupError, Permanent, Transient

STAGING_PREFIX = ".replica-staging-"
LABEL_BYTES = 20
BOOKKEEPING = ("indexcount", "proplengths", "version")
"""Always copies: the server stages them even where hard links do not exist."""
CONSISTENT_READ_ATTEMPTS = 20
LIMIT_BYTES = 1 << 30
"""Of a file that is read whole."""
STATES = ("index.db", "meta*.db")
"""Of dynamic and of flat indexes."""

log = logging.getLogger(__name__)


def operation_id(operation_uid: str, collection: str, shard: str, cut: int) -> str:
    """One id per (operation, collection, shard, cut), the same after a restart: a repeated cut replaces its snapshot.

    It becomes part of a directory name, so it is made of `[a-z0-9-]` only.
    """
    digest = hashlib.sha256("\0".join((operation_uid, collection, shard, str(cut))).encode()).hexdigest()
    return f"{_label(operation_uid)}-{digest[:32]}"


def staging_directory(data_root: Place, operation: str, collection: str) -> Place:
    """The server's name: prefix, 20 bytes of "id-class", and 12 digits of a hash over all of it."""
    body = f"{operation}-{collection.lower()}"
    digest = hashlib.sha256((STAGING_PREFIX + body).encode()).hexdigest()[:12]
    label = body.encode()[:LABEL_BYTES].decode(errors="ignore")
    return data_root / f"{STAGING_PREFIX}{label}-{digest}"


def staging_left_over(data_root: Place, operation_uid: str) -> tuple[Place, ...]:
    """Staging directories that an operation left in a data root, whatever shards they were of."""
    start = f"{STAGING_PREFIX}{_label(operation_uid)}-"
    return tuple(data_root / name for name in data_root.names() if name.startswith(start))


def _label(operation_uid: str) -> str:
    return "wvb-" + re.sub(r"[^a-z0-9]", "", operation_uid.lower())[:8]


def shard_directory(data_root: Place, collection: str, shard: str) -> Place:
    return data_root / collection.lower() / shard


def check_names(names: tuple[str, ...]) -> None:
    """Refuse names that leave the shard's directory: they become paths that are read and written."""
    for name in names:
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or str(path) != name or "\\" in name:
            raise Permanent("UnexpectedAnswer", f"Weaviate listed {name!r}, which is no path inside a shard")


def check_staging(staging: Place, names: tuple[str, ...]) -> None:
    """Tell links from the server's mode without links, and both from a data path that is not the server's."""
    if not staging.is_directory():
        raise Permanent(
            "DataPathMismatch",
            f"Weaviate staged a snapshot, but {staging} does not exist: the data path given must be the server's "
            "PERSISTENCE_DATA_PATH, on the same volume",
        )
    with Held() as held:
        missing = [name for name in names if not held.is_file(staging / name)]
    if not missing:
        return
    if len(missing) == len([name for name in names if name not in BOOKKEEPING]):
        raise Permanent(
            "HardLinksUnsupported",
            f"the volume of {staging.parent} has no hard links (Weaviate staged none of {len(missing)} files): a shard "
            "would stay halted for the whole upload; use a volume with hard links, or method Server",
        )
    raise Transient("CutIncomplete", f"{len(missing)} of {len(names)} staged files are missing, first {missing[0]!r}")


def complete(staging: Place, live: Place, names: tuple[str, ...]) -> tuple[str, ...]:
    """Make a staged cut whole and sealed. Returns all names, `indexcount` last because it must be the newest.

    A doc id counter older than any index entry would make a restored shard give out the same id twice.
    """
    states = [name for pattern in STATES for name in live.names() if fnmatchcase(name, pattern)]
    added = [name for name in states if (live / name).is_file()]
    for name in added:
        _seal(live / name, staging / name)
    added.extend(_seal_geo_logs(staging, live, names))
    for name in names:
        if name.startswith("lsm/.migrations/") and (live / name).is_file():
            _seal(live / name, staging / name)
    _seal(live / "indexcount", staging / "indexcount")
    everything = [name for name in dict.fromkeys((*names, *added)) if name != "indexcount"]
    return (*everything, "indexcount")


def _seal_geo_logs(staging: Place, live: Place, names: tuple[str, ...]) -> list[str]:
    """Geo logs where the list forgets them. The active one is included: there the halt did not switch it."""
    added: list[str] = []
    for directory in live.names():
        if not fnmatchcase(directory, "geo.*.hnsw.commitlog.d") or any(
            name.startswith(directory + "/") for name in names
        ):
            continue
        for log_name, status in (live / directory).entries():
            if modes.S_ISREG(status.st_mode) and not log_name.endswith(".tmp") and status.st_size > 0:
                name = f"{directory}/{log_name}"
                try:
                    _seal(live / name, staging / name)
                except FileNotFoundError as error:  # condensed meanwhile
                    raise Transient("CutIncomplete", f"{name} vanished while it was copied") from error
                added.append(name)
    return added


def _seal(source: Place, target: Place) -> None:
    """A private copy of a file that may change while it is read, in place of a link if there is one."""
    content, mode = read_consistently(source)
    temporary = target.beside(target.name + ".sealing")
    target.parent.make_directory()
    temporary.unlink(missing_ok=True)
    with temporary.create() as stream:
        write_all(stream.fileno(), content)
        os.fchmod(stream.fileno(), mode)
    temporary.rename_to(target)


def read_consistently(place: Place) -> tuple[bytes, int]:
    """Content and mode of a small file that did not change from one reading to the next. Writes to such are rare."""
    before = place.read_bytes(limit_bytes=LIMIT_BYTES)
    for _ in range(CONSISTENT_READ_ATTEMPTS):
        after = place.read_bytes(limit_bytes=LIMIT_BYTES)
        if before == after:
            return after, place.stat().st_mode & 0o777
        before = after
    raise Transient("FileChanging", f"{place} changed during {CONSISTENT_READ_ATTEMPTS} readings")


def let_go_of(staging: Place) -> None:
    """Delete a staging directory that may be gone, or going, already. What keeps it must not keep the server, too: the
    release of the whole operation tries again, and says why it cannot."""
    try:
        staging.remove_tree()
    except (BackupError, OSError) as error:
        log.warning("%s stays for now: %s", staging, error)
