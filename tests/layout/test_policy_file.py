"""A server's `policy.csv`, which whoever owns the volume may write."""

import pytest

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.json_bounds import JsonBounds
from weaviate_backup.layout.roles_and_users import Roles, encode_roles, parse_policy_file, parse_roles

BOUNDS = JsonBounds(1 << 20, 10_000)
FILE = """
# comment
p, role:editor, data/collections/Article/*, R, data
p, "role:a, b", *, "(C)|(R)", *
g, db:ada, role:editor
"""
ROLES = Roles(
    policies=(("role:editor", "data/collections/Article/*", "R", "data"), ("role:a, b", "*", "(C)|(R)", "*")),
    assignments=(("db:ada", "role:editor"),),
)


def test_rules_are_read_and_come_back_by_way_of_a_descriptor() -> None:
    assert parse_policy_file(FILE) == ROLES
    assert parse_roles(encode_roles(ROLES), bounds=BOUNDS, what="roles") == ROLES


@pytest.mark.parametrize(
    "line", ["p, a, b", "g, a", "x, a, b", '"', f"p, {'a' * 200_000}, b, c, d", "p, a, b, c, d, e", "\0"]
)
def test_a_line_that_is_no_rule_is_refused(line: str) -> None:
    with pytest.raises(Permanent, match=r"RolesUnreadable: policy\.csv has a line") as refused:
        parse_policy_file(f"g, db:ada, role:editor\n{line}\n")
    assert (len(refused.value.message) < 200, refused.value.message.isprintable()) == (True, True)
