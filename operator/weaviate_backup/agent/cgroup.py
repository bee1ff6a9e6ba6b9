"""How many CPUs this container may use, and how many workers that makes.

The machine's CPUs say nothing in a container with a limit: the quota of the control group does.
"""

import os
from pathlib import Path

CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
CGROUP_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
WORKERS_LIMIT = 6
"""Each holds some parts of 8 MiB, 57 MiB in all as measured: six of them stay below 512 MiB."""


def available_cpus() -> float:
    """CPUs of the scheduler's mask, or of the quota when that is less."""
    cpus = float(len(os.sched_getaffinity(0)))
    quota = quota_cpus()
    return min(cpus, quota) if quota else cpus


def quota_cpus() -> float | None:
    """CPUs by the control group's quota; None without one."""
    try:
        if CGROUP_V2.exists():
            return parse_cpu_max(CGROUP_V2.read_text())
        return parse_cpu_max(f"{CGROUP_V1_QUOTA.read_text().strip()} {CGROUP_V1_PERIOD.read_text().strip()}")
    except OSError:
        return None


def parse_cpu_max(text: str) -> float | None:
    """`max 100000` or `150000 100000`; the older interface writes -1 for no limit."""
    fields = text.split()
    if len(fields) != 2 or fields[0] in ("max", "-1"):
        return None
    return int(fields[0]) / int(fields[1])


def worker_count(cpu_percentage: int, cpus: float) -> int:
    """At least one, else the share of the CPUs, rounded down; not so many that their buffers fill the memory."""
    return min(max(1, int(cpus * cpu_percentage / 100)), WORKERS_LIMIT)


def stream_count(workers: int) -> int:
    """Objects that may be under way at once: two more than compute, because some of them always wait for the store. A
    third beside one worker reads a quarter faster from S3, a fourth no more."""
    return min(workers + 2, WORKERS_LIMIT)
