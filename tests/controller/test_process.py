"""What the operator's two ports answer: health says nothing of anybody, metrics are a port of their own."""

import asyncio

from aiohttp.test_utils import TestClient, TestServer

from weaviate_backup.controller.process import Heart, health_app, metrics_app


async def test_health_tells_no_metrics_and_metrics_no_health() -> None:
    ready = asyncio.Event()
    async with TestClient(TestServer(health_app(Heart(), ready))) as health:
        assert [(await health.get(path)).status for path in ("/livez", "/readyz", "/metrics")] == [200, 503, 404]
        ready.set()
        assert (await health.get("/readyz")).status == 200
    async with TestClient(TestServer(metrics_app())) as measured:
        assert [(await measured.get(path)).status for path in ("/metrics", "/livez", "/readyz")] == [200, 404, 404]
        assert "wvb_loop_lag_seconds" in await (await measured.get("/metrics")).text()
