"""The agent's entry: check where we are, listen, end when told, or when nobody asks and nothing is under way."""

import asyncio
import logging
import os
import signal

from aiohttp import web

from weaviate_backup.agent.app import make_app, server_context
from weaviate_backup.agent.release import end_of_lease
from weaviate_backup.agent.runner import Runner
from weaviate_backup.agent.steps import STEPS
from weaviate_backup.beneath import Place, Root
from weaviate_backup.errors import Permanent
from weaviate_backup.settings import AgentSettings

SHUTDOWN_SECONDS = 0.5
log = logging.getLogger(__name__)


def run(settings: AgentSettings) -> None:
    """Serve one operation until its end. Raises what keeps the agent from starting."""
    if settings.data_path is not None:
        check_ownership(Root(settings.data_path).place)
    asyncio.run(serve(settings))


async def serve(settings: AgentSettings) -> None:
    """Listen until a signal or the end of the lease."""
    runner = Runner(settings, STEPS, let_go=end_of_lease)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, runner.ended.set)
    web_runner = web.AppRunner(make_app(runner), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await web_runner.setup()
    site = web.TCPSite(web_runner, port=settings.port, ssl_context=server_context(settings.tls_directory))
    watch = asyncio.create_task(runner.watch())
    try:
        await site.start()
        log.info(
            "agent of %s listens on port %d for operation %s", settings.node, settings.port, settings.operation_uid
        )
        await runner.ended.wait()
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await runner.close()
        await web_runner.cleanup()


def check_ownership(data_root: Place) -> None:
    """Refuse to work as another user than Weaviate: it could not read what we restore, nor we what it writes.

    What Weaviate wrote itself tells its user; the root of a volume may belong to another one.
    """
    witness = (data_root / "raft").look() or data_root.look()
    if witness is None:
        raise Permanent("DataPathMissing", f"{data_root} does not exist; WVB_DATA_PATH must be Weaviate's data root")
    owner = witness.st_uid
    if owner != os.geteuid():
        raise Permanent(
            "WrongUser",
            f"what Weaviate wrote in {data_root} belongs to uid {owner}, but the agent runs as uid {os.geteuid()}; "
            "it must run as Weaviate's own user",
        )
