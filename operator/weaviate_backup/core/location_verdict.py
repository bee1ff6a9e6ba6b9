"""What the workers of a probe saw, judged: may operations use the location, and if not, why? Pure.

One line names what is wrong first: what the store refused, before what no worker could find out. What does not keep
operations from working is a warning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from weaviate_backup.core.session import Failure, ProbeAction, Probed

READY = "Ready"
DENIALS = frozenset({"AccessDenied", "InvalidCredentials"})
CLOCK_REFUSALS = frozenset({"RequestTimeTooSkewed"})
CLOCK_WARNING_SECONDS = 60.0
"""Stores refuse signatures and tokens that are 5 to 15 minutes off."""
WRITE_ONCE_LACKING = "WriteOnceUnsupported"
WARNED = {ProbeAction.WRITE_ONCE: WRITE_ONCE_LACKING, ProbeAction.DELETE: "AccessDenied"}
"""Actions that an operation can do without, and the reason with which they may fail: write-once is looked up where a
store has none, and who may not delete cannot be made to delete backups."""


@dataclass(frozen=True)
class Sight:
    """What became of one worker. `failure`: why it could not do its part; `met`: it saw what the others wrote."""

    worker: str
    node: str | None = None
    probed: Probed | None = None
    failure: Failure | None = None
    meeting: Failure | None = None
    met: bool = False
    parting: Failure | None = None
    """Why its mark could not be deleted."""

    @property
    def failures(self) -> dict[ProbeAction, Failure]:
        """What did not work, by action, in the order in which it was tried."""
        found = {each.action: each.failure for each in self.probed.tried if each.failure} if self.probed else {}
        if self.meeting is not None:
            found[ProbeAction.SHARE] = self.meeting
        if self.parting is not None:
            found.setdefault(ProbeAction.DELETE, self.parting)
        return found

    @property
    def place(self) -> str:
        return f"node {self.node}" if self.node else self.worker


@dataclass(frozen=True)
class Verdict:
    """`reason` is `Ready` or a failure's. `capabilities`: what the store can do; what was not tried is absent."""

    reason: str
    message: str
    capabilities: dict[ProbeAction, bool]
    warnings: tuple[Failure, ...] = ()

    @property
    def ready(self) -> bool:
        return self.reason == READY


def judge(sights: Sequence[Sight], *, address: str, kind: str, read_only: bool) -> Verdict:
    """`sights` are of all workers that were to take part."""
    capabilities = _capabilities(sights)
    warnings = tuple(_warnings(sights, kind=kind))
    fatal = next(_refusals(sights, kind=kind, read_only=read_only), None)
    if fatal is not None:
        return Verdict(fatal.reason, fatal.message, capabilities, warnings)
    tried = ", ".join(action for action, works in capabilities.items() if works)
    seen = f"{address} works ({tried}; seen from {' and '.join(_places(sights))})"
    return Verdict(READY, seen, capabilities, warnings)


def _refusals(sights: Sequence[Sight], *, kind: str, read_only: bool) -> Iterator[Failure]:
    """Why operations may not use the location, the most telling first."""
    for action in ProbeAction:
        seeing = [sight for sight in sights if action in sight.failures and not _is_warning(action, sight)]
        if action is ProbeAction.SHARE and seeing:
            yield _not_shared(sights, seeing[0], kind)
        elif seeing:
            yield _refused(action, seeing, sights)
    if read_only and {sight.probed.empty for sight in sights if sight.probed} == {True, False}:
        yield _not_shared(sights, next(sight for sight in sights if sight.probed and sight.probed.empty), kind)
    absent = [sight for sight in sights if sight.probed is None]
    if absent and (kind == "filesystem" or len(absent) == len(sights)):
        yield _unseen(absent[0], sights, kind)


def _refused(action: ProbeAction, seeing: Sequence[Sight], sights: Sequence[Sight]) -> Failure:
    """The first worker's words; the others' denials of the same identity say nothing new."""
    first = seeing[0]
    failure, identity = first.failures[action], first.probed.identity if first.probed else ""
    said = failure.message
    denied = [each for each in ProbeAction if each in first.failures and _same(first.failures[each], failure)]
    if failure.reason in DENIALS and identity:
        what = f"{' and '.join(denied)} denied" if failure.reason == "AccessDenied" else "asked"
        said = f"{said} ({what} as {identity})"
    if failure.reason in CLOCK_REFUSALS and first.probed and first.probed.clock_skew_seconds is not None:
        said = f"{said} ({_skew(first)})"
    working = [sight for sight in sights if sight.probed is not None and action not in sight.failures]
    if working:
        said = f"on {first.place}, but not on {working[0].place}: {said}"
    return Failure(reason=failure.reason, message=said, transient=failure.transient)


