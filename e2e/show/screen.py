"""What the person sees: titles, manifests, live bars on a terminal, plain lines in a log. It shows, nothing else."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from e2e.cluster.operation_view import NodeView, OperationView
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

BAR_WIDTH = 40
LINE_SECONDS = 1.0
"""In a log, at most one line of progress in so many seconds."""


class Screen:
    """One console. Everything that stays is printed; what moves is live."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/]")

    def line(self, text: str) -> None:
        self.console.print(f"  {text}")

    def error(self, text: str) -> None:
        self.console.print(f"[bold red]  ✗ {text}[/]")

    def manifest(self, resource: dict[str, Any]) -> None:
        """As YAML, the way it would stand in a file."""
        text = yaml.safe_dump(resource, sort_keys=False).rstrip()
        self.console.print("  [dim]$ kubectl apply -f - <<EOF[/]")
        if self.console.is_terminal:
            self.console.print(Syntax(text, "yaml", background_color="default", padding=(0, 4)))
        else:
            self.console.print("\n".join(f"    {line}" for line in text.splitlines()), markup=False)

    def block(self, title: str, text: str) -> None:
        """A piece of evidence, as it is."""
        self.console.rule(title, align="left")
        self.console.print(text, markup=False)

    @contextmanager
    def counting(self, title: str, total: int) -> Iterator["Counter"]:
        """A bar for work that is counted in objects."""
        counter = Counter(self.console, title, total)
        if self.console.is_terminal:
            with Live(counter, console=self.console, refresh_per_second=8, transient=True):
                yield counter
        else:
            yield counter
        self.line(f"[green]✓[/] {counter.summary()}")

    def follow(self, states: Iterable[OperationView]) -> OperationView:
        """Shows every state until the last, which it returns: a line per phase, bars per node."""
        trail = Trail()
        last: OperationView | None = None
        with Live(console=self.console, refresh_per_second=8, transient=True, auto_refresh=True) as live:
            for state in states:
                if self.console.is_terminal:
                    live.update(bars(state), refresh=True)
                for text in trail.lines(state, time.monotonic(), verbose=not self.console.is_terminal):
                    live.console.print(f"  {text}")
                last = state
        if last is None:
            raise ValueError("an operation has at least one state")
        return last


class Counter:
    """So many of so many, and how fast."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0
        self._console = console
        self._started = self._spoken = time.monotonic()

    def add(self, number: int) -> None:
        self.done += number
        if not self._console.is_terminal and time.monotonic() - self._spoken > 5 * LINE_SECONDS:
            self._spoken = time.monotonic()
            self._console.print(f"  {self.summary()}")

    def summary(self) -> str:
        seconds = max(0.001, time.monotonic() - self._started)
        return f"{self.title}: {self.done:,} of {self.total:,} objects, {self.done / seconds:,.0f}/s"

    def __rich__(self) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        row.add_row(" ", ProgressBar(total=self.total, completed=self.done, width=BAR_WIDTH), Text(self.summary()))
        return row


class Trail:
    """Turns states into the lines that stay: each phase when it begins, and progress where nothing moves on screen."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._phase = ""
        self._reason = ""
        self._spoken = 0.0
        self._percent = -1

    def lines(self, state: OperationView, now: float, *, verbose: bool) -> Iterator[str]:
        self._started = self._started if self._started is not None else now
        clock = f"[dim]{now - self._started:6.1f} s[/]"
        if state.phase != self._phase:
            self._phase, self._reason = state.phase, state.reason
            colour = {"Completed": "green", "Failed": "red", "Canceled": "red", "Aborting": "yellow"}.get(
                state.phase, "cyan"
            )
            yield f"{clock}  [{colour}]{state.phase:<12}[/] {_plain(_remark(state))}"
        elif state.phase == "Pending" and state.reason != self._reason:
            self._reason = state.reason
            yield f"{clock}  {'':<12} {_plain(_remark(state))}"
        moving = state.percent not in (self._percent, 0) and now - self._spoken >= LINE_SECONDS
        if verbose and moving and not state.is_terminal:
            self._percent, self._spoken = state.percent, now
            nodes = ", ".join(f"{node.name} {_percent(node)}%" for node in state.nodes)
            yield f"{clock}  {'':<12} {state.percent:3d}%  {_speed(state)}  [dim]{nodes}[/]"


def bars(state: OperationView) -> RenderableType:
    """The moving part: one bar for all, one for each node."""
    head = Text(f"  {state.percent:3d}%  {_speed(state)}", style="bold")
    table = Table.grid(padding=(0, 1))
    for node in state.nodes:
        style = {"Failed": "red", "Unreachable": "yellow"}.get(node.phase, "cyan")
        size = f"{megabytes(node.bytes_done)} of {megabytes(node.bytes_total)}" if node.bytes_total else ""
        bar = ProgressBar(total=max(1, node.bytes_total), completed=node.bytes_done, width=BAR_WIDTH)
        table.add_row(
            "  ", node.name, Text(f"{node.phase:<12}", style=style), bar, Text(size), Text(node.message, style="dim")
        )
    return Group(head, table)


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def _remark(state: OperationView) -> str:
    if state.is_completed:
        return ""
    return f"{state.reason}: {state.message}" if state.reason and state.reason != state.phase else state.message


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _percent(node: NodeView) -> int:
    return 100 * node.bytes_done // node.bytes_total if node.bytes_total else 0


def _speed(state: OperationView) -> str:
    parts = []
    if state.bytes_total:
        parts.append(f"{megabytes(state.bytes_done)} of {megabytes(state.bytes_total)}")
    if state.bytes_per_second:
        parts.append(f"{state.bytes_per_second / 1e6:,.0f} MB/s")
    if state.eta_seconds is not None and not state.is_terminal:
        parts.append(f"about {state.eta_seconds} s left")
    return ", ".join(parts)
