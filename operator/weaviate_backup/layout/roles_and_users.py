"""Roles and users as a server keeps and backs them up. Pure.

A node descriptor's `rbacBackups` is the JSON of the role store (casbin rules), `userBackups` the JSON of the dynamic
users with their key hashes. On disk the first is `raft/rbac/policy.csv`, the second `raft/db_users/users.json`, which
holds the very document. Nothing of them is ever part of a message: hashes are as good as the keys of weak ones.
"""

import csv
import json
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.go_json import ROLES, USERS, parse_for_go
from weaviate_backup.layout.json_bounds import JsonBounds

ROLE_PREFIX = "role:"
BUILT_IN_ROLES = frozenset({"role:admin", "role:viewer", "role:root", "role:read-only"})
ENVIRONMENT_ROLES = frozenset({"role:root", "role:read-only"})
"""Assigned by a server's settings alone; it makes them anew whenever it restores roles."""
PLACEHOLDER = "db:wv_internal_empty"
"""Stands for nobody: the server assigns every role to it, so that a role without permissions exists, too."""
DATABASE_SUBJECT = "db:"
POLICY_FIELDS = 4
ASSIGNMENT_FIELDS = 2
ROLES_VERSION = 1
USERS_VERSION = 0
KEY_HASH_BYTES = 32
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True)
class Roles:
    """`policies`: (role, resource, verb, domain); `assignments`: (subject, role). Names carry their prefixes."""

    policies: tuple[tuple[str, ...], ...]
    assignments: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> frozenset[str]:
        return frozenset({policy[0] for policy in self.policies} | {role for _, role in self.assignments})

    @property
    def custom(self) -> frozenset[str]:
        """Names of the roles that people made."""
        return self.names - BUILT_IN_ROLES

    @property
    def custom_policies(self) -> frozenset[tuple[str, ...]]:
        return frozenset(policy for policy in self.policies if policy[0] not in BUILT_IN_ROLES)

    @property
    def own_assignments(self) -> frozenset[tuple[str, ...]]:
        """Assignments that people made: not to the placeholder, and not of the roles that settings assign."""
        return frozenset(
            (subject, role)
            for subject, role in self.assignments
            if subject != PLACEHOLDER and role not in ENVIRONMENT_ROLES
        )

    @property
    def hold_something(self) -> bool:
        """Whether people made a role or an assignment."""
        return bool(self.custom or self.own_assignments)


class Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class User(Stored):
    """What is known of a user beside the key. Times stay as the server wrote them: they have nanoseconds."""

    id: str = Field(alias="Id")
    active: bool = Field(alias="Active", default=True)
    identifier: str = Field(alias="InternalIdentifier", default="", repr=False)
    key_first_letters: str = Field(alias="ApiKeyFirstLetters", default="", repr=False)
    created_at: str = Field(alias="CreatedAt", default="0001-01-01T00:00:00Z")
    imported: bool = Field(alias="ImportedWithKey", default=False)
    namespace: str = Field(alias="Namespace", default="")


@dataclass(frozen=True)
class KnownUser:
    """A user and how the key is checked: by a strong hash, or, for an imported key, by a weak one."""

    user: User
    revoked: bool
    secure_hash: str | None = field(repr=False)
    weak_hash: tuple[int, ...] | None = field(repr=False)


class _UserData(Stored):
    secure: dict[str, str] | None = Field(alias="SecureKeyStorageById", default=None, repr=False)
    users: dict[str, User] | None = Field(alias="Users", default=None)
    revoked: dict[str, dict[str, object]] | None = Field(alias="UserKeyRevoked", default=None)
    weak: dict[str, tuple[int, ...]] | None = Field(alias="ImportedApiKeysWeakHash", default=None, repr=False)


class _UserDocument(Stored):
    data: _UserData = Field(alias="Data")
    version: int = Field(alias="Version", default=USERS_VERSION)


class _RoleDocument(Stored):
    policies: tuple[tuple[str, ...], ...] | None = Field(alias="roles_policies", default=None)
    assignments: tuple[tuple[str, ...], ...] | None = Field(alias="grouping_policies", default=None)
    version: int = 0


