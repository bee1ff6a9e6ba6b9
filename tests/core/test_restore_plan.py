"""Every reason not to restore is found, all of them at once, and nothing else is refused."""

from dataclasses import replace

import pytest

from weaviate_backup.core.orders import BackupPin, conflict
from weaviate_backup.core.restore_plan import RestoreWishes, TargetFacts, plan_restore
from weaviate_backup.core.session import AccessCounts, BackupContents, Failure, Inspected, ModuleAddress

NODES = ("weaviate-0", "weaviate-1")
CONTENTS = BackupContents(
    server_version="1.38.3",
    layout_version="2.1",
    status="SUCCESS",
    leader="weaviate-0",
    nodes=NODES,
    collections=("Article", "Author"),
    aliases={"News": "Article"},
    verifiable=True,
    bytes_total=20,
)
TARGET = TargetFacts(nodes=dict.fromkeys(NODES, True), version="1.39.1", collections=("Other",))


def inspected(contents: BackupContents = CONTENTS, **changes: object) -> dict[str, Inspected]:
    found = Inspected(contents=contents, bytes_required=10, bytes_free=100)
    return dict.fromkeys(NODES, found.model_copy(update=changes))


def reasons(wishes: RestoreWishes, found: dict[str, Inspected], target: TargetFacts) -> set[str]:
    return {refusal.reason for refusal in plan_restore(wishes, found, target).refusals}


def test_a_fitting_backup_passes() -> None:
    verdict = plan_restore(RestoreWishes(), inspected(), TARGET)
    assert verdict.refusals == ()
    assert verdict.collections == ("Article", "Author")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (replace(TARGET, version="1.37.14"), "VersionTooOld"),
        (replace(TARGET, collections=("ARTICLE",)), "CollectionExists"),
        (replace(TARGET, aliases={"article": "Other"}), "AliasInTheWay"),
        (replace(TARGET, collections=("News",)), "CollectionInTheWay"),
        (replace(TARGET, nodes={"weaviate-0": True}), "NodeCountMismatch"),
        (replace(TARGET, nodes={"weaviate-0": True, "db-1": True}), "NodeNotFound"),
        (replace(TARGET, nodes={"weaviate-0": True, "weaviate-1": False}), "NodeNotReady"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(target: TargetFacts, reason: str) -> None:
    assert reason in reasons(RestoreWishes(), inspected(), target)


def test_more_collections_than_a_status_remembers_are_refused() -> None:
    many = CONTENTS.model_copy(update={"collections": tuple(f"C{number}" for number in range(1001)), "aliases": {}})
    assert reasons(RestoreWishes(), inspected(many), TARGET) == {"TooManyCollections"}
    assert reasons(RestoreWishes(include=("C1*",)), inspected(many), TARGET) == set()


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (inspected(CONTENTS.model_copy(update={"status": "STARTED"})), "BackupNotSuccessful"),
        (inspected(bytes_free=9), "NotEnoughSpace"),
        (inspected(directories_in_the_way=("article",)), "DirectoryInTheWay"),
        (inspected(problems=(Failure(reason="Damaged", message="m", transient=False),)), "Damaged"),
    ],
)
def test_a_backup_or_disk_that_does_not_fit_is_refused(found: dict[str, Inspected], reason: str) -> None:
    assert reasons(RestoreWishes(), found, TARGET) == {reason}


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (RestoreWishes(include=("Nothing",)), {"CollectionNotFound"}),
        (RestoreWishes(exclude=("*",)), {"NothingSelected"}),
        (RestoreWishes(node_mapping={"db-9": "weaviate-0"}), {"NodeMappingUnknown"}),
        (RestoreWishes(node_mapping={"weaviate-1": "weaviate-0"}), {"NodeMappingAmbiguous"}),
        (RestoreWishes(node_mapping={"weaviate-0": "weaviate-1", "weaviate-1": "weaviate-0"}), set()),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(wishes: RestoreWishes, expected: set[str]) -> None:
    assert reasons(wishes, inspected(), TARGET) == expected


