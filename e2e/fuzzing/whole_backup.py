"""A whole backup of which one document is spoiled: as INSPECT reads it, and what DOWNLOAD would fetch.

Of ours the hashes above the document are made again, as whoever can write to a bucket can. The first line of a case is
the document's key.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import zstandard
from e2e.fuzzing import own_seeds
from e2e.fuzzing.judging import MIB, Broken, Format, Reading
from e2e.fuzzing.spoiling import Choices, Spoil, in_json, in_lines, packed
from tests.agent.foreign_backup import NODES, ForeignBackup

from weaviate_backup.agent.inspect_backup import read_contents_of
from weaviate_backup.agent.wanted_files import wanted_files
from weaviate_backup.answers import REPORT
from weaviate_backup.core.session import BackupContents
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter

OURS = "ours"
MANIFEST, PACKED, DESCRIPTOR, CONFIG = "manifest.json", "manifest.json.zst", "backup.json", "backup_config.json"
SERVERS = tuple(f"{backup_id}/{name}" for backup_id in ("b3", "b2") for name in (CONFIG, f"n0/{DESCRIPTOR}"))
OWN = tuple(f"{OURS}/{name}" for name in (CONFIG, MANIFEST, f"n0/{PACKED}", f"n0/{DESCRIPTOR}"))


def _open(directory: Path, _: Path | None) -> Reading:
    pristine = directory / "pristine"
    chain = own_seeds.chain_of_backups(pristine)
    own_seeds.with_all_fields(own_seeds.backup_with_manifests(pristine, OURS))
    _vouch(pristine, ours=ForeignBackup(pristine, OURS))
    live = directory / "live"
    shutil.copytree(pristine, live, dirs_exist_ok=True)
    corpus = [f"{key}\n".encode() + (pristine / key).read_bytes() for key in (*SERVERS, *OWN)]

    def read(content: bytes, _: Path) -> None:
        named, _line_break, document = content.partition(b"\n")
        key = named.decode(errors="replace")
        if key not in (*SERVERS, *OWN):
            return
        backup = ForeignBackup(live, OURS if key in OWN else chain.backup_id)
        try:
            (live / key).write_bytes(document)
            if key in OWN and not key.endswith(MANIFEST):
                _vouch(live, ours=backup)
            _restore(backup)
        finally:
            for each in (*SERVERS, *OWN):
                (live / each).write_bytes((pristine / each).read_bytes())

    return Reading(corpus, read)


def _restore(backup: ForeignBackup) -> None:
    reader = BackupReader(backup.store, backup.backup_id)
    contents = read_contents_of(reader, Meter())
    told = contents.model_dump_json().encode()
    REPORT.refuse_beyond(told)
    if BackupContents.model_validate_json(told) != contents:
        raise Broken("the report says something else at the other end")
    for each in (*contents.problems, *contents.warnings):
        if not each.message.isprintable() or len(each.message) > 4000:
            raise Broken(f"cannot be shown: {each.message!r:.500}")
    for node in NODES:
        try:
            wanted = wanted_files(reader, node, contents.collections)
        except Permanent as error:
            if not error.message.isprintable():
                raise Broken(f"cannot be shown: {error.message!r:.500}") from error
            continue
        if any(key.count("/") != 3 or ".." in key for key in wanted.objects):
            raise Broken("a chunk elsewhere is wanted")


def _vouch(root: Path, *, ours: ForeignBackup) -> None:
    """All hashes as they must be, from the descriptors up."""
    manifest = json.loads((root / OURS / MANIFEST).read_bytes())
    for node in NODES:
        place = root / OURS / node / PACKED
        try:
            with zstandard.ZstdDecompressor().stream_reader(
                io.BytesIO(place.read_bytes()), read_across_frames=True
            ) as reader:
                first, line_break, rest = reader.read(8 * MIB).partition(b"\n")
            header = json.loads(first)
            header["descriptor"] = _hashed((root / OURS / node / DESCRIPTOR).read_bytes())
            place.write_bytes(zstandard.compress(json.dumps(header).encode() + line_break + rest, 1))
        except (ValueError, TypeError, KeyError, RecursionError, zstandard.ZstdError):
            pass  # spoiled beyond that
        manifest["nodes"][node]["manifest"] = _hashed(place.read_bytes())
    manifest["marker"] = _hashed((root / OURS / CONFIG).read_bytes())
    ours.put_bytes(MANIFEST, json.dumps(manifest).encode())


def _hashed(content: bytes) -> dict[str, object]:
    return {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _spoil(choose: Choices, content: bytes, corpus: Sequence[bytes]) -> bytes:
    named, _, document = content.partition(b"\n")
    others = [each.partition(b"\n")[2] for each in corpus]
    if choose.number(0, 19) == 0:
        return b"%s\n%s" % (named, choose.one(others))
    spoil: Spoil = packed(in_lines) if named.endswith(PACKED.encode()) else in_json
    return b"%s\n%s" % (named, spoil(choose, document, others))


FORMATS = (Format("backup", _open, _spoil, seconds=10.0),)
