"""PROBE: does the location allow what an operation will do there? Small objects of our own, removed again."""

from collections.abc import Callable, Iterator

from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import Probed, StepCommand
from weaviate_backup.errors import BackupError, Permanent
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.meter import Meter

PROBE_PREFIX = ".weaviate-backup-probe"
BLOCK = bytes(1 << 20)
MULTIPART_BLOCKS = 20
"""More than one part of every store's usual part size."""


async def probe(workspace: Workspace, _: StepCommand, meter: Meter) -> Probed:
    """The step. A finding is a result, not a failure."""
    return await in_thread(_probe, workspace, meter)


def _probe(workspace: Workspace, meter: Meter) -> Probed:
    found: dict[str, str] = {}
    try:
        store = workspace.open_store()
    except BackupError as error:
        return Probed(actions={"check": str(error)})
    prefix = f"{PROBE_PREFIX}/{workspace.uid}-{workspace.node}"
    small, large = f"{prefix}/small", f"{prefix}/large"
    content = f"{workspace.uid} {workspace.node}".encode()
    actions: list[tuple[str, Callable[[], None]]] = [("check", store.check)]
    if not workspace.order.location.read_only:
        actions += [
            ("write", lambda: _put(store, small, lambda: iter((content,)))),
            ("read", lambda: _read_back(store, small, content)),
            ("list", lambda: _find(store, prefix, small)),
            ("multipart", lambda: _put(store, large, _large_blocks)),
            ("delete", lambda: _delete(store, prefix, (small, large))),
        ]
    for name, action in actions:
        meter.check()
        try:
            action()
            found[name] = ""
        except BackupError as error:
            found[name] = str(error)
    return Probed(actions=found)


def _large_blocks() -> Iterator[bytes]:
    return iter((BLOCK,) * MULTIPART_BLOCKS)


def _put(store: ObjectStore, key: str, blocks: Callable[[], Iterator[bytes]]) -> None:
    store.put(key, blocks)


def _read_back(store: ObjectStore, key: str, content: bytes) -> None:
    with store.open(key) as stream:
        if stream.read() != content:
            raise Permanent("ContentDiffers", f"{key} came back with other content than was written")


def _find(store: ObjectStore, prefix: str, key: str) -> None:
    if key not in {each.key for each in store.list(prefix)}:
        raise Permanent("ListIncomplete", f"{key} was written, but a listing does not show it")


def _delete(store: ObjectStore, prefix: str, keys: tuple[str, ...]) -> None:
    store.delete(keys)
    left = [each.key for each in store.list(prefix)]
    if left:
        raise Permanent("DeleteIneffective", f"{left[0]} was deleted, but a listing still shows it")