def test_all_reasons_are_listed_at_once() -> None:
    target = replace(TARGET, version="1.30.0", collections=("Article", "author"))
    found = inspected(bytes_free=0)
    assert reasons(RestoreWishes(), found, target) == {"VersionTooOld", "CollectionExists", "NotEnoughSpace"}


def test_collections_that_would_share_a_directory_are_refused_unless_one_is_left_out() -> None:
    found = inspected(CONTENTS.model_copy(update={"collections": ("Article", "ARTICLE", "Book")}))
    assert reasons(RestoreWishes(), found, TARGET) == {"NamesCollide"}
    assert reasons(RestoreWishes(exclude=("ARTICLE",)), found, TARGET) == set()


def test_what_is_not_restored_is_in_nobodys_way() -> None:
    target = replace(TARGET, collections=("Author",), aliases={"News": "Other"})
    found = inspected(directories_in_the_way=("author",))
    verdict = plan_restore(RestoreWishes(exclude=("Author",)), found, target)
    assert verdict.refusals == ()
    (kept,) = verdict.warnings
    assert (kept.reason, kept.message) == ("AliasKept", "alias News stays with Other; set overwriteAlias to move it")


def test_the_directory_of_a_collection_that_exists_is_no_left_over() -> None:
    name = CONTENTS.collections[0]
    target = TargetFacts(nodes=TARGET.nodes, version=TARGET.version, collections=(name,))
    found = inspected(directories_in_the_way=(name.lower(),))
    assert reasons(RestoreWishes(), found, target) == {"CollectionExists"}
    assert reasons(RestoreWishes(), found, TARGET) == {"DirectoryInTheWay"}


@pytest.mark.parametrize(
    ("made_by", "target", "refused", "warned"),
    [
        ("1.39.0", "1.38.11", {"VersionTooOld"}, set()),
        ("1.39.1", "1.37.14", {"VersionTooOld"}, set()),
        ("2.0.0", "1.39.1", {"VersionTooOld"}, set()),
        ("1.37.14", "1.39.1", set(), set()),
        ("1.39.1", "1.39.1", set(), set()),
        ("1.39.1", "1.39.0", set(), {"PatchOlder"}),
        ("1.39.1-rc.0", "1.39.1", set(), set()),
    ],
)
def test_a_newer_release_is_refused_and_a_newer_patch_is_told(
    made_by: str, target: str, refused: set[str], warned: set[str]
) -> None:
    found = inspected(CONTENTS.model_copy(update={"server_version": made_by}))
    verdict = plan_restore(RestoreWishes(), found, replace(TARGET, version=target))
    assert {each.reason for each in verdict.refusals} == refused
    assert {each.reason for each in verdict.warnings} == warned


def test_what_a_backup_warns_of_is_passed_on() -> None:
    warning = Failure(reason="NotVerifiable", message="no checksums", transient=False)
    verdict = plan_restore(RestoreWishes(), inspected(CONTENTS.model_copy(update={"warnings": (warning,)})), TARGET)
    assert (verdict.refusals, verdict.warnings) == ((), (warning,))


BOTH = RestoreWishes(roles=True, users=True)
FULL = CONTENTS.model_copy(update={"access": AccessCounts(roles=2, users=3)})


@pytest.mark.parametrize(
    ("wishes", "contents", "enabled", "refused", "warned"),
    [
        (BOTH, FULL, (True, True), set(), set()),
        (BOTH, FULL, (True, None), set(), set()),
        (BOTH, FULL, (False, True), {"RolesDisabled"}, set()),
        (BOTH, FULL, (True, False), {"UsersDisabled"}, set()),
        (BOTH, FULL, (False, False), {"RolesDisabled", "UsersDisabled"}, set()),
        (BOTH, CONTENTS, (False, False), set(), {"NoRolesInBackup", "NoUsersInBackup"}),
        (RestoreWishes(), FULL, (None, None), set(), set()),
        (RestoreWishes(users=True), FULL, (None, True), set(), set()),
    ],
)
def test_roles_and_users_need_a_target_that_has_them(
    wishes: RestoreWishes,
    contents: BackupContents,
    enabled: tuple[bool | None, bool | None],
    refused: set[str],
    warned: set[str],
) -> None:
    roles, users = enabled
    verdict = plan_restore(wishes, inspected(contents, roles_enabled=roles), replace(TARGET, users_enabled=users))
    assert {refusal.reason for refusal in verdict.refusals} == refused
    assert {warning.reason for warning in verdict.warnings} == warned


