"""Puts a backup's roles and users in the place of the target's, and proves it; like Weaviate's own restore, by raft.

What the backup does not hold is gone afterwards; what a server's settings assign (root, read-only) it keeps. Users get
the hashes of their keys back, so the keys of then work again. A server goes on remembering the key a user had before,
and would refuse the old one until it is restarted; it forgets it when the user is deleted. So users with another key
than the backup's are deleted first, which the server's own restore does not do.
"""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from weaviate_backup.agent.access import Access, read_access, roles_in, users_in
from weaviate_backup.agent.judged import judged_backup
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import AccessCounts, StepCommand
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout.roles_and_users import (
    BUILT_IN_ROLES,
    DATABASE_SUBJECT,
    KnownUser,
    Roles,
)
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate.raft_access import AccessClient, restores_at_once

TAKEN_SECONDS = 300.0
POLL_SECONDS = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WantedAccess:
    """What of the backup's documents is to be restored, as they are and read."""

    documents: Access
    roles: Roles | None
    users: dict[str, KnownUser] | None

    @property
    def counts(self) -> AccessCounts:
        return AccessCounts(
            roles=None if self.roles is None else len(self.roles.custom),
            users=None if self.users is None else len(self.users),
        )


async def apply_access(workspace: Workspace, wanted: WantedAccess, meter: Meter) -> AccessCounts:
    """Make the cluster's roles and users those of the backup, where that is ordered and the backup has some."""
    if wanted.roles is None and wanted.users is None:
        return AccessCounts()
    if workspace.journal.last("access-applied") is None:
        endpoint = workspace.weaviate
        async with workspace.watched(AccessClient(endpoint.host, endpoint.raft_port)) as client:
            await _replace(workspace, client, wanted, meter)
        workspace.journal.append("access-applied")
        log.info("roles and users are those of the backup (%s)", wanted.counts)
    return wanted.counts


