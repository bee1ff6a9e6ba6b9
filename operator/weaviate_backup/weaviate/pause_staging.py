"""The private staging of a shard cut by Pause: links and copies beside the data, made while the shard is halted.

It lies where and is named as the server's own staging of newer releases, so left-overs are found and swept in one way.
A file in it says that the shard may be halted for us; it outlives a killed agent. Synchronous file work, no network.
"""

import stat as modes
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase

from weaviate_backup.beneath import Held, Place
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.weaviate import commit_log, locked_instant, snapshot_staging
from weaviate_backup.weaviate.hard_links import link_sealed
from weaviate_backup.weaviate.locked_instant import Lengths

HALTED = ".halted"
COUNTER_LIMIT_BYTES = 1 << 20
GEO = ("geo.*.hnsw.commitlog.d", "geo.*.hnsw.snapshot.d")
SERVER_COPY = ".copy.tmp"
"""`ListFiles` leaves consistent copies of the doc id counter and the property lengths under this ending."""


def prepare(staging: Place, live: Place) -> None:
    """An empty staging directory that says: from now on the shard may be halted for us."""
    if not live.is_directory():
        raise Permanent(
            "DataPathMismatch",
            f"Weaviate has shard {live.name}, but {live} does not exist: the data path given must be the server's "
            "PERSISTENCE_DATA_PATH, on the same volume",
        )
    staging.remove_tree()
    staging.make_directory(exist_ok=False)
    (staging / HALTED).create().close()


def may_be_halted(staging: Place) -> bool:
    """Also when something stands there that hides the answer: to resume a shard that is not halted does nothing."""
    try:
        return (staging / HALTED).exists()
    except (BackupError, OSError):
        return True


def no_longer_halted(staging: Place) -> None:
    """What keeps the mark there must not keep anything else from being let go of."""
    with suppress(BackupError, OSError):
        (staging / HALTED).unlink(missing_ok=True)


def shard_relative(names: tuple[str, ...], collection: str, shard: str) -> tuple[str, ...]:
    """The server's names without class and shard directory. `UnexpectedAnswer` for any that lies elsewhere."""
    start = f"{collection.lower()}/{shard}/"
    for name in names:
        if not name.startswith(start):
            raise Permanent("UnexpectedAnswer", f"Weaviate listed {name!r} for {collection}/{shard}")
    relative = tuple(name.removeprefix(start) for name in names)
    snapshot_staging.check_names(relative)
    return relative


def document_counter(live: Place) -> int:
    """The next document id at the instant of the last list, from the copy which the server then made."""
    return int.from_bytes((live / locked_instant.MARKER).read_bytes(limit_bytes=COUNTER_LIMIT_BYTES)[:8], "little")


def stage(staging: Place, live: Place, listed: tuple[str, ...], logs: tuple[str, ...]) -> tuple[str, ...]:
    """Link what is sealed, copy what is not, while the shard is halted. All names, `indexcount` last.

    The active `logs` are copied as they are now, and end later than the list; of an empty one there is nothing to take.
    `CutIncomplete` when a file is gone, as after a halt that did not last.
    """
    try:
        names = [name for name in dict.fromkeys((*listed, *_geo_files(live))) if name not in logs]
        with Held() as held:
            for name in names:
                _take(held, live / name, staging / name, name)
        for name in logs:
            if (live / name).stat().st_size > 0:
                _copy(live / name, staging / name)
                names.append(name)
        return snapshot_staging.complete(staging, live, tuple(names))
    except FileNotFoundError as error:
        raise Transient("CutIncomplete", f"shard {live.name} lost a file while it was cut: {error.filename}") from error


def end_logs(staging: Place, lengths: Lengths, next_document: int) -> None:
    """Take from the copied logs what came after the instant, at which they had those `lengths`."""
    for name, length in lengths.items():
        if (staging / name).is_file():
            commit_log.end_at_instant(staging / name, length, next_document)


def _geo_files(live: Place) -> Iterator[str]:
    """Logs and snapshots of geo indexes, which the list forgets: all there is, since their maintenance is paused."""
    for directory in live.names():
        if any(fnmatchcase(directory, pattern) for pattern in GEO):
            for name, status in (live / directory).entries():
                if modes.S_ISREG(status.st_mode) and status.st_size > 0 and not _is_scratch(name):
                    yield f"{directory}/{name}"


def _is_scratch(name: str) -> bool:
    return name.endswith(".tmp") or name.startswith(".")


def _take(held: Held, source: Place, target: Place, name: str) -> None:
    if name in snapshot_staging.BOOKKEEPING:
        copy = source.beside(source.name + SERVER_COPY)
        _copy(copy if copy.is_file() else source, target)
    elif link_sealed(held, source, target) is None:
        _copy(source, target)


def _copy(source: Place, target: Place) -> None:
    """Not synced: the shard is halted meanwhile."""
    target.parent.make_directory()
    source.copy_to(target, durable=False)