ADDRESS = ModuleAddress(address="https://e.example/v1", setting="text2vec-openai.baseURL", collections=("Author",))
CALLING = CONTENTS.model_copy(update={"addresses": (ADDRESS,), "roles": ("editor",), "users": ("jane",)})


@pytest.mark.parametrize(
    ("wishes", "refused"),
    [
        (RestoreWishes(), True),
        (RestoreWishes(module_addresses=("https://e.example/v1/",)), True),
        (RestoreWishes(module_addresses=("https://*",)), True),
        (RestoreWishes(module_addresses=("https://e.example/v1",)), False),
        (RestoreWishes(module_addresses=("*",)), False),
        (RestoreWishes(exclude=("Author",)), False),
    ],
)
def test_an_address_that_a_collection_brings_needs_a_word_of_consent(wishes: RestoreWishes, refused: bool) -> None:
    verdict = plan_restore(wishes, inspected(CALLING), TARGET)
    assert {refusal.reason for refusal in verdict.refusals} == ({"ModuleAddressNotAllowed"} if refused else set())
    assert all(
        "'https://e.example/v1' is text2vec-openai.baseURL of collection Author" in r.message for r in verdict.refusals
    )
    assert verdict.addresses == (() if wishes.exclude else (ADDRESS,))


def test_roles_and_users_that_would_come_are_named() -> None:
    assert (plan_restore(RestoreWishes(), inspected(CALLING), TARGET).roles) == ()
    verdict = plan_restore(BOTH, inspected(CALLING, roles_enabled=True), replace(TARGET, users_enabled=True))
    assert (verdict.roles, verdict.users) == (("editor",), ("jane",))


def test_who_would_be_given_roles_is_told_with_the_roles() -> None:
    """As of a backup that holds no role and no user, and makes somebody of OIDC an admin."""
    access, given = AccessCounts(roles=0, users=3), ("oidc:mallory@evil.example -> admin",)
    contents = CONTENTS.model_copy(update={"access": access, "assignments": given, "assignments_count": 9})
    target = replace(TARGET, users_enabled=True)

    def told(wishes: RestoreWishes) -> tuple[object, ...]:
        verdict = plan_restore(wishes, inspected(contents, roles_enabled=True), target)
        return verdict.roles_count, verdict.users_count, verdict.assignments, verdict.assignments_count

    assert told(BOTH) == (0, 3, given, 9)
    assert told(RestoreWishes(roles=True)) == (0, 0, given, 9)
    assert told(RestoreWishes(users=True)) == (0, 3, (), 0)


@pytest.mark.parametrize(
    ("overwrite", "aliases", "replaced", "warned"),
    [(False, (), (), {"AliasKept"}), (True, ("News",), ("News",), set())],
)
def test_an_alias_that_stands_for_another_collection_stays_unless_it_may_be_moved(
    overwrite: bool, aliases: tuple[str, ...], replaced: tuple[str, ...], warned: set[str]
) -> None:
    target = replace(TARGET, aliases={"News": "Other"})
    verdict = plan_restore(RestoreWishes(overwrite_alias=overwrite), inspected(), target)
    assert (verdict.aliases, verdict.aliases_replaced) == (aliases, replaced)
    assert {warning.reason for warning in verdict.warnings} == warned
    assert verdict.refusals == ()
    assert plan_restore(RestoreWishes(include=("Author",)), inspected(), target).aliases == ()


