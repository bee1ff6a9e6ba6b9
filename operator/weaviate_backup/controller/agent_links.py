"""Keeps asking an operation's agents for their reports, by long poll, so that a change wakes the daemon at once.

One task per agent pod. It only remembers the last answer, or why there was none; it decides nothing.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from weaviate_backup.agent_client import AgentClient
from weaviate_backup.core.orders import Reports, Unreachable
from weaviate_backup.core.session import AGENT_PORT, NodeReport, Progress, StepPhase
from weaviate_backup.errors import BackupError

POLL_SECONDS = 20.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
"""Between two attempts at an agent that does not answer: often while it starts, then ever less."""
PROGRESS_SECONDS = 1.0
"""Progress alone, of all agents together, wakes no more often; whoever looks for another reason sees it sooner."""
FIRST_ANSWER_SECONDS = 2.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AgentAddress:
    """Where an agent pod is, and the name its certificate must have. A new pod is a new address."""

    pod_uid: str
    host: str
    server_name: str
    port: int = AGENT_PORT


@dataclass
class _Link:
    address: AgentAddress
    client: AgentClient
    answer: NodeReport | Unreachable | None = None
    task: asyncio.Task[None] | None = None
    first: asyncio.Event = field(default_factory=asyncio.Event)


class AgentLinks:
    """All agents of one operation."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._links: dict[str, _Link] = {}
        self._told_at = 0.0

    async def follow(self, addresses: Mapping[str, AgentAddress], tls: ssl.SSLContext) -> None:
        """Follow exactly these, by node; returns once each answered or had a fair chance to."""
        for node in [node for node, link in self._links.items() if addresses.get(node) != link.address]:
            await self._drop(node)
        for node, address in addresses.items():
            if node not in self._links:
                client = AgentClient(host=address.host, server_name=address.server_name, tls=tls, port=address.port)
                link = _Link(address=address, client=client)
                link.task = asyncio.create_task(self._poll(node, link))
                self._links[node] = link
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ANSWER_SECONDS):
                for link in list(self._links.values()):
                    await link.first.wait()

    def reports(self) -> Reports:
        return {node: link.answer for node, link in self._links.items() if link.answer is not None}

    def client(self, node: str) -> AgentClient | None:
        link = self._links.get(node)
        return link.client if link else None

    def learn(self, node: str, report: NodeReport) -> None:
        """A command's own answer is as good as a polled one, and newer."""
        link = self._links.get(node)
        if link:
            self._remember(link, report)

    async def close(self) -> None:
        for node in list(self._links):
            await self._drop(node)

    async def _drop(self, node: str) -> None:
        link = self._links.pop(node)
        if link.task:
            link.task.cancel()
            await asyncio.gather(link.task, return_exceptions=True)
        await link.client.close()

    async def _poll(self, node: str, link: _Link) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            known = link.answer.revision if isinstance(link.answer, NodeReport) else None
            try:
                report = await link.client.report(after=known, wait_seconds=0.0 if known is None else POLL_SECONDS)
                self._remember(link, report)
                pause = FIRST_PAUSE_SECONDS
            except BackupError as error:
                if not isinstance(link.answer, Unreachable):
                    log.info("the agent on %s does not answer: %s", node, error.message)
                    link.answer = Unreachable(reason=error.reason, message=error.message)
                    self._wake()
                link.first.set()
                await asyncio.sleep(pause)
                pause = min(1.2 * pause, LONGEST_PAUSE_SECONDS)

    def _remember(self, link: _Link, report: NodeReport) -> None:
        before = link.answer
        same_process = isinstance(before, NodeReport) and before.session_id == report.session_id
        if same_process and isinstance(before, NodeReport) and report.revision < before.revision:
            return
        link.answer = report
        link.first.set()
        if before == report:
            return
        now = asyncio.get_running_loop().time()
        if not only_progressed(before, report) or now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._wake()


def only_progressed(before: NodeReport | Unreachable | None, after: NodeReport) -> bool:
    """Nothing but the counters of running steps has changed."""
    return isinstance(before, NodeReport) and _without_counters(before) == _without_counters(after)


def _without_counters(report: NodeReport) -> NodeReport:
    steps = {
        step: taken.model_copy(update={"progress": Progress()}) if taken.phase is StepPhase.RUNNING else taken
        for step, taken in report.steps.items()
    }
    return report.model_copy(update={"steps": steps, "revision": 0})
