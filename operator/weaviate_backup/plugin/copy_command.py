"""Finds both ends of a copy, then plans, shows and carries it out."""

import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from weaviate_backup.core.copy_plan import refuse_overlap
from weaviate_backup.core.credential_reach import TrustedHosts
from weaviate_backup.errors import Permanent
from weaviate_backup.kube import Kube, default_namespace
from weaviate_backup.plugin.copy_screen import show_end, show_plan, with_progress
from weaviate_backup.plugin.location_access import LocationAccess, location_in_cluster, location_of_backup
from weaviate_backup.plugin.location_file import location_in_file
from weaviate_backup.stored.copying import carry_out, plan_copies
from weaviate_backup.stored.passage import CopyOptions, Passage


@dataclass(frozen=True)
class End:
    """One of the two locations, as a person named it: a WeaviateBackupLocation or a file with one.

    `side` is `from` or `to`, as in the names of options and variables. `namespace` None: the context's.
    """

    side: str
    name: str | None
    file: Path | None
    ca_file: Path | None
    directory: Path | None
    context: str | None
    namespace: str | None

    def check(self) -> None:
        """Raise when what was named contradicts itself."""
        if self.name and self.file:
            raise Permanent("InvalidRequest", f"--{self.side} and --{self.side}-file exclude each other; give one")
        if self.ca_file and not self.file:
            raise Permanent(
                "InvalidRequest",
                f"--{self.side}-ca-file belongs to --{self.side}-file; a location in a cluster names its caSecretRef",
            )

    def in_file(self, *, writing: bool) -> LocationAccess | None:
        if self.file is None:
            return None
        return location_in_file(
            self.file,
            os.environ,
            prefix=f"{self.side.upper()}_",
            writing=writing,
            ca_file=self.ca_file,
            directory=self.directory,
        )


def run_copy(
    console: Console,
    backup: str,
    source: End,
    target: End,
    options: CopyOptions,
    *,
    with_bases: bool,
    trusted: TrustedHosts,
) -> None:
    """Blocks until the copy is complete, or raises why it is not."""
    for end in (source, target):
        end.check()
    if not target.name and not target.file:
        raise Permanent(
            "InvalidRequest", "no target; name a WeaviateBackupLocation with --to, or its file with --to-file"
        )
    found_source, backup_id, found_target = asyncio.run(_find(backup, source, target))
    refuse_overlap(found_source.place, found_target.place, [backup_id])
    options = replace(options, lock_days=found_target.location.lock_days)
    passage = Passage(found_source.open(trusted), found_target.open(trusted), options)
    copies = plan_copies(passage, backup_id, with_bases=with_bases)
    refuse_overlap(found_source.place, found_target.place, [copy.source.backup_id for copy in copies])
    show_plan(console, copies, source=found_source.location.address, target=found_target.location.address)
    done = with_progress(console, passage.meter, lambda: carry_out(passage, copies))
    show_end(console, done, reads_back=passage.reads_back)


async def _find(backup: str, source: End, target: End) -> tuple[LocationAccess, str, LocationAccess]:
    """Source, the backup's identifier there, and target."""
    found_target = target.in_file(writing=True) or await _in_cluster(target, writing=True)
    if source.file or source.name:
        return source.in_file(writing=False) or await _in_cluster(source, writing=False), backup, found_target
    async with await Kube.connect(context=source.context) as kube:
        namespace = source.namespace or default_namespace(context=source.context)
        found_source, backup_id = await location_of_backup(kube, namespace, backup, directory=source.directory)
    return found_source, backup_id, found_target


async def _in_cluster(end: End, *, writing: bool) -> LocationAccess:
    assert end.name is not None
    async with await Kube.connect(context=end.context) as kube:
        namespace = end.namespace or default_namespace(context=end.context)
        return await location_in_cluster(kube, namespace, end.name, writing=writing, directory=end.directory)
