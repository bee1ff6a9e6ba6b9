"""Whether a backup can be brought back onto a cluster: every reason against it, before a byte is written.

Pure: what the agents read from store and disks, and what the target says of itself, come in; a verdict goes out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from weaviate_backup.api.bounds import all_or_none
from weaviate_backup.api.status import MAX_COLLECTIONS
from weaviate_backup.core.orders import UNPINNED, BackupPin, conflict
from weaviate_backup.core.selection import select
from weaviate_backup.core.session import BELOW_READ_ONLY, BackupContents, Failure, Inspected, ModuleAddress
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.versions import minor_key, version_key

ANY_ADDRESS = "*"


@dataclass(frozen=True)
class TargetFacts:
    """The target as it is now: node name → ready and healthy, its version, its collections, alias → collection.

    `users_enabled`: whether it has dynamic users; None: it was not asked, or may not say.
    """

    nodes: Mapping[str, bool]
    version: str
    collections: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    users_enabled: bool | None = None


@dataclass(frozen=True)
class RestoreWishes:
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    node_mapping: Mapping[str, str] = field(default_factory=dict)
    overwrite_alias: bool = False
    roles: bool = False
    users: bool = False
    module_addresses: tuple[str, ...] = ()
    by_server: bool = False


@dataclass(frozen=True)
class RestoreVerdict:
    """`refusals` empty: it can start; transient ones may pass. `warnings`: what it will not do, what cannot be checked.

    `aliases` will stand for collections of the backup. `aliases_replaced`: those of the target that stand for others
    now and go for them, as the target spells them.
    `addresses`, `roles`, `users`, `assignments`: the first of what the restore brings into the target beside data.
    `backup_sha256` tells the backup that this is about from any other.
    """

    collections: tuple[str, ...]
    bytes_required: Mapping[str, int]
    refusals: tuple[Failure, ...]
    warnings: tuple[Failure, ...] = ()
    aliases: tuple[str, ...] = ()
    aliases_replaced: tuple[str, ...] = ()
    addresses: tuple[ModuleAddress, ...] = ()
    roles: tuple[str, ...] = ()
    roles_count: int = 0
    users: tuple[str, ...] = ()
    users_count: int = 0
    assignments: tuple[str, ...] = ()
    assignments_count: int = 0
    backup_sha256: str = ""


def plan_restore(
    wishes: RestoreWishes, inspected: Mapping[str, Inspected], target: TargetFacts, *, pin: BackupPin = UNPINNED
) -> RestoreVerdict:
    """`inspected`: by target node. `pin`: what the backup must be."""
    contents = next(iter(inspected.values())).contents
    refusals: list[Failure] = []
    refusals += _refuse_changed(inspected, pin)
    refusals += _refuse_unsigned(contents, pin)
    refusals += _refuse_backup(contents, target)
    refusals += _refuse_nodes(contents, wishes, target)
    chosen: tuple[str, ...] = ()
    try:
        chosen = select(contents.collections, include=wishes.include, exclude=wishes.exclude)
    except Permanent as refusal:
        refusals.append(conflict(refusal.reason, refusal.message))
    refusals += _refuse_collections(chosen, target)
    wanted = {alias: collection for alias, collection in contents.aliases.items() if collection in chosen}
    same = _same_aliases(wanted, target)
    alias_refusals, kept = _check_aliases(wanted, same, wishes, target)
    refusals += alias_refusals
    addresses = tuple(each for each in contents.addresses if set(each.collections) & set(chosen))
    refusals += _refuse_addresses(addresses, chosen, wishes)
    access_refusals, without = _check_access(inspected, wishes, target)
    refusals += access_refusals
    for node, found in sorted(inspected.items()):
        gone = tuple(name for name in chosen if name.lower() not in {each.lower() for each in target.collections})
        refusals += _refuse_disk(node, found, gone, everything=set(chosen) == set(contents.collections))
    return RestoreVerdict(
        collections=chosen,
        bytes_required={node: found.bytes_required for node, found in sorted(inspected.items())},
        refusals=tuple(dict.fromkeys(refusals)),
        aliases=tuple(sorted(alias for alias in wanted if wishes.overwrite_alias or alias not in same)),
        aliases_replaced=tuple(sorted(same.values())) if wishes.overwrite_alias else (),
        addresses=addresses,
        roles=contents.roles if wishes.roles else (),
        roles_count=contents.access.roles or 0 if wishes.roles else 0,
        users=contents.users if wishes.users else (),
        users_count=contents.access.users or 0 if wishes.users else 0,
        assignments=contents.assignments if wishes.roles else (),
        assignments_count=contents.assignments_count if wishes.roles else 0,
        warnings=(*contents.warnings, *_warn_unpinned(pin, wishes), *_warn_of_patch(contents, target), *kept, *without),
        backup_sha256=contents.sha256,
    )


def _refuse_changed(inspected: Mapping[str, Inspected], pin: BackupPin) -> list[Failure]:
    """Every node must have read the same backup, and that must be the one that is meant."""
    contents = next(iter(inspected.values())).contents
    refusals = []
    differing = sorted(node for node, found in inspected.items() if found.contents.sha256 != contents.sha256)
    if differing:
        message = f"the backup was changed while it was looked at: {', '.join(differing)} read another than the rest"
        refusals.append(conflict("BackupChanged", f"{message}; find out who writes to the location"))
    if pin.node_manifests and not contents.verifiable:
        message = f"{pin.said_by} wrote manifests, which are gone from the store"
        return [*refusals, conflict("BackupDamaged", f"{message}; bring them back, or restore a copy")]
    nodes = {*pin.node_manifests, *contents.node_manifests, contents.leader} if pin.node_manifests else set()
    changed = sorted(each for each in nodes if contents.node_manifests.get(each, "") != pin.node_manifests.get(each))
    if changed:
        message = f"the manifests of {', '.join(changed)} are not those that {pin.said_by} verified"
        refusals.append(conflict("BackupChanged", f"{message}: the backup was changed in the store"))
    if pin.sha256 not in ("", contents.sha256):
        found = f"{contents.sha256[:12]}…" if contents.sha256 else "not to be had"
        message = f"the backup's SHA-256 is {found}, not {pin.sha256[:12]}… as {pin.said_by} says"
        refusals.append(conflict("BackupChanged", f"{message}: it was changed or replaced in the store"))
    return refusals


def _refuse_unsigned(contents: BackupContents, pin: BackupPin) -> list[Failure]:
    """An agent that says nothing of a signature, as older ones do, has not found a good one."""
    if not pin.signed or contents.signed_by or any(problem.reason.startswith("Sign") for problem in contents.problems):
        return []
    return [
        conflict("SignatureMissing", "no agent found a good signature, which requireSigned of the location asks for")
    ]


def _warn_unpinned(pin: BackupPin, wishes: RestoreWishes) -> list[Failure]:
    """A restore by identifier takes what is there; one by object relies on what that knows."""
    known = bool(pin.sha256)
    if pin.said_by and not known:
        what = "only its nodes' parts of what it stored" if pin.node_manifests else "nothing of what it stored"
        message = f"{pin.said_by} knows {what}, an older version completed it"
        return [conflict("NotPinned", f"{message}: a change of the rest since then is not noticed")]
    if known and wishes.by_server:
        message = "with method Server, Weaviate reads the store itself, after the backup was compared with"
        return [conflict("NotPinned", f"{message} {pin.said_by}: a change in between is not noticed")]
    return []


def _refuse_backup(contents: BackupContents, target: TargetFacts) -> list[Failure]:
    refusals = list(contents.problems)
    if contents.status != "SUCCESS":
        refusals.append(conflict("BackupNotSuccessful", f"the backup's status is {contents.status}, not SUCCESS"))
    if minor_key(target.version) < minor_key(contents.server_version):
        message = f"the backup was made by Weaviate {contents.server_version}, the target runs {target.version}"
        refusals.append(conflict("VersionTooOld", f"{message}; upgrade the target first"))
    return refusals


def _warn_of_patch(contents: BackupContents, target: TargetFacts) -> list[Failure]:
    """File formats change with minor releases, and servers take a newer one's files without a word. Within a minor
    release they stay, and rolling back a bad patch is when a restore is needed most: no reason to refuse.
    """
    same_line = minor_key(target.version) == minor_key(contents.server_version)
    if not same_line or version_key(target.version) >= version_key(contents.server_version):
        return []
    message = (
        f"the backup was made by Weaviate {contents.server_version}, the target runs {target.version}, an older patch"
    )
    return [conflict("PatchOlder", f"{message} of the same release")]


def _refuse_nodes(contents: BackupContents, wishes: RestoreWishes, target: TargetFacts) -> list[Failure]:
    refusals = []
    unknown = sorted(set(wishes.node_mapping) - set(contents.nodes))
    if unknown:
        message = f"nodeMapping names {', '.join(unknown)}; the backup has {', '.join(contents.nodes)}"
        refusals.append(conflict("NodeMappingUnknown", message))
    mapped = [wishes.node_mapping.get(node, node) for node in contents.nodes]
    doubled = sorted({node for node in mapped if mapped.count(node) > 1})
    if doubled:
        message = f"nodeMapping sends several nodes of the backup to {', '.join(doubled)}"
        refusals.append(conflict("NodeMappingAmbiguous", message))
    if len(contents.nodes) != len(target.nodes):
        message = f"the backup has {len(contents.nodes)} nodes, the target {len(target.nodes)}"
        refusals.append(conflict("NodeCountMismatch", f"{message}; scale the target"))
    absent = sorted(set(mapped) - set(target.nodes))
    if absent:
        there = ", ".join(sorted(target.nodes))
        message = f"the target has no node {', '.join(absent)}, only {there}; use nodeMapping"
        refusals.append(conflict("NodeNotFound", message))
    unready = sorted(node for node, ready in target.nodes.items() if not ready)
    if unready:
        message = f"not ready: {', '.join(unready)}; every node must be up"
        refusals.append(Failure(reason="NodeNotReady", message=message, transient=True))
    return refusals


def _refuse_collections(chosen: tuple[str, ...], target: TargetFacts) -> list[Failure]:
    existing = {name.lower(): name for name in target.collections}
    aliases = {alias.lower(): alias for alias in target.aliases}
    refusals = []
    if chosen and not all_or_none(chosen, limit=MAX_COLLECTIONS):
        message = f"{len(chosen)} collections are more than one restore remembers (at most {MAX_COLLECTIONS})"
        refusals.append(conflict("TooManyCollections", f"{message}; restore them in parts with include"))
    seen: dict[str, str] = {}
    for name in chosen:
        if (other := seen.setdefault(name.lower(), name)) != name:
            message = f"the backup has {other} and {name}, and case does not tell collections apart; exclude one"
            refusals.append(conflict("NamesCollide", message))
        if name.lower() in existing:
            there = existing[name.lower()]
            same = "exists" if there == name else f"exists as {there}, and case does not tell them apart"
            refusals.append(conflict("CollectionExists", f"collection {name} {same}; delete it or exclude it"))
        if name.lower() in aliases:
            message = f"collection {name} has the name of alias {aliases[name.lower()]}; delete the alias or exclude it"
            refusals.append(conflict("AliasInTheWay", message))
    return refusals


def _same_aliases(wanted: Iterable[str], target: TargetFacts) -> dict[str, str]:
    """Alias of the backup -> how the target spells it, of those that it has. No server has two that differ in case."""
    spelled = {alias.lower(): alias for alias in target.aliases}
    return {alias: spelled[alias.lower()] for alias in wanted if alias.lower() in spelled}


def _check_aliases(
    wanted: Mapping[str, str], same: Mapping[str, str], wishes: RestoreWishes, target: TargetFacts
) -> tuple[list[Failure], list[Failure]]:
    """What is refused, and what is told. `wanted`: alias -> collection. `same`: its spelling in the target."""
    refusals, told = [], []
    existing = {name.lower() for name in target.collections}
    seen: dict[str, str] = {}
    for alias, collection in sorted(wanted.items()):
        if (other := seen.setdefault(alias.lower(), alias)) != alias:
            message = f"the backup has aliases {other} and {alias}, and case does not tell them apart"
            refusals.append(conflict("NamesCollide", f"{message}; exclude {wanted[other]} or {collection}"))
        if alias.lower() in existing:
            message = f"alias {alias} of {collection} has the name of a collection of the target"
            refusals.append(conflict("CollectionInTheWay", message))
        elif alias in same:
            spelled = (
                f"alias {alias}" if same[alias] == alias else f"alias {alias}, which the target spells {same[alias]},"
            )
            if wishes.by_server and same[alias] != alias:
                message = f"{spelled} would make Weaviate's own restore fail when it has restored {collection}"
                refusals.append(conflict("AliasInTheWay", f"{message}; delete {same[alias]} or exclude {collection}"))
            elif not wishes.overwrite_alias:
                message = f"{spelled} stays with {target.aliases[same[alias]]}; set overwriteAlias to move it"
                told.append(conflict("AliasKept", message))
            elif same[alias] != alias:
                message = f"{spelled} moves from {target.aliases[same[alias]]} to {collection}"
                told.append(conflict("AliasRespelled", f"{message} and is then spelled as in the backup"))
    return refusals, told


def _refuse_addresses(
    addresses: tuple[ModuleAddress, ...], chosen: tuple[str, ...], wishes: RestoreWishes
) -> list[Failure]:
    """A server sends texts, and the keys of its own environment, wherever a collection says."""
    if ANY_ADDRESS in wishes.module_addresses:
        return []
    refusals = []
    for each in addresses:
        if each.address not in wishes.module_addresses:
            collection = next(name for name in each.collections if name in chosen)
            message = (
                f"{each.address!r} is {each.setting} of collection {collection}: the target's modules would send texts "
                "and their own keys there; add it to spec.config.moduleAddresses, or exclude the collection"
            )
            refusals.append(conflict("ModuleAddressNotAllowed", message))
    return refusals


def _check_access(
    inspected: Mapping[str, Inspected], wishes: RestoreWishes, target: TargetFacts
) -> tuple[list[Failure], list[Failure]]:
    """Roles and users that nothing would come of are refused; Weaviate's own restore leaves them out without a word."""
    counts = next(iter(inspected.values())).contents.access
    refusals, without = [], []
    if wishes.roles and counts.roles is None:
        without.append(conflict("NoRolesInBackup", "rolesOptions is all, but the backup holds no roles: none change"))
    elif wishes.roles and any(found.roles_enabled is False for found in inspected.values()):
        message = "rolesOptions is all, but the target has role-based access control switched off"
        refusals.append(conflict("RolesDisabled", f"{message}; set AUTHORIZATION_RBAC_ENABLED or use noRestore"))
    if wishes.users and counts.users is None:
        without.append(conflict("NoUsersInBackup", "usersOptions is all, but the backup holds no users: none change"))
    elif wishes.users and target.users_enabled is False:
        message = "usersOptions is all, but the target has dynamic users switched off"
        refusals.append(conflict("UsersDisabled", f"{message}; set AUTHENTICATION_DB_USERS_ENABLED or use noRestore"))
    return refusals, without


def _refuse_disk(node: str, found: Inspected, gone: tuple[str, ...], *, everything: bool) -> list[Failure]:
    """`gone`: chosen collections that the target does not have, so that a directory of theirs is a left-over."""
    refusals = [conflict(problem.reason, f"{node}: {problem.message}") for problem in found.problems]
    lowered = {name.lower() for name in gone}
    ways = sorted(way for way in found.directories_in_the_way if way.lower().rsplit("/", 1)[-1] in lowered)
    if ways:
        message = f"{node}: left-over directories of deleted collections are in the way: {', '.join(ways)}"
        refusals.append(conflict("DirectoryInTheWay", f"{message}; remove them from the data volume"))
    if everything and found.bytes_required > found.bytes_free:
        missing = found.bytes_required - found.bytes_free
        free = f"{found.bytes_free} are free {BELOW_READ_ONLY}"
        message = f"{node}: {found.bytes_required} bytes are needed, {free}, {missing} are missing"
        refusals.append(conflict("NotEnoughSpace", f"{message}; enlarge its volume"))
    return refusals
