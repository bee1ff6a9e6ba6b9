"""Reads the roles and users of this node's Weaviate from its disk, and keeps them for the descriptor.

They are read before the first shard is cut, and kept beside the frozen set in a file that only we may read, because
they hold key hashes. The role file is written in place by the server, and either may lag behind raft: a reading counts
once two of them are the same and name what raft names.
"""

import asyncio
import base64
from dataclasses import dataclass, field

from weaviate_backup.agent.kept_documents import keep_document, kept_document
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.answers import document_bounds
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import AccessCounts
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout.roles_and_users import (
    BUILT_IN_ROLES,
    ROLE_PREFIX,
    KnownUser,
    Roles,
    encode_roles,
    no_users,
    parse_policy_file,
    parse_roles,
    parse_users,
)
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate.raft_access import AccessClient

USERS_FILE = "raft/db_users/users.json"
ROLES_FILE = "raft/rbac/policy.csv"
LIMIT_BYTES = 256 << 20
KEPT_FILE = "access.json"
KEPT_FIELDS = {"roles": (str, type(None)), "users": (str, type(None))}
SETTLE_SECONDS = 90.0
"""After a restore of its own an older server writes its users once a minute."""
POLL_SECONDS = 0.1
SHOWN_CHARACTERS = 126
"""Of a subject and of a role: both and the arrow are what a restore's status shows of an assignment."""


@dataclass(frozen=True)
class Access:
    """The two documents as a server puts them into a descriptor; None: it has none. They hold secrets."""

    roles: bytes | None = field(default=None, repr=False)
    users: bytes | None = field(default=None, repr=False)


async def keep_access(workspace: Workspace, client: AccessClient, meter: Meter) -> None:
    """Read and keep, once per operation."""
    if (workspace.directory / KEPT_FILE).exists():
        return
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
    before: Access | None = None
    while True:
        meter.check()
        found, why = await _read_once(workspace.data_root, client)
        if found is not None and found == before:
            break
        before = found
        if asyncio.get_running_loop().time() > deadline:
            raise Transient("AccessUnsettled", f"roles and users on the disk of {workspace.node} do not settle: {why}")
        await asyncio.sleep(POLL_SECONDS)
    await in_thread(_keep, workspace.directory / KEPT_FILE, found)


async def _read_once(data_root: Place, client: AccessClient) -> tuple[Access | None, str]:
    """The documents, or why they are not to be believed now."""
    role_names, user_names = await client.role_names(), await client.user_names()
    try:
        found = await in_thread(read_access, data_root, roles_enabled=role_names is not None)
        users, roles = users_in(found.users, what=USERS_FILE), roles_in(found.roles, what=ROLES_FILE)
    except Permanent as error:  # half of a file
        return None, error.message
    if users.keys() != user_names:
        return None, f"{USERS_FILE} names {len(users)} users, raft {len(user_names)}"
    names = roles.names if roles else None
    if names != role_names:
        return None, f"{ROLES_FILE} names {len(names or ())} roles, raft {len(role_names or ())}"
    return found, "they change all the time"


def read_access(data_root: Place, *, roles_enabled: bool) -> Access:
    """What the files say now. Users that exist are backed up by servers even when they are switched off."""
    users = _content(data_root / USERS_FILE)
    roles = _content(data_root / ROLES_FILE) if roles_enabled else None
    return Access(
        roles=None if roles is None else encode_roles(parse_policy_file(_text(roles))),
        users=None if users is None else users or no_users(),
    )


def roles_in(document: bytes | None, *, what: str) -> Roles | None:
    """Raises `HostileBackup`; `what` names the document. None where there is none."""
    return parse_roles(document, bounds=document_bounds(), what=what) if document else None


def users_in(document: bytes | None, *, what: str) -> dict[str, KnownUser]:
    """The same of users; where there is no document there are none."""
    return parse_users(document, bounds=document_bounds(), what=what) if document else {}


def count_access(access: Access) -> AccessCounts:
    """For people: how much there is, never what."""
    roles, users = roles_in(access.roles, what="the backup's roles"), users_in(access.users, what="the backup's users")
    return AccessCounts(
        roles=len(roles.custom) if roles and roles.hold_something else None,
        users=len(users) or None,
    )


def names_of(access: Access) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Roles that people made, and dynamic users, by name and in order."""
    roles, users = roles_in(access.roles, what="the backup's roles"), users_in(access.users, what="the backup's users")
    custom = roles.custom if roles else frozenset()
    return tuple(sorted(name.removeprefix(ROLE_PREFIX) for name in custom)), tuple(sorted(users))


def assignments_of(access: Access) -> tuple[str, ...]:
    """Who is given which role, as `subject -> role`: those of built-in roles first, which nobody has to make."""
    roles = roles_in(access.roles, what="the backup's roles")
    found = sorted(
        roles.own_assignments if roles else (), key=lambda pair: (pair[1] not in BUILT_IN_ROLES, *reversed(pair))
    )
    return tuple(f"{_cut(subject)} -> {_cut(role.removeprefix(ROLE_PREFIX))}" for subject, role in found)


def _cut(name: str) -> str:
    """So that a long subject does not push the role out of sight."""
    return name if len(name) <= SHOWN_CHARACTERS else f"{name[: SHOWN_CHARACTERS - 1]}…"


def kept_access(workspace: Workspace) -> Access:
    """What `keep_access` kept."""
    try:
        kept = kept_document(workspace.directory / KEPT_FILE, KEPT_FIELDS)
        if kept is None:
            message = f"the roles and users that were read on {workspace.node} are gone; make a new backup"
            raise Permanent("FrozenSetLost", message)
        roles, users = (None if kept[key] is None else base64.b64decode(kept[key]) for key in ("roles", "users"))
    except ValueError as error:
        raise Permanent("UnreadableFile", f"{KEPT_FILE} is not what was kept there; make a new backup") from error
    return Access(roles=roles, users=users)


def _content(place: Place) -> bytes | None:
    try:
        return place.read_bytes(limit_bytes=LIMIT_BYTES)
    except FileNotFoundError:
        return None


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Permanent("RolesUnreadable", f"{ROLES_FILE} is no text") from error


def _keep(place: Place, access: Access) -> None:
    documents = {"roles": access.roles, "users": access.users}
    content = {key: None if value is None else base64.b64encode(value).decode() for key, value in documents.items()}
    keep_document(place, content, durable=True)
