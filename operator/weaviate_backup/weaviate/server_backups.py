"""The routes of Weaviate's own backup engine (`/v1/backups/{backend}`), spoken to on one node.

The node that is asked coordinates, and keeps an operation in memory until it ended; then the store tells. The engine
serves one operation of a kind at a time. Bucket and path are overridden by every request, so that the location counts
and not how the module happens to be configured; a place that is the module's own is left out, since only there does
the server find its unfinished backups after a restart. Wildcards are not sent: servers before 1.36 do not know them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from weaviate_backup.answers import understood
from weaviate_backup.api.config import BackupOptions, RestoreOptions
from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.server_place import ServerPlace
from weaviate_backup.errors import BackupError, Permanent, Transient, excerpt
from weaviate_backup.weaviate.rest import RestClient

Json = dict[str, Any]
OLD_SPELLINGS = {"CANCELLED": "CANCELED"}
BUSY_WORDS = ("already in progress", "in-flight reindex", "try again later")


@dataclass(frozen=True)
class ServerStatus:
    """`size_gib`: before compression, as far as the version tells it."""

    status: WeaviateStatus
    error: str = ""
    size_gib: float | None = None


class ServerBackups:
    """The engine as one node offers it, for one place. As a context manager it closes the client at the end."""

    def __init__(self, rest: RestClient, place: ServerPlace) -> None:
        self._rest = rest
        self._place = place
        self._root = f"/v1/backups/{place.backend}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._rest.close()

    async def create(self, backup_id: str, collections: Sequence[str], options: BackupOptions) -> None:
        """Begin. `ServerBusy` while the engine works on something else; any other refusal is `Permanent`."""
        config = {
            **self._place.config,
            "CPUPercentage": options.cpu_percentage,
            "ChunkSize": options.chunk_size,
            "CompressionLevel": str(options.compression_level),
        }
        await self._ask("POST", self._root, body={"id": backup_id, "include": list(collections), "config": config})

    async def status(self, backup_id: str) -> ServerStatus | None:
        """None: neither the node nor the store knows it."""
        return await self._status(f"{self._root}/{backup_id}")

    async def cancel(self, backup_id: str) -> None:
        """Tell all nodes to stop. One that is over already is left alone; the status tells."""
        await self._cancel(f"{self._root}/{backup_id}")

    async def restore(
        self,
        backup_id: str,
        collections: Sequence[str],
        options: RestoreOptions,
        *,
        node_mapping: dict[str, str],
        overwrite_alias: bool,
    ) -> None:
        """Begin, as `create`."""
        body: Json = {
            "include": list(collections),
            "config": {
                **self._place.config,
                "CPUPercentage": options.cpu_percentage,
                "rolesOptions": str(options.roles_options),
                "usersOptions": str(options.users_options),
            },
        }
        if node_mapping:
            body["node_mapping"] = node_mapping
        if overwrite_alias:
            body["overwriteAlias"] = True
        await self._ask("POST", f"{self._root}/{backup_id}/restore", body=body)

    async def restore_status(self, backup_id: str) -> ServerStatus | None:
        """Of the last restore of that backup, whenever it was; None: there was none."""
        return await self._status(f"{self._root}/{backup_id}/restore")

    async def cancel_restore(self, backup_id: str) -> None:
        """As `cancel`; since 1.36.0, and only before the schema is changed."""
        await self._cancel(f"{self._root}/{backup_id}/restore")

    async def _status(self, path: str) -> ServerStatus | None:
        try:
            answer = await self._rest.call("GET", path, query=self._place.query)
        except Permanent as error:
            if error.reason == "NotFound":
                return None
            raise
        with understood(f"GET {path}"):
            said, size = str(answer.get("status", "")), answer.get("size")
            trouble, size_gib = excerpt(str(answer.get("error") or ""), 1024), None if size is None else float(size)
        try:
            status = WeaviateStatus(OLD_SPELLINGS.get(said, said))
        except ValueError as error:
            raise Permanent("UnexpectedAnswer", f"GET {path}: Weaviate's status is {excerpt(said, 40)!r}") from error
        return ServerStatus(status, trouble, size_gib)

    async def _cancel(self, path: str) -> None:
        try:
            await self._rest.call("DELETE", path, query=self._place.query)
        except Permanent as error:
            if error.reason not in ("NotFound", "ServerRefused"):
                raise

    async def _ask(self, method: str, path: str, *, body: Json) -> None:
        try:
            await self._rest.call(method, path, body=body)
        except BackupError as error:
            raise _explained(error) from error


def _explained(error: BackupError) -> BackupError:
    """What a refused request means; a busy engine may be asked again."""
    said = error.message.lower()
    if any(words in said for words in BUSY_WORDS):
        return Transient("ServerBusy", f"Weaviate is at work on another backup or restore: {error.message}")
    if error.reason == "PermissionDenied":
        cure = "give the key of spec.auth a role with manage_backups on these collections"
        return Permanent(error.reason, f"{error.message}; {cure}")
    return error