async def confirm_access(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    """Wait until this node's own files, and raft, say that roles and users are the backup's."""
    if not (workspace.restore.roles or workspace.restore.users):
        return
    wanted = await in_thread(lambda: read_wanted(workspace, judged_backup(workspace, command)))
    if wanted.roles is None and wanted.users is None:
        return
    endpoint = workspace.weaviate
    deadline = asyncio.get_running_loop().time() + TAKEN_SECONDS
    async with workspace.watched(AccessClient(endpoint.host, endpoint.raft_port)) as client:
        while missing := await _missing(workspace.data_root, client, wanted):
            meter.check()
            if asyncio.get_running_loop().time() > deadline:
                raise Transient("AccessNotTaken", f"{workspace.node}: {missing}")
            await asyncio.sleep(POLL_SECONDS)


def read_wanted(workspace: Workspace, reader: BackupReader) -> WantedAccess:
    """The leader's descriptor speaks for the backup, as for Weaviate's own restore.

    A backup of a cluster that had none takes nothing away: every server writes an empty document of users, also one
    that has them switched off.
    """
    order = workspace.restore
    if not (order.roles or order.users):
        return WantedAccess(Access(), None, None)
    descriptor = reader.descriptor(reader.leader)
    roles = users = None
    if order.roles:
        roles = roles_in(descriptor.rbac_backups, what="the backup's roles")
    if order.users:
        users = users_in(descriptor.user_backups, what="the backup's users")
    roles = roles if roles and roles.hold_something else None
    documents = Access(
        roles=descriptor.rbac_backups if roles else None, users=descriptor.user_backups if users else None
    )
    return WantedAccess(documents, roles=roles, users=users or None)


async def _replace(workspace: Workspace, client: AccessClient, wanted: WantedAccess, meter: Meter) -> None:
    roles, users = await in_thread(_present, workspace.data_root)
    if wanted.users is not None:
        for name in sorted(name for name, each in users.items() if not _same_key(each, wanted.users.get(name))):
            meter.check()
            await client.delete_user(name)
    if restores_at_once(workspace.order.server_version):
        await client.restore_all(roles=wanted.documents.roles, users=wanted.documents.users)
        return
    if wanted.roles is not None:
        await _replace_roles(client, roles, wanted.roles, dynamic_users=users.keys())
    for name, known in sorted((wanted.users or {}).items()):
        meter.check()
        if users.get(name) != known:
            await client.put_user(known)


async def _replace_roles(client: AccessClient, there: Roles, wanted: Roles, *, dynamic_users: Collection[str]) -> None:
    """Built-in roles are never touched. Their assignments are, but for those of users that settings name."""
    by_role: dict[str, list[tuple[str, ...]]] = {role: [] for role in sorted(wanted.custom)}
    for policy in sorted(wanted.custom_policies):
        by_role[policy[0]].append(policy)
    if by_role:
        await client.put_roles(by_role)
    superfluous = sorted(there.custom - wanted.custom)
    if superfluous:
        await client.delete_roles(superfluous)
    for role in sorted(wanted.custom & there.custom):
        more = sorted(each for each in there.custom_policies - wanted.custom_policies if each[0] == role)
        if more:
            await client.remove_permissions(role, more)
    for subject, role in sorted(wanted.own_assignments - there.own_assignments):
        await client.assign(subject, role)
    for subject, role in sorted(there.own_assignments - wanted.own_assignments):
        by_settings = role in BUILT_IN_ROLES and subject.removeprefix(DATABASE_SUBJECT) not in dynamic_users
        if role not in superfluous and not by_settings:
            await client.revoke(subject, role)


def _present(data_root: Place) -> tuple[Roles, dict[str, KnownUser]]:
    """This node's roles and users. It is the applying one and up to date, or what it lags behind is made again."""
    try:
        found = read_access(data_root, roles_enabled=True)
        roles = roles_in(found.roles, what="this node's roles") or Roles((), ())
        return roles, users_in(found.users, what="this node's users")
    except Permanent as error:
        raise Transient("AccessUnsettled", f"the server is writing its roles or users: {error.message}") from error


async def _missing(data_root: Place, client: AccessClient, wanted: WantedAccess) -> str:
    """What is not as in the backup; empty when all is."""
    try:
        roles, users = await in_thread(_present, data_root)
    except Transient as error:
        return error.message
    missing = ""
    if wanted.users is not None:
        missing = missing_users(wanted.users, on_disk=users, in_raft=await client.user_names())
    if wanted.roles is not None and not missing:
        missing = missing_roles(wanted.roles, on_disk=roles, in_raft=await client.role_names() or frozenset())
    return missing


def missing_users(wanted: dict[str, KnownUser], *, on_disk: dict[str, KnownUser], in_raft: Collection[str]) -> str:
    """Numbers only: names and keys of users are nobody's business."""
    if set(in_raft) != wanted.keys():
        return f"raft names {len(in_raft)} users, the backup {len(wanted)}"
    if on_disk.keys() != wanted.keys():
        return f"the disk has {len(on_disk)} users, the backup {len(wanted)}"
    other = sum(not _same_key(on_disk[name], each) for name, each in wanted.items())
    return f"{other} of {len(wanted)} users have another key or state than in the backup" if other else ""


def missing_roles(wanted: Roles, *, on_disk: Roles, in_raft: Collection[str]) -> str:
    """Settings of the target may assign more than the backup knows."""
    absent = wanted.custom - set(in_raft)
    if absent:
        return f"raft lacks {len(absent)} of the backup's {len(wanted.custom)} roles"
    if on_disk.custom_policies != wanted.custom_policies:
        return "the permissions of roles are not those of the backup"
    lost = wanted.own_assignments - on_disk.own_assignments
    return f"{len(lost)} assignments of roles are not there" if lost else ""


def _same_key(one: KnownUser | None, other: KnownUser | None) -> bool:
    """Whether the same key opens for both, and both are let in alike."""
    if one is None or other is None:
        return False
    return (one.secure_hash, one.weak_hash, one.user.identifier, one.user.active, one.revoked) == (
        other.secure_hash,
        other.weak_hash,
        other.user.identifier,
        other.user.active,
        other.revoked,
    )
