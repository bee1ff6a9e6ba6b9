"""The part of raft that is about roles and users: read, and replaced as a restore does it.

No API key is asked for. Two sets of commands: since 1.39.1 one command takes both documents of a backup and replaces
what is there, on every node and on disk; before, users and roles are made and removed one by one. Requests hold key
hashes, so a request is never part of a message.
"""

import base64
import json
from collections.abc import Iterable, Mapping

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.roles_and_users import ROLE_PREFIX, KnownUser
from weaviate_backup.layout.versions import version_key
from weaviate_backup.weaviate.protocol import cluster_pb2
from weaviate_backup.weaviate.raft import Json, RaftClient

ACCESS_TIMEOUT_SECONDS = 60.0
RESTORES_AT_ONCE_SINCE = (1, 39, 1)
PERMISSION_FORMAT = 4
"""Of roles' permissions in a request, as servers since 1.30 keep them."""
ASSIGNMENT_FORMAT = 1


def restores_at_once(server_version: str) -> bool:
    """Whether every node knows the command that replaces all roles and users. Older ones ignore it without a word."""
    return version_key(server_version) >= RESTORES_AT_ONCE_SINCE


class AccessClient(RaftClient):
    """Roles and users of the cluster, through any node."""

    async def role_names(self) -> frozenset[str] | None:
        """All roles, with their prefix; None when role-based access control is off: built-in roles exist otherwise."""

        def take(answer: Json | None) -> frozenset[str] | None:
            roles = (answer or {}).get("Roles")
            return frozenset(f"{ROLE_PREFIX}{name}" for name in roles) if roles else None

        return await self._query(cluster_pb2.QUERY_KIND_ROLES, {"Roles": []}, take)

    async def user_names(self) -> frozenset[str]:
        """All dynamic users."""

        def take(answer: Json | None) -> frozenset[str]:
            return frozenset((answer or {}).get("Users") or {})

        return await self._query(cluster_pb2.QUERY_KIND_USERS, {"UserIds": []}, take)

    async def restore_all(self, *, roles: bytes | None, users: bytes | None) -> int:
        """Replace everything by a backup's documents; what is None stays. Since 1.39.1."""
        documents = {
            "Roles": base64.b64encode(roles).decode() if roles else None,
            "Users": base64.b64encode(users).decode() if users else None,
            "StripNamespaces": False,
        }
        kind = cluster_pb2.COMMAND_KIND_RESTORE_ROLES_AND_USERS
        return await self._change(kind, documents, what="restoring roles and users")

    async def put_user(self, known: KnownUser) -> int:
        """Make or replace a user with the key, and the state, that it had."""
        user = known.user
        request: Json = {"UserId": user.id, "ApiKeyFirstLetters": user.key_first_letters, "CreatedAt": user.created_at}
        if known.secure_hash is not None:
            request |= {"SecureHash": known.secure_hash, "UserIdentifier": user.identifier, "Namespace": user.namespace}
            kind = cluster_pb2.COMMAND_KIND_UPSERT_USER
        else:
            request |= {"WeakHash": known.weak_hash}
            kind = cluster_pb2.COMMAND_KIND_CREATE_USER_WITH_KEY
        index = await self._change(kind, request, what=f"making user {user.id!r}")
        if known.revoked or not user.active:
            request = {"UserId": user.id, "RevokeKey": known.revoked}
            kind = cluster_pb2.COMMAND_KIND_SUSPEND_USER
            index = await self._change(kind, request, what=f"deactivating user {user.id!r}")
        if known.revoked and user.active:
            kind = cluster_pb2.COMMAND_KIND_ACTIVATE_USER
            index = await self._change(kind, {"UserId": user.id}, what=f"activating user {user.id!r}")
        return index

    async def delete_user(self, name: str) -> int:
        """Remove a user, and what the servers remember of its key. One that is not there is success."""
        kind = cluster_pb2.COMMAND_KIND_DELETE_USER
        return await self._change(kind, {"UserId": name}, what=f"deleting user {name!r}")

    async def put_roles(self, roles: Mapping[str, Iterable[tuple[str, ...]]]) -> int:
        """Add permissions to roles, which are made when they are not there. role -> policies."""
        request = {
            "Roles": {_bare(role): [_permission(policy) for policy in policies] for role, policies in roles.items()},
            "RoleCreation": False,
            "Version": PERMISSION_FORMAT,
        }
        return await self._change(cluster_pb2.COMMAND_KIND_UPSERT_ROLES, request, what="making roles")

    async def remove_permissions(self, role: str, policies: Iterable[tuple[str, ...]]) -> int:
        request = {
            "Role": _bare(role),
            "Permissions": [_permission(policy) for policy in policies],
            "Version": PERMISSION_FORMAT,
        }
        kind = cluster_pb2.COMMAND_KIND_REMOVE_PERMISSIONS
        return await self._change(kind, request, what=f"removing permissions of role {_bare(role)!r}")

    async def delete_roles(self, roles: Iterable[str]) -> int:
        """Remove roles and their assignments."""
        request = {"Roles": [_bare(role) for role in roles]}
        return await self._change(cluster_pb2.COMMAND_KIND_DELETE_ROLES, request, what="deleting roles")

    async def assign(self, subject: str, role: str) -> int:
        """`subject` carries its prefix, such as `db:alice`."""
        request = {"User": subject, "Roles": [_bare(role)], "Version": ASSIGNMENT_FORMAT}
        kind = cluster_pb2.COMMAND_KIND_ADD_ROLES_FOR_USER
        return await self._change(kind, request, what=f"assigning role {_bare(role)!r} to {subject!r}")

    async def revoke(self, subject: str, role: str) -> int:
        request = {"User": subject, "Roles": [_bare(role)], "Version": ASSIGNMENT_FORMAT}
        kind = cluster_pb2.COMMAND_KIND_REVOKE_ROLES_FOR_USER
        return await self._change(kind, request, what=f"revoking role {_bare(role)!r} from {subject!r}")

    async def _change(self, kind: cluster_pb2.CommandKind.ValueType, request: Json, *, what: str) -> int:
        arguments = json.dumps(request, separators=(",", ":")).encode()
        try:
            return await self._apply(kind, arguments, what=what, timeout_seconds=ACCESS_TIMEOUT_SECONDS)
        except Permanent as error:
            raise Permanent("AccessRefused", error.message) from error


def _bare(role: str) -> str:
    return role.removeprefix(ROLE_PREFIX)


def _permission(policy: tuple[str, ...]) -> Json:
    _, resource, verb, domain = policy
    return {"Resource": resource, "Verb": verb, "Domain": domain}
