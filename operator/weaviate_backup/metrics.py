"""Prometheus metrics of the operator. Names are published: they change like an API, by addition."""

from prometheus_client import Counter, Gauge, Histogram, generate_latest

TICK_FAILURES = Counter("wvb_tick_failures_total", "Ticks that failed, by reason.", ["reason"])
LOOP_LAG = Gauge("wvb_loop_lag_seconds", "How late the event loop was at the last look.")
OPERATIONS = Counter(
    "wvb_operations_total", "Operations that ended, by kind, phase and reason.", ["kind", "phase", "reason"]
)
DURATION = Histogram(
    "wvb_operation_duration_seconds",
    "From start to end, by kind and phase.",
    ["kind", "phase"],
    buckets=(5, 15, 30, 60, 180, 600, 1800, 3600, 4 * 3600, 12 * 3600, 24 * 3600),
)
LAST_SUCCESS = Gauge(
    "wvb_last_success_timestamp_seconds",
    "When an operation on this cluster last completed.",
    ["kind", "namespace", "stateful_set"],
)
LAST_SIZE = Gauge(
    "wvb_last_backup_stored_bytes", "Stored bytes of the last completed backup.", ["namespace", "stateful_set"]
)
LOCATION_READY = Gauge("wvb_location_ready", "1 when the location's last probe went well.", ["namespace", "name"])
LOCATION_LAST_PROBE = Gauge(
    "wvb_location_last_probe_timestamp_seconds", "When the location was last tried.", ["namespace", "name"]
)
LOCATION_PROBE_SECONDS = Gauge(
    "wvb_location_probe_duration_seconds", "How long its last probe took, pods included.", ["namespace", "name"]
)
LOCATION_FINDINGS = Gauge(
    "wvb_location_action_failed", "1 when that action of the last probe failed.", ["namespace", "name", "action"]
)


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest()
