"""Where the server stages a replica snapshot, and which live files a cut must still be completed with.

The reply of `CreateReplicaSnapshot` names neither the directory nor its mode, and the list forgets files: the state of
dynamic indexes (`index.db`), and geo logs before 1.38.10; flat metadata and migration records are hard links to files
that change in place. This module computes the directory, judges it and adds or replaces such files inside it, so that
everything in a cut is sealed. Synchronous file work, no network.
"""

import hashlib
import re
import shutil
from pathlib import Path, PurePosixPath

from weaviate_backup.errors import Permanent, Transient

STAGING_PREFIX = ".replica-staging-"
LABEL_BYTES = 20
BOOKKEEPING = ("indexcount", "proplengths", "version")
"""Always copies: the server stages them even where hard links do not exist."""
CONSISTENT_READ_ATTEMPTS = 20


def operation_id(operation_uid: str, collection: str, shard: str, cut: int) -> str:
    """One id per (operation, collection, shard, cut), the same after a restart: a repeated cut replaces its snapshot.

    It becomes part of a directory name, so it is made of `[a-z0-9-]` only.
    """
    digest = hashlib.sha256("\0".join((operation_uid, collection, shard, str(cut))).encode()).hexdigest()
    return f"{_label(operation_uid)}-{digest[:32]}"


def staging_directory(data_path: Path, operation: str, collection: str) -> Path:
    """The server's name: prefix, 20 bytes of "id-class", and 12 digits of a hash over all of it."""
    body = f"{operation}-{collection.lower()}"
    digest = hashlib.sha256((STAGING_PREFIX + body).encode()).hexdigest()[:12]
    label = body.encode()[:LABEL_BYTES].decode(errors="ignore")
    return data_path / f"{STAGING_PREFIX}{label}-{digest}"


def staging_left_over(data_path: Path, operation_uid: str) -> tuple[Path, ...]:
    """Staging directories that an operation left in a data root, whatever shards they were of."""
    return tuple(sorted(data_path.glob(f"{STAGING_PREFIX}{_label(operation_uid)}-*")))


def _label(operation_uid: str) -> str:
    return "wvb-" + re.sub(r"[^a-z0-9]", "", operation_uid.lower())[:8]


def shard_directory(data_path: Path, collection: str, shard: str) -> Path:
    return data_path / collection.lower() / shard


def check_names(names: tuple[str, ...]) -> None:
    """Refuse names that leave the shard's directory: they become paths that are read and written."""
    for name in names:
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or str(path) != name or "\\" in name:
            raise Permanent("UnexpectedAnswer", f"Weaviate listed {name!r}, which is no path inside a shard")


def check_staging(staging: Path, names: tuple[str, ...]) -> None:
    """Tell links from the server's mode without links, and both from a data path that is not the server's."""
    if not staging.is_dir():
        raise Permanent(
            "DataPathMismatch",
            f"Weaviate staged a snapshot, but {staging} does not exist: the data path given must be the server's "
            "PERSISTENCE_DATA_PATH, on the same volume",
        )
    missing = [name for name in names if not (staging / name).is_file()]
    if not missing:
        return
    if len(missing) == len([name for name in names if name not in BOOKKEEPING]):
        raise Permanent(
            "HardLinksUnsupported",
            f"the volume of {staging.parent} has no hard links (Weaviate staged none of {len(missing)} files): a shard "
            "would stay halted for the whole upload; use a volume with hard links, or method Server",
        )
    raise Transient("CutIncomplete", f"{len(missing)} of {len(names)} staged files are missing, first {missing[0]!r}")


def complete(staging: Path, live: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Make a staged cut whole and sealed. Returns all names, `indexcount` last because it must be the newest.

    A doc id counter older than any index entry would make a restored shard give out the same id twice.
    """
    states = [path for pattern in ("index.db", "meta*.db") for path in sorted(live.glob(pattern)) if path.is_file()]
    added = [_seal(path, staging / path.name).name for path in states]
    added.extend(_seal_geo_logs(staging, live, names))
    for name in names:
        if name.startswith("lsm/.migrations/") and (live / name).is_file():
            _seal(live / name, staging / name)
    _seal(live / "indexcount", staging / "indexcount")
    everything = [name for name in dict.fromkeys((*names, *added)) if name != "indexcount"]
    return (*everything, "indexcount")


def _seal_geo_logs(staging: Path, live: Path, names: tuple[str, ...]) -> list[str]:
    """Geo logs where the list forgets them. The active one is included: there the halt did not switch it."""
    added: list[str] = []
    for directory in sorted(live.glob("geo.*.hnsw.commitlog.d")):
        if any(name.startswith(directory.name + "/") for name in names):
            continue
        for path in sorted(directory.iterdir()):
            if path.is_file() and path.suffix != ".tmp" and path.stat().st_size > 0:
                name = f"{directory.name}/{path.name}"
                try:
                    _seal(path, staging / name)
                except FileNotFoundError as error:  # condensed meanwhile
                    raise Transient("CutIncomplete", f"{name} vanished while it was copied") from error
                added.append(name)
    return added


def _seal(source: Path, target: Path) -> Path:
    """A private copy of a file that may change while it is read, in place of a link if there is one."""
    content = read_consistently(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".sealing")
    temporary.write_bytes(content)
    shutil.copymode(source, temporary)
    temporary.replace(target)
    return target


def read_consistently(path: Path) -> bytes:
    """Content of a small file that did not change from one reading to the next. Writes to such files are rare."""
    before = path.read_bytes()
    for _ in range(CONSISTENT_READ_ATTEMPTS):
        after = path.read_bytes()
        if before == after:
            return after
        before = after
    raise Transient("FileChanging", f"{path} changed during {CONSISTENT_READ_ATTEMPTS} readings")


def remove_staging(staging: Path) -> None:
    """Delete a staging directory that may be gone, or going, already."""
    if staging.name.startswith(STAGING_PREFIX):
        shutil.rmtree(staging, ignore_errors=True)
