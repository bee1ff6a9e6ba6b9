"""The command line of `kubectl weaviate-backup`."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from weaviate_backup.api.durations import parse_bytes
from weaviate_backup.core.credential_reach import NOBODY, TrustedHosts
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.plugin.copy_command import End, run_copy
from weaviate_backup.plugin.copy_screen import say
from weaviate_backup.settings import quiet_libraries
from weaviate_backup.stored.passage import CopyOptions, Verification

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Works on Weaviate's backups, with your own rights in the cluster.",
)


console = Console()
errors = Console(stderr=True)


@app.callback()
def commands() -> None:
    """Keeps `copy` a command of its own, as others will follow."""


def _bytes_per_second(text: str) -> int:
    try:
        limit = parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if limit < 1:
        raise typer.BadParameter("at least 1; leave it away for no limit")
    return limit


def _hosts(names: list[str] | None) -> TrustedHosts:
    try:
        return TrustedHosts.parse(",".join(names)) if names else NOBODY
    except ValueError as error:
        raise Permanent("InvalidRequest", f"--trust-host: {error}") from error


@app.command()
def copy(  # noqa: PLR0917 (typer calls it by name)
    backup: Annotated[
        str,
        typer.Argument(
            metavar="BACKUP",
            help="A WeaviateBackup, which says where it lies; with --from or --from-file a backup's ID there.",
        ),
    ],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="LOCATION", help="WeaviateBackupLocation that holds it.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="LOCATION", help="WeaviateBackupLocation to copy it to.")] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Of BACKUP and --from. Default: the context's.")
    ] = None,
    to_namespace: Annotated[str | None, typer.Option(help="Of --to. Default: as --namespace.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    to_context: Annotated[str | None, typer.Option(help="Of --to, in another cluster. Default: as --context.")] = None,
    from_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A WeaviateBackupLocation's YAML instead of --from. Its Secret's keys are taken from the environment: "
            "FROM_AWS_ACCESS_KEY_ID and so on, or AWS_ACCESS_KEY_ID and so on.",
        ),
    ] = None,
    to_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="The same for --to, with TO_ in front."),
    ] = None,
    from_ca_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="With --from-file: PEM of its caSecretRef."),
    ] = None,
    to_ca_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="With --to-file: PEM of its caSecretRef."),
    ] = None,
    from_directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            resolve_path=True,  # a link that a person names is meant; in a store none is followed
            help="Where a filesystem's volume is mounted here.",
        ),
    ] = None,
    to_directory: Annotated[
        Path | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, resolve_path=True, help="The same for --to."),
    ] = None,
    trust_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="May be sent tokens, shared access signatures and customers' keys beside the providers' own hosts: a "
            "name, or *.NAME for all below it. Can be given several times.",
        ),
    ] = None,
    verify: Annotated[
        Verification,
        typer.Option(
            help="read-back: read every object back and hash it. size: trust the checksums with which stores take "
            "objects, and look at sizes."
        ),
    ] = Verification.READ_BACK,
    bases: Annotated[
        bool, typer.Option(help="Copy what an incremental backup builds on, too; else such a backup is refused.")
    ] = True,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Objects under way at once.")] = 3,
    max_bytes_per_second: Annotated[
        int | None,
        typer.Option(parser=_bytes_per_second, metavar="SIZE", help="Limit on what is read from both, such as 50Mi."),
    ] = None,
) -> None:
    """Copy a backup to another location, of any kind, in this cluster or another.

    Every object is hashed on its way, compared with the backup's manifests when it has some, and read back.
    Nothing at the target is written over. Run it again after an interruption, and it goes on.
    Restore the copy with a WeaviateRestore that names the location and the backup's ID.
    """
    source = End("from", from_, from_file, from_ca_file, from_directory, context, namespace)
    target = End("to", to, to_file, to_ca_file, to_directory, to_context or context, to_namespace or namespace)
    options = CopyOptions(workers, max_bytes_per_second, verify)
    try:
        run_copy(console, backup, source, target, options, with_bases=bases, trusted=_hosts(trust_host))
    except KeyboardInterrupt as interrupt:
        say(errors, "Stopped. The same command goes on from here.")
        raise typer.Exit(INTERRUPTED) from interrupt


def main() -> None:
    """Entry point of the distribution. Our own errors end with one line, not with a traceback."""
    logging.basicConfig(level="WARNING", format="%(message)s", handlers=[RichHandler(console=errors, show_path=False)])
    quiet_libraries()
    try:
        app(prog_name="kubectl weaviate-backup")
    except BackupError as error:
        where = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        say(errors, f"{error.reason}: {error.message}{where}")
        if isinstance(error, Transient):
            say(errors, "The same command goes on from here.")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