def _same(one: Failure, other: Failure) -> bool:
    return one.reason == other.reason


def _not_shared(sights: Sequence[Sight], seeing: Sight, kind: str) -> Failure:
    reason = seeing.meeting.reason if seeing.meeting else "LocationNotShared"
    if reason != "LocationNotShared" and seeing.meeting is not None:
        return Failure(reason=reason, message=f"on {seeing.place}: {seeing.meeting.message}", transient=True)
    other = next((sight for sight in sights if sight is not seeing), seeing)
    cure = (
        "spec.filesystem.volume must be one that all nodes share, such as nfs or a ReadWriteMany claim"
        if kind == "filesystem"
        else f"spec.{kind} must lead to the same store from every node; check endpoint and DNS"
    )
    message = f"the worker on {seeing.place} does not see what the one on {other.place} does; {cure}"
    return Failure(reason=reason, message=message, transient=True)


def _unseen(absent: Sight, sights: Sequence[Sight], kind: str) -> Failure:
    failure = absent.failure or Failure(reason="ProbeFailed", message="it gave no result", transient=True)
    seen = next((sight for sight in sights if sight.probed is not None), None)
    if seen is None:
        return failure
    return Failure(
        reason="LocationNotShared",
        message=f"{seen.place} can use spec.{kind}.volume, but a second worker beside it did not come about "
        f"({failure.reason}: {failure.message}); the volume must be one that all nodes can mount at once, such as nfs "
        "or a ReadWriteMany claim",
        transient=True,
    )


def _warnings(sights: Sequence[Sight], *, kind: str) -> Iterator[Failure]:
    for sight in sights:
        if (failure := sight.failures.get(ProbeAction.WRITE_ONCE)) and _is_warning(ProbeAction.WRITE_ONCE, sight):
            yield failure
            break
    for sight in sights:
        if ProbeAction.DELETE in sight.failures and _is_warning(ProbeAction.DELETE, sight):
            yield _delete_denied(sight)
            break
    for sight in sights:
        if sight.probed and abs(sight.probed.clock_skew_seconds or 0.0) >= CLOCK_WARNING_SECONDS:
            yield Failure(reason="ClockSkewed", message=_skew(sight), transient=True)
    absent = [sight for sight in sights if sight.probed is None]
    if absent and len(absent) < len(sights) and kind != "filesystem":
        why = f" ({absent[0].failure.reason}: {absent[0].failure.message})" if absent[0].failure else ""
        message = f"it was tried by one worker only; {absent[0].worker} did not come about{why}"
        yield Failure(reason="ProbeIncomplete", message=message, transient=True)


def _is_warning(action: ProbeAction, sight: Sight) -> bool:
    return action in WARNED and sight.failures[action].reason == WARNED[action]


def _delete_denied(sight: Sight) -> Failure:
    identity = sight.probed.identity if sight.probed else ""
    message = (
        f"{identity or 'the identity'} may not delete objects, so nobody who steals it can; what failed or canceled "
        "backups and copies leave stays in the store until another identity deletes it"
    )
    return Failure(reason="DeleteDenied", message=message, transient=False)


def _skew(sight: Sight) -> str:
    seconds = (sight.probed.clock_skew_seconds if sight.probed else None) or 0.0
    side = "behind" if seconds > 0 else "ahead of"
    return f"the clock of {sight.place} is {abs(seconds):.0f} s {side} the store's; synchronize both with NTP"


def _capabilities(sights: Sequence[Sight]) -> dict[ProbeAction, bool]:
    """What all that tried it could do."""
    found: dict[ProbeAction, bool] = {}
    for action in ProbeAction:
        tried = [
            action not in sight.failures
            for sight in sights
            if sight.probed
            and (
                action in {each.action for each in sight.probed.tried}
                or (action is ProbeAction.SHARE and (sight.met or sight.meeting))
            )
        ]
        if tried:
            found[action] = all(tried)
    return found


def _places(sights: Sequence[Sight]) -> list[str]:
    return list(dict.fromkeys(sight.place for sight in sights if sight.probed is not None))
