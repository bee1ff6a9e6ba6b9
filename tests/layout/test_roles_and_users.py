"""Roles and users as a server stores them: every field has its place, and another form of them is refused by name."""

import copy
import json
from typing import Any

import pytest

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.json_bounds import JsonBounds
from weaviate_backup.layout.roles_and_users import (
    Roles,
    encode_roles,
    no_users,
    parse_policy_file,
    parse_roles,
    parse_users,
)

BOUNDS = JsonBounds(1 << 20, 10_000)
SERVERS_OWN = ("role:admin", "role:viewer", "role:root", "role:read-only")
POLICY = """
p, role:readers, data/collections/.*/shards/.*/objects/.*, R, data

# a line for people
p, role:root, *, (C)|(R)|(U)|(D), *
g, db:wv_internal_empty, role:readers
g, db:alice, role:readers
g, db:bob, role:viewer
g, db:root-user, role:root
"""
ROLES: dict[str, Any] = {
    "roles_policies": [["role:a", "<x>&\u2028\u2029ä", "R", "data"]],
    "grouping_policies": [["db:alice", "role:a"]],
    "version": 1,
}
USERS: dict[str, Any] = {
    "Data": {
        "SecureKeyStorageById": {"alice": "$argon2id$", "carol": "$argon2id$2"},
        "IdentifierToId": {"i": "alice"},
        "IdToIdentifier": {"alice": "i"},
        "Users": {
            "alice": {
                "Id": "alice",
                "Active": False,
                "InternalIdentifier": "i",
                "ApiKeyFirstLetters": "abc",
                "CreatedAt": "2026-01-02T03:04:05.123456789Z",
                "LastUsedAt": "0001-01-01T00:00:00Z",
                "ImportedWithKey": True,
                "Namespace": "one",
            },
            "bob": {"Id": "bob"},
            "carol": {"Id": "carol"},
        },
        "UserKeyRevoked": {"carol": {}},
        "ImportedApiKeysWeakHash": {"bob": list(range(32))},
    },
    "Version": 0,
}


def users_of(document: dict[str, Any]) -> Any:
    return parse_users(json.dumps(document).encode(), bounds=BOUNDS, what="users")


def test_a_policy_file_is_read_line_by_line() -> None:
    roles = parse_policy_file(POLICY)
    assert roles.policies == (
        ("role:readers", "data/collections/.*/shards/.*/objects/.*", "R", "data"),
        ("role:root", "*", "(C)|(R)|(U)|(D)", "*"),
    )
    assert roles.names == {"role:readers", "role:root", "role:viewer"}
    assert roles.custom == {"role:readers"}
    assert roles.custom_policies == {roles.policies[0]}
    assert roles.own_assignments == {("db:alice", "role:readers"), ("db:bob", "role:viewer")}


@pytest.mark.parametrize("line", ["p, role:a, x, R", "g, db:a, role:b, *", "g, db:a", "x, role:a, x, R, data", "p"])
def test_a_line_of_another_form_is_not_guessed_at(line: str) -> None:
    with pytest.raises(Permanent, match=f"RolesUnreadable: .*kind '{line[0]}' with {line.count(',')} fields"):
        parse_policy_file(f"{POLICY}{line}\n")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p, role:admin, *, R, *\ng, db:wv_internal_empty, role:admin\ng, db:root, role:root", False),
        ("g, db:wv_internal_empty, role:mine", True),
        ("g, db:alice, role:admin", True),
        *((f"p, {role}, *, R, *\ng, db:wv_internal_empty, {role}", False) for role in SERVERS_OWN),
        ("", False),
    ],
    ids=["built in", "a role", "an assignment", *SERVERS_OWN, "nothing"],
)
def test_what_people_made_is_told_from_what_every_server_has(text: str, holds: bool) -> None:
    assert parse_policy_file(text).hold_something is holds


