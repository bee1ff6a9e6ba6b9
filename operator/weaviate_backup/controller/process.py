"""The operator's process: one client, health and metrics on a port each, kopf. Ends when kopf ends."""

import asyncio
import logging
import threading

from aiohttp import web

from weaviate_backup import metrics
from weaviate_backup.api.names import BACKUP_PLURAL, LOCATION_PLURAL, RESTORE_PLURAL
from weaviate_backup.controller.handlers import Operations, make_registry, run_kopf
from weaviate_backup.errors import Transient
from weaviate_backup.kube import Kube
from weaviate_backup.settings import OperatorSettings

MAX_LAG_SECONDS = 10.0
BEAT_SECONDS = 1.0
KINDS = frozenset({BACKUP_PLURAL, LOCATION_PLURAL, RESTORE_PLURAL})
KINDS_PAUSE_SECONDS = 2.0
log = logging.getLogger(__name__)


async def run_operator(settings: OperatorSettings, *, stop: threading.Event | None = None) -> None:
    """Until a signal, or until `stop` is set."""
    heart, ready, stop = Heart(), asyncio.Event(), stop or threading.Event()
    beating = asyncio.create_task(heart.beat())
    runners: list[web.AppRunner] = []
    try:
        for app, port in ((health_app(heart, ready), settings.health_port), (metrics_app(), settings.metrics_port)):
            runners.append(web.AppRunner(app, access_log=None))
            await runners[-1].setup()
            await web.TCPSite(runners[-1], port=port).start()
        async with await Kube.connect() as kube:
            watched = ", ".join(settings.namespaces) or "all namespaces"
            log.info("operator in %s, watching %s, agents from %s", settings.namespace, watched, settings.agent_image)
            await await_kinds(kube, stop)
            registry = make_registry(Operations(kube=kube, settings=settings))
            await run_kopf(registry, settings, stop=stop, ready=ready)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await asyncio.gather(*(runner.cleanup() for runner in runners))


async def await_kinds(kube: Kube, stop: threading.Event) -> None:
    """Until the API server knows our kinds: kopf looks for them once, and a chart brings them with the operator."""
    told: frozenset[str] | None = None
    while not stop.is_set():
        try:
            missing = KINDS - await kube.served()
        except Transient as error:
            log.info("the API server does not answer yet: %s", error)
        else:
            if not missing:
                return
            if missing != told:
                log.warning("waiting for the definitions of %s", ", ".join(sorted(missing)))
                told = missing
        await asyncio.sleep(KINDS_PAUSE_SECONDS)


class Heart:
    """Measures how late the event loop is: a blocked loop stops watches and reports alike."""

    def __init__(self) -> None:
        self._last = asyncio.get_running_loop().time()

    @property
    def lag_seconds(self) -> float:
        return max(0.0, asyncio.get_running_loop().time() - self._last - BEAT_SECONDS)

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            metrics.LOOP_LAG.set(self.lag_seconds)
            self._last = asyncio.get_running_loop().time()


def health_app(heart: Heart, ready: asyncio.Event) -> web.Application:
    """/livez: the loop turns. /readyz: kopf has started."""

    async def livez(_: web.Request) -> web.Response:
        lag = heart.lag_seconds
        return web.Response(status=200 if lag < MAX_LAG_SECONDS else 503, text=f"loop lag {lag:.1f} s\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=200 if ready.is_set() else 503, text="ready\n" if ready.is_set() else "starting\n")

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz)])
    return app


def metrics_app() -> web.Application:
    """/metrics, and nothing else."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), content_type="text/plain")

    app = web.Application()
    app.add_routes([web.get("/metrics", show_metrics)])
    return app
