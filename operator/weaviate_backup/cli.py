"""The command line: starts the operator or an agent. The only place that knows both."""

import asyncio
import logging

import typer

from weaviate_backup.errors import BackupError
from weaviate_backup.settings import AgentSettings, OperatorSettings, quiet_libraries

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Backs up and restores Weaviate on Kubernetes.",
)


@app.command()
def operator() -> None:
    """Run the operator; settings come from WVB_* variables."""
    settings = OperatorSettings()
    _configure_logging(settings.log_level)
    from weaviate_backup.controller.process import run_operator

    asyncio.run(run_operator(settings))


@app.command()
def agent() -> None:
    """Run an agent beside a Weaviate pod, or a store worker; settings come from WVB_* variables."""
    settings = AgentSettings.from_environment()
    _configure_logging(settings.log_level)
    from weaviate_backup.agent.main import run

    run(settings)


def _configure_logging(level: str) -> None:
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kopf").setLevel(max(logging.INFO, logging.getLevelName(level.upper())))
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    quiet_libraries()


def main() -> None:
    """Entry point of the distribution. Our own errors end with one line, not with a traceback."""
    try:
        app()
    except BackupError as error:
        typer.echo(f"{error.reason}: {error.message}", err=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