def test_roles_are_written_as_go_writes_them() -> None:
    written = encode_roles(Roles((("role:a", "<x>&\u2028\u2029ä", "R", "data"),), (("db:alice", "role:a"),)))
    assert (
        written
        == (
            '{"roles_policies":[["role:a","\\u003cx\\u003e\\u0026\\u2028\\u2029ä","R","data"]],'
            '"grouping_policies":[["db:alice","role:a"]],"version":1}\n'
        ).encode()
    )
    read = parse_roles(written, bounds=BOUNDS, what="roles")
    assert (read.policies, read.assignments) == ((tuple(ROLES["roles_policies"][0]),), (("db:alice", "role:a"),))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "roles have version 2, only 1 is known"),
        ({"version": 0}, "roles have version 0, only 1 is known"),
        ({"roles_policies": [["role:a", "x", "R"]]}, "roles hold rules of another form"),
        ({"grouping_policies": [["db:alice", "role:a", "*"]]}, "roles hold rules of another form"),
        ({"roles_policies": "secret"}, r"roles cannot be read: roles_policies \(tuple_type\)"),
    ],
)
def test_roles_of_another_form_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Permanent, match=f"HostileBackup: {said}"):
        parse_roles(json.dumps(ROLES | changes).encode(), bounds=BOUNDS, what="roles")
    empty = {"roles_policies": None, "grouping_policies": None, "version": 1}
    assert parse_roles(json.dumps(empty).encode(), bounds=BOUNDS, what="roles") == Roles((), ())


def test_maps_that_go_writes_as_null_are_empty() -> None:
    bob = {"Users": {"bob": {"Id": "bob"}}}
    secure, weak = {"SecureKeyStorageById": {"bob": "$argon2id$"}}, {"ImportedApiKeysWeakHash": {"bob": [0] * 32}}
    nothing = dict.fromkeys(USERS["Data"])
    for data in (secure, weak):
        (user,) = users_of({"Data": {**nothing, **bob, **data}, "Version": 0}).values()
        assert (user.secure_hash, user.weak_hash, user.revoked) == (
            "$argon2id$" if data is secure else None,
            None if data is secure else (0,) * 32,
            False,
        )
    assert users_of({"Data": nothing, "Version": 0}) == {}


def test_every_field_of_a_user_has_its_place() -> None:
    users = users_of(USERS)
    alice, bob, carol = users["alice"], users["bob"], users["carol"]
    assert alice.user.model_dump() == {
        "id": "alice",
        "active": False,
        "identifier": "i",
        "key_first_letters": "abc",
        "created_at": "2026-01-02T03:04:05.123456789Z",
        "imported": True,
        "namespace": "one",
    }
    assert bob.user.model_dump() == {
        "id": "bob",
        "active": True,
        "identifier": "",
        "key_first_letters": "",
        "created_at": "0001-01-01T00:00:00Z",
        "imported": False,
        "namespace": "",
    }
    assert (alice.revoked, alice.secure_hash, alice.weak_hash) == (False, "$argon2id$", None)
    assert (bob.secure_hash, bob.weak_hash) == (None, tuple(range(32)))
    assert carol.revoked
    assert not any(secret in repr(users) for secret in ("argon2id", "abc", "31"))


def test_users_of_another_form_are_refused() -> None:
    def changed(**data: Any) -> dict[str, Any]:
        document = copy.deepcopy(USERS)
        document["Data"].update(data)
        return document

    for document, said in (
        (USERS | {"Version": 1}, "users have version 1, only 0 is known"),
        (changed(SecureKeyStorageById={"carol": "h"}), "user 'alice' has no key"),
        (changed(Users={"alice": {"Id": "mallory"}}), "user 'alice' has no key, or another name"),
        (changed(ImportedApiKeysWeakHash={"bob": [1] * 31}), "the imported key of user 'bob' has no hash"),
        (changed(ImportedApiKeysWeakHash={"bob": [1] * 33}), "the imported key of user 'bob' has no hash"),
        (changed(Users={"alice": "secret"}), r"users cannot be read: Data.Users \(model_type\)"),
    ):
        with pytest.raises(Permanent, match=f"HostileBackup: .*{said}") as refused:
            users_of(document)
        assert "secret" not in refused.value.message


def test_no_users_are_what_a_server_writes_for_none() -> None:
    assert json.loads(no_users()) == {
        "Data": {key: {} for key in USERS["Data"]},
        "Version": 0,
    }
    assert parse_users(no_users(), bounds=BOUNDS, what="users") == {}
