"""From a verdict to what people read: status, metrics. Values in, values out, but for the gauges."""

from collections.abc import Sequence
from datetime import datetime

from weaviate_backup import metrics
from weaviate_backup.api import conditions
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.location_status import Capabilities, LocationProbe, LocationStatus, ProbeFinding
from weaviate_backup.api.status import Finding
from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.core.location_verdict import Sight, Verdict
from weaviate_backup.core.location_watch import SUSPENDED, Known
from weaviate_backup.core.session import Failure, ProbeAction
from weaviate_backup.errors import BackupError, excerpt


def known_of(status: LocationStatus) -> Known:
    ready = conditions.find(status.conditions, conditions.READY)
    under_way = conditions.find(status.conditions, conditions.RECONCILING)
    return Known(
        generation=status.observed_generation,
        secrets_version=status.secrets_version,
        tried_at=status.last_probe_time,
        ready=ready is not None and ready.status == "True",
        tried=ready is not None and under_way is None and ready.reason != SUSPENDED,
    )


def judged(
    before: LocationStatus,
    spec: LocationSpec,
    verdict: Verdict,
    sights: Sequence[Sight],
    *,
    generation: int,
    secrets_version: str,
    seconds: float,
    now: datetime,
) -> LocationStatus:
    """The status after a probe, or after something that forbade one (no sights)."""
    made = conditions.ready if verdict.ready else conditions.stalled
    return LocationStatus(
        observed_generation=generation,
        conditions=made(
            before.conditions, reason=verdict.reason, message=verdict.message, generation=generation, now=now
        ),
        kind=spec.kind,
        address=spec.address,
        read_only=spec.read_only,
        last_probe_time=now,
        last_probe_seconds=round(seconds, 1) if sights else None,
        probes=tuple(_probe(sight) for sight in sights),
        capabilities=_capabilities(verdict),
        warnings=tuple(_finding(warning) for warning in verdict.warnings[:8]),
        secrets_version=secrets_version,
    )


def unreadable(before: LocationStatus, error: BackupError, *, generation: int, now: datetime) -> LocationStatus:
    """The status of a location whose spec is none."""
    return LocationStatus(
        observed_generation=generation,
        conditions=conditions.stalled(
            before.conditions, reason=error.reason, message=error.message, generation=generation, now=now
        ),
    )


def under_way(
    before: LocationStatus, spec: LocationSpec, *, generation: int, reason: str, message: str, now: datetime
) -> LocationStatus:
    """While a first probe of this spec runs: what was found before is of no account."""
    said = conditions.progressing(before.conditions, reason=reason, message=message, generation=generation, now=now)
    return LocationStatus(observed_generation=generation, conditions=said, kind=spec.kind, address=spec.address)


def measure(owner: Owner, status: LocationStatus) -> None:
    """Also after a restart, from what the status says."""
    labels = {"namespace": owner.namespace, "name": owner.name}
    metrics.LOCATION_READY.labels(**labels).set(1 if known_of(status).ready else 0)
    if status.last_probe_time is not None:
        metrics.LOCATION_LAST_PROBE.labels(**labels).set(status.last_probe_time.timestamp())
    if status.last_probe_seconds is not None:
        metrics.LOCATION_PROBE_SECONDS.labels(**labels).set(status.last_probe_seconds)
    failed = {finding.action for probe in status.probes for finding in probe.findings if not finding.ok}
    for action in ProbeAction:
        metrics.LOCATION_FINDINGS.labels(**labels, action=action.value).set(1 if action in failed else 0)


def forget(owner: Owner) -> None:
    """A location that is gone is not one that does not work."""
    for gauge in (metrics.LOCATION_READY, metrics.LOCATION_LAST_PROBE, metrics.LOCATION_PROBE_SECONDS):
        gauge.remove_by_labels({"namespace": owner.namespace, "name": owner.name})
    metrics.LOCATION_FINDINGS.remove_by_labels({"namespace": owner.namespace, "name": owner.name})


def _probe(sight: Sight) -> LocationProbe:
    failures, tried = sight.failures, [each.action for each in sight.probed.tried] if sight.probed else []
    if sight.met:
        tried.append(ProbeAction.SHARE)
    tried += [action for action in failures if action not in tried]
    findings = [
        ProbeFinding(action=action.value, ok=action not in failures, message=_line(failures.get(action)))
        for action in tried
    ]
    if sight.failure is not None:
        findings.append(ProbeFinding(action="start", ok=False, message=_line(sight.failure)))
    return LocationProbe(
        worker=sight.worker,
        node=sight.node,
        identity=excerpt(sight.probed.identity) if sight.probed and sight.probed.identity else None,
        findings=tuple(findings[:16]),
        clock_skew_seconds=_rounded(sight.probed.clock_skew_seconds) if sight.probed else None,
    )


def _capabilities(verdict: Verdict) -> Capabilities | None:
    """None rather than an empty one, which the API server would not take."""
    made = Capabilities.model_validate({action.value: can for action, can in verdict.capabilities.items()})
    return made if made.model_fields_set else None


def _line(failure: Failure | None) -> str:
    return excerpt(f"{failure.reason}: {failure.message}") if failure else ""


def _finding(failure: Failure) -> Finding:
    return Finding(reason=failure.reason[:64], message=excerpt(failure.message))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