@pytest.mark.parametrize(
    ("overwrite", "aliases", "replaced", "told"),
    [
        (
            False,
            (),
            (),
            "AliasKept: alias News, which the target spells NEWS, stays with Other; set overwriteAlias to move it",
        ),
        (
            True,
            ("News",),
            ("NEWS",),
            "AliasRespelled: alias News, which the target spells NEWS, moves from Other to Article and is then "
            "spelled as in the backup",
        ),
    ],
)
def test_an_alias_in_another_spelling_is_the_same_alias(
    overwrite: bool, aliases: tuple[str, ...], replaced: tuple[str, ...], told: str
) -> None:
    """The server takes no two that differ in case alone."""
    target = replace(TARGET, aliases={"NEWS": "Other"})
    verdict = plan_restore(RestoreWishes(overwrite_alias=overwrite), inspected(), target)
    assert (verdict.aliases, verdict.aliases_replaced, verdict.refusals) == (aliases, replaced, ())
    assert [f"{each.reason}: {each.message}" for each in verdict.warnings] == [told]


@pytest.mark.parametrize("overwrite", [False, True])
def test_weaviates_own_restore_would_fail_over_another_spelling(overwrite: bool) -> None:
    wishes = RestoreWishes(by_server=True, overwrite_alias=overwrite)
    verdict = plan_restore(wishes, inspected(), replace(TARGET, aliases={"NEWS": "Other"}))
    (refusal,) = verdict.refusals
    assert refusal.reason == "AliasInTheWay"
    assert "delete NEWS or exclude Article" in refusal.message
    assert reasons(wishes, inspected(), replace(TARGET, aliases={"News": "Other"})) == set()


def test_aliases_of_the_backup_that_differ_in_case_alone_are_refused_unless_one_is_left_out() -> None:
    found = inspected(CONTENTS.model_copy(update={"aliases": {"News": "Article", "NEWS": "Author"}}))
    assert reasons(RestoreWishes(), found, TARGET) == {"NamesCollide"}
    assert reasons(RestoreWishes(exclude=("Author",)), found, TARGET) == set()


@pytest.mark.parametrize(
    ("mapping", "nodes", "reason"),
    [
        ({"gone-0": "weaviate-0"}, NODES, "NodeMappingUnknown"),
        ({"weaviate-0": "db-9"}, NODES, "NodeNotFound"),
        ({"weaviate-0": "weaviate-1"}, NODES, "NodeMappingAmbiguous"),
        ({"weaviate-0": "db-0", "weaviate-1": "db-0"}, ("db-0", "db-1"), "NodeMappingAmbiguous"),
        ({"weaviate-0": "db-0"}, ("db-0", "db-1"), "NodeNotFound"),
        ({"weaviate-0": "db-0"}, ("db-0",), "NodeCountMismatch"),
        ({"weaviate-0": "weaviate-1", "weaviate-1": "weaviate-0"}, NODES, None),
        ({"weaviate-0": "db-1", "weaviate-1": "db-0"}, ("db-0", "db-1"), None),
        ({"weaviate-0": "db-0"}, ("db-0", "weaviate-1"), None),
        ({"weaviate-0": "weaviate-0"}, NODES, None),
    ],
)
def test_every_node_of_the_backup_goes_to_one_of_the_target(
    mapping: dict[str, str], nodes: tuple[str, ...], reason: str | None
) -> None:
    target = replace(TARGET, nodes=dict.fromkeys(nodes, True))
    found = dict.fromkeys(nodes, next(iter(inspected().values())))
    refusals = plan_restore(RestoreWishes(node_mapping=mapping), found, target).refusals
    assert (reason in {refusal.reason for refusal in refusals}) if reason else not refusals


OURS = CONTENTS.model_copy(update={"sha256": "a" * 64, "node_manifests": dict.fromkeys(NODES, "b" * 64)})
STOCK = CONTENTS.model_copy(update={"sha256": "c" * 64, "verifiable": False})
WITH_ANOTHER_LEADER = OURS.model_copy(
    update={"node_manifests": {**OURS.node_manifests, "evil": "b" * 64}, "leader": "evil"}
)
LED_FROM_OUTSIDE = OURS.model_copy(update={"leader": "evil"})
OTHERS = {"weaviate-0": "b" * 64, "weaviate-1": "d" * 64}


