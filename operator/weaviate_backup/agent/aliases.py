"""Aliases of restored collections: made, or left with whom they stand for.

The server takes no two aliases that differ in case alone. So one of the cluster's in another spelling is the same
alias: it stays, or is deleted by its own spelling. Everything else is restored by now, and no alias fails that.
"""

import logging
from collections.abc import Iterable, Set

from weaviate_backup.errors import Permanent
from weaviate_backup.stored.backup_reading import RestoredClass
from weaviate_backup.weaviate.raft import RaftClient

ROUNDS = 3
"""An alias that others make anew each time it is deleted is left to them after so many."""

log = logging.getLogger(__name__)


async def apply_aliases(
    raft: RaftClient, classes: Iterable[RestoredClass], *, overwrite: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names made and names left with others."""
    made, kept = list[str](), list[str]()
    collections = frozenset(name.lower() for name in await raft.class_names())
    for restored in classes:
        for alias in restored.aliases:
            ours = await _make(raft, alias, restored.name, collections, overwrite=overwrite)
            (made if ours else kept).append(alias)
    return tuple(made), tuple(kept)


async def _make(raft: RaftClient, alias: str, collection: str, collections: Set[str], *, overwrite: bool) -> bool:
    """Whether it stands for the collection now. `collections`: all of the cluster, in lower case."""
    if alias.lower() in collections:
        log.warning("alias %s of %s is not made: a collection has that name by now", alias, collection)
        return False
    for _ in range(ROUNDS):
        spelling, present = _same_alias(alias, await raft.aliases())
        if present == collection:
            return True
        if present is not None:
            if not overwrite:
                log.info("alias %s stays with %s", spelling, present)
                return False
            await raft.delete_alias(spelling)
        try:
            await raft.create_alias(alias, collection)
        except Permanent as error:
            if error.reason != "AliasExists":
                raise
            log.warning("alias %s was made by somebody else meanwhile: %s", alias, error)
            continue
        return True
    log.warning("alias %s of %s is not made: others make it each time", alias, collection)
    return False


def _same_alias(alias: str, aliases: dict[str, str]) -> tuple[str, str | None]:
    """Its spelling in the cluster and what it stands for there; None when there is none."""
    for spelling, present in aliases.items():
        if spelling.lower() == alias.lower():
            return spelling, present
    return alias, None