def parse_policy_file(text: str) -> Roles:
    """`policy.csv`: lines `p, role, resource, verb, domain` and `g, subject, role`."""
    policies, assignments = [], []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            kind, *fields = next(csv.reader([stripped], skipinitialspace=True))
        except csv.Error as error:
            raise Permanent("RolesUnreadable", f"policy.csv has a line that cannot be read: {error}") from error
        if kind == "p" and len(fields) == POLICY_FIELDS:
            policies.append(tuple(fields))
        elif kind == "g" and len(fields) == ASSIGNMENT_FIELDS:
            assignments.append(tuple(fields))
        else:
            raise Permanent("RolesUnreadable", f"policy.csv has a line of kind {kind[:8]!r} with {len(fields)} fields")
    return Roles(tuple(policies), tuple(assignments))


def encode_roles(roles: Roles) -> bytes:
    """As a server writes it into its descriptor, to the byte."""
    document = {
        "roles_policies": roles.policies,
        "grouping_policies": roles.assignments,
        "version": ROLES_VERSION,
    }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for character, escape in _ESCAPED.items():
        text = text.replace(character, escape)
    return text.encode() + b"\n"


def parse_roles(content: bytes, *, bounds: JsonBounds, what: str) -> Roles:
    """A descriptor's `rbacBackups`. Raises `HostileBackup`; `what` names it."""
    found = parse_for_go(content, ROLES, bounds=bounds, what=f"the document of {what}")
    try:
        document = _RoleDocument.model_validate(found)
    except ValidationError as error:
        raise _unreadable(what, error) from None
    if document.version != ROLES_VERSION:
        raise Permanent("HostileBackup", f"{what} have version {document.version}, only {ROLES_VERSION} is known")
    roles = Roles(document.policies or (), document.assignments or ())
    if any(len(each) != POLICY_FIELDS for each in roles.policies) or any(
        len(each) != ASSIGNMENT_FIELDS for each in roles.assignments
    ):
        raise Permanent("HostileBackup", f"{what} hold rules of another form than role, resource, verb, domain")
    return roles


def no_users() -> bytes:
    """What a server writes when it has no dynamic user; its file is empty then."""
    maps = ("SecureKeyStorageById", "IdentifierToId", "IdToIdentifier", "Users", "UserKeyRevoked")
    data: dict[str, dict[str, object]] = {name: {} for name in (*maps, "ImportedApiKeysWeakHash")}
    return json.dumps({"Data": data, "Version": USERS_VERSION}, separators=(",", ":")).encode()


def parse_users(content: bytes, *, bounds: JsonBounds, what: str) -> dict[str, KnownUser]:
    """A descriptor's `userBackups` or a `users.json`, by user. Raises `HostileBackup`; `what` names it."""
    found = parse_for_go(content, USERS, bounds=bounds, what=f"the document of {what}")
    try:
        document = _UserDocument.model_validate(found)
    except ValidationError as error:
        raise _unreadable(what, error) from None
    if document.version != USERS_VERSION:
        raise Permanent("HostileBackup", f"{what} have version {document.version}, only {USERS_VERSION} is known")
    data = document.data
    known = {
        name: KnownUser(
            user=user,
            revoked=name in (data.revoked or {}),
            secure_hash=(data.secure or {}).get(name),
            weak_hash=(data.weak or {}).get(name),
        )
        for name, user in (data.users or {}).items()
    }
    for name, each in known.items():
        if each.user.id != name or not (each.secure_hash or each.weak_hash):
            raise Permanent("HostileBackup", f"{what}: user {name[:64]!r} has no key, or another name than its own")
        if each.weak_hash is not None and len(each.weak_hash) != KEY_HASH_BYTES:
            raise Permanent("HostileBackup", f"{what}: the imported key of user {name[:64]!r} has no hash")
    return known


def _unreadable(what: str, error: ValidationError) -> Permanent:
    """Says where, never what: the input holds hashes, and so may the library's own words of it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"][:2]) or "the document"
    return Permanent("HostileBackup", f"{what} cannot be read: {where} ({first['type']})")