@pytest.mark.parametrize(
    ("contents", "pin", "refused", "warned"),
    [
        (OURS, BackupPin(), set(), set()),
        (OURS, BackupPin(said_by="b", sha256="a" * 64, node_manifests=OURS.node_manifests), set(), set()),
        (OURS, BackupPin(said_by="b", node_manifests=OURS.node_manifests), set(), {"NotPinned"}),
        (
            WITH_ANOTHER_LEADER,
            BackupPin(said_by="b", node_manifests=OURS.node_manifests),
            {"BackupChanged"},
            {"NotPinned"},
        ),
        (
            LED_FROM_OUTSIDE,
            BackupPin(said_by="b", node_manifests=OURS.node_manifests),
            {"BackupChanged"},
            {"NotPinned"},
        ),
        (OURS, BackupPin(said_by="b"), set(), {"NotPinned"}),
        (OURS, BackupPin(said_by="b", sha256="e" * 64), {"BackupChanged"}, set()),
        (OURS, BackupPin(said_by="b", node_manifests=OTHERS), {"BackupChanged"}, {"NotPinned"}),
        (STOCK, BackupPin(said_by="b", sha256="c" * 64), set(), set()),
        (STOCK, BackupPin(said_by="b", sha256="a" * 64), {"BackupChanged"}, set()),
        (STOCK, BackupPin(said_by="b", node_manifests=OURS.node_manifests), {"BackupDamaged"}, {"NotPinned"}),
        (OURS.model_copy(update={"sha256": ""}), BackupPin(said_by="b", sha256="a" * 64), {"BackupChanged"}, set()),
    ],
)
def test_a_pinned_backup_is_restored_as_it_was_or_not_at_all(
    contents: BackupContents, pin: BackupPin, refused: set[str], warned: set[str]
) -> None:
    verdict = plan_restore(RestoreWishes(), inspected(contents), TARGET, pin=pin)
    assert {each.reason for each in verdict.refusals} == refused
    assert {each.reason for each in verdict.warnings} == warned
    assert verdict.backup_sha256 == contents.sha256
    assert all(pin.said_by in each.message for each in (*verdict.refusals, *verdict.warnings))


def test_weaviates_own_restore_reads_again_and_says_so() -> None:
    pin = BackupPin(said_by="b", sha256=OURS.sha256)
    verdict = plan_restore(RestoreWishes(by_server=True), inspected(OURS), TARGET, pin=pin)
    assert (verdict.refusals, [each.reason for each in verdict.warnings]) == ((), ["NotPinned"])


@pytest.mark.parametrize(
    ("contents", "refused"),
    [
        (OURS.model_copy(update={"signed_by": "5" * 64}), []),
        (OURS, ["SignatureMissing"]),
        (OURS.model_copy(update={"problems": (conflict("SignerUnknown", "whose?"),)}), ["SignerUnknown"]),
    ],
)
def test_where_signatures_are_required_silence_is_none(contents: BackupContents, refused: list[str]) -> None:
    """As of an agent that is older than the operator, and knows nothing of them."""
    verdict = plan_restore(RestoreWishes(), inspected(contents), TARGET, pin=BackupPin(signed=True))
    assert [each.reason for each in verdict.refusals] == refused


def test_nodes_that_read_different_backups_are_refused() -> None:
    found = inspected(OURS)
    changed = OURS.model_copy(update={"sha256": "f" * 64})
    found["weaviate-1"] = found["weaviate-1"].model_copy(update={"contents": changed})
    refusals = plan_restore(RestoreWishes(), found, TARGET).refusals
    assert [refusal.reason for refusal in refusals] == ["BackupChanged"]
    assert "weaviate-1" in refusals[0].message
