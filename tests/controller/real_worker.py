"""A store worker's own program, on an address of its own, with its files where a kubelet would mount them."""

from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from tests.api_server import Json

from weaviate_backup.agent.app import make_app, server_context
from weaviate_backup.agent.release import end_of_lease
from weaviate_backup.agent.runner import Runner
from weaviate_backup.agent.steps import STEPS
from weaviate_backup.core.session import AGENT_PORT
from weaviate_backup.settings import AgentSettings


class RealWorker:
    """Runs in the test's process. A filesystem volume is the host's directory, or an empty one of the pod's own."""

    def __init__(
        self, directory: Path, pod: Json, *, credentials: Mapping[str, bytes], ca: Mapping[str, bytes]
    ) -> None:
        self._directory = directory
        environment = {each["name"]: each.get("value", "") for each in pod["spec"]["containers"][0]["env"]}
        volume: Json = next((each for each in pod["spec"]["volumes"] if each["name"] == "store"), {})
        root = Path(volume["hostPath"]["path"]) if "hostPath" in volume else directory / "store"
        for name, files in (("credentials", credentials), ("ca", ca)):
            (directory / name).mkdir(parents=True)
            for file, content in files.items():
                (directory / name / file).write_bytes(content)
        if volume:
            root.mkdir(exist_ok=True)
        self._settings = AgentSettings(
            operation_uid=environment["WVB_OPERATION_UID"],
            node=environment["WVB_NODE"],
            tls_directory=directory / "tls",
            credentials_directory=directory / "credentials",
            ca_directory=directory / "ca",
            filesystem_root=root,
            lease_seconds=int(environment["WVB_LEASE_SECONDS"]),
            trusted_store_hosts=environment["WVB_TRUSTED_STORE_HOSTS"],
        )
        self._runner: Runner | None = None
        self._app: web.AppRunner | None = None

    async def start(self, host: str, certificates: Mapping[str, bytes]) -> None:
        self._settings.tls_directory.mkdir()
        for file, content in certificates.items():
            (self._settings.tls_directory / file).write_bytes(content)
        self._runner = Runner(self._settings, STEPS, let_go=end_of_lease)
        self._app = web.AppRunner(make_app(self._runner), access_log=None, shutdown_timeout=0.1)
        await self._app.setup()
        context = server_context(self._settings.tls_directory)
        await web.TCPSite(self._app, host, AGENT_PORT, ssl_context=context).start()

    async def stop(self) -> None:
        assert self._runner is not None
        assert self._app is not None
        await self._runner.close()
        await self._app.cleanup()
