"""Keeps asking an operation's agents for their reports, by long poll, so that a change wakes the daemon at once.

One task per agent pod. It only remembers the last answer, or why there was none; it decides nothing. Whoever reads the
Secrets of a namespace can answer as an agent, so what is remembered of one namespace's agents is bounded in all.
"""

import asyncio
import contextlib
import logging
import math
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from weaviate_backup.agent_client import AgentClient
from weaviate_backup.controller.driving import Pace
from weaviate_backup.core.orders import Reports, Unreachable
from weaviate_backup.core.session import AGENT_PORT, NodeReport, Progress, StepPhase, Wire
from weaviate_backup.errors import BackupError, Permanent
from weaviate_backup.layout.json_bounds import values_in

POLL_SECONDS = 20.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
"""Between two attempts at an agent that does not answer: often while it starts, then ever less."""
USELESS_SECONDS = 30.0
"""Whoever answers, and has said nothing of use for so long, is not asked on: our questions would renew the lease of an
agent that counts as silent."""
PROGRESS_SECONDS = 1.0
"""Progress alone, of all agents together, wakes no more often; whoever looks for another reason sees it sooner."""
FIRST_ANSWER_SECONDS = 2.0
MOST_BYTES = 32 << 20
"""Of the reports of all agents in one namespace, as they lie in memory."""
TOO_LARGE = "ReportsTooLarge"
"""Said of all agents of a namespace, and of none that it could do something about it."""
VALUE_BYTES = 100
"""What a value of a report takes besides its text."""
log = logging.getLogger(__name__)
_held: Counter[str] = Counter()
"""Bytes of reports by namespace."""


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
    contents_bytes: int = 0
    rest_bytes: int = 0
    task: asyncio.Task[None] | None = None
    first: asyncio.Event = field(default_factory=asyncio.Event)


class AgentLinks:
    """All agents of one operation. `whose`: its namespace; `silence_seconds`: who is not asked for so long ends."""

    def __init__(self, wake: Callable[[], None], *, whose: str, silence_seconds: float) -> None:
        self._wake = wake
        self._whose = whose
        self._silence_seconds = silence_seconds
        self._held_bytes = 0
        self._links: dict[str, _Link] = {}
        self._told_at = 0.0

    async def follow(self, addresses: Mapping[str, AgentAddress], tls: ssl.SSLContext) -> None:
        """Follow exactly these, by node; returns once each answered or had a fair chance to."""
        for node in [node for node, link in self._links.items() if addresses.get(node) != link.address]:
            await self._drop(node)
        for node, address in addresses.items():
            if node not in self._links:
                client = AgentClient(
                    host=address.host,
                    server_name=address.server_name,
                    tls=tls,
                    port=address.port,
                    whose=self._whose,
                )
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
        self._account()
        await link.client.close()

    async def _poll(self, node: str, link: _Link) -> None:
        pause, clock = FIRST_PAUSE_SECONDS, asyncio.get_running_loop().time
        pace, useless_since = Pace(clock()), math.inf
        while True:
            await asyncio.sleep(pace.take(clock()))  # whoever answers at once is not asked without end
            known = link.answer.revision if isinstance(link.answer, NodeReport) else None
            try:
                report = await link.client.report(after=known, wait_seconds=0.0 if known is None else POLL_SECONDS)
                useless_since = math.inf
                self._remember(link, report)
                pause = FIRST_PAUSE_SECONDS
            except BackupError as error:
                if not isinstance(link.answer, Unreachable):
                    log.info("the agent on %s does not answer: %s", node, error.message)
                    link.answer, link.rest_bytes = Unreachable(reason=error.reason, message=error.message), 0
                    self._account()
                    self._wake()
                link.first.set()
                if isinstance(error, Permanent) and error.reason != TOO_LARGE:
                    useless_since = min(useless_since, clock())
                useless = clock() - useless_since > USELESS_SECONDS
                await asyncio.sleep(self._silence_seconds if useless else pause)
                pause = min(1.2 * pause, LONGEST_PAUSE_SECONDS)

    def _remember(self, link: _Link, report: NodeReport) -> None:
        before = link.answer
        same_process = isinstance(before, NodeReport) and before.session_id == report.session_id
        if same_process and isinstance(before, NodeReport) and report.revision < before.revision:
            return
        if before == report:
            link.first.set()
            return
        known = link.answer, link.contents_bytes, link.rest_bytes
        link.answer, link.contents_bytes, link.rest_bytes = self._weighed(report)
        try:
            self._account()
        except Permanent:
            link.answer, link.contents_bytes, link.rest_bytes = known
            self._account()
            raise
        link.first.set()
        now = asyncio.get_running_loop().time()
        if not only_progressed(before, report) or now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._wake()

    def _weighed(self, report: NodeReport) -> tuple[NodeReport, int, int]:
        """The report, the bytes of its contents of a backup, and of the rest. All inspectors tell the same of a backup:
        it is kept once."""
        seen = report.inspected
        if seen is None:
            return report, 0, _memory_of(report)
        rest_bytes = _memory_of(report.model_copy(update={"inspected": None}))
        for link in self._links.values():
            known = link.answer.inspected if isinstance(link.answer, NodeReport) else None
            if known is not None and known.contents == seen.contents:
                same = seen.model_copy(update={"contents": known.contents})
                return report.model_copy(update={"inspected": same}), link.contents_bytes, rest_bytes
        return report, _memory_of(seen), rest_bytes

    def _account(self) -> None:
        """Raises `ReportsTooLarge` when this namespace's reports are, and more than they were."""
        contents: dict[int, int] = {}
        for link in self._links.values():
            if isinstance(link.answer, NodeReport) and link.answer.inspected is not None:
                contents[id(link.answer.inspected.contents)] = link.contents_bytes
        ours = sum(contents.values()) + sum(link.rest_bytes for link in self._links.values())
        more, self._held_bytes = ours - self._held_bytes, ours
        _held[self._whose] += more
        if more > 0 and _held[self._whose] > MOST_BYTES:
            message = f"the reports of all agents in namespace {self._whose} take more than {MOST_BYTES >> 20} MiB"
            raise Permanent(TOO_LARGE, f"{message}; run fewer operations there at a time")
        if not _held[self._whose]:
            del _held[self._whose]


def _memory_of(report: Wire) -> int:
    text = report.model_dump_json().encode()
    return len(text) + VALUE_BYTES * values_in(text)


def only_progressed(before: NodeReport | Unreachable | None, after: NodeReport) -> bool:
    """Nothing but the counters of running steps has changed."""
    return isinstance(before, NodeReport) and _without_counters(before) == _without_counters(after)


def _without_counters(report: NodeReport) -> NodeReport:
    steps = {
        step: taken.model_copy(update={"progress": Progress()}) if taken.phase is StepPhase.RUNNING else taken
        for step, taken in report.steps.items()
    }
    return report.model_copy(update={"steps": steps, "revision": 0})
