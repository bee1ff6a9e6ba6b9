"""What people see of a copy: what will be done, how far it is, and what was checked."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from weaviate_backup.api.durations import show_bytes
from weaviate_backup.core.copy_plan import BackupCopy
from weaviate_backup.stored.copying import Copied
from weaviate_backup.stored.meter import Meter

LOOK_SECONDS = 0.1
T = TypeVar("T")


def say(console: Console, line: str) -> None:
    """As it is: names may hold what a terminal takes for markup."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_plan(console: Console, copies: Sequence[BackupCopy], *, source: str, target: str) -> None:
    *bases, wanted = copies
    say(console, f"Copying backup {wanted.source.backup_id} from {source} to {target}.")
    if bases:
        names = ", ".join(each.source.backup_id for each in bases)
        say(console, f"It holds only what changed since {names}: copied first, because it cannot be restored without.")
    for copy in copies:
        size, objects = show_bytes(copy.source.size_bytes), len(copy.source.objects) + 1
        there = f"; {len(copy.present)} are there already ({show_bytes(copy.present_bytes)})" if copy.present else ""
        say(console, f"  {copy.source.backup_id}: {objects} objects, {size}{there}")
        if not copy.source.verifiable:
            say(
                console,
                "    without manifests: what arrives is compared with what was read, not with what was backed up",
            )


def show_end(console: Console, copies: Sequence[Copied], *, reads_back: bool) -> None:
    for copy in copies:
        sent = f"{copy.objects_sent} of {copy.objects} objects sent ({show_bytes(copy.bytes_sent)})"
        matched = "matched the backup's manifests"
        if reads_back:
            said = f"every byte {matched} and was read back" if copy.verifiable else "every byte was read back"
        else:
            said = f"what was sent {matched}, sizes were compared" if copy.verifiable else "sizes were compared"
        say(console, f"{copy.backup_id} is complete: {sent}; {said}.")


def with_progress(console: Console, meter: Meter, work: Callable[[], T]) -> T:
    """Run the work in a thread and show how far it is. An interrupt stops the work, waits for its end and is raised."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    hidden = not console.is_terminal
    with (
        Progress(*columns, console=console, transient=True, disable=hidden) as progress,
        ThreadPoolExecutor(1, "copy") as pool,
    ):
        task = progress.add_task("sending and checking", total=None)
        future = pool.submit(work)
        try:
            while wait((future,), LOOK_SECONDS).not_done:
                now = meter.snapshot()
                progress.update(task, completed=now.bytes_done, total=now.bytes_total or None)
        except BaseException:
            meter.stop()
            raise
        return future.result()
