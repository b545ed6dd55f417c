"""How many cores this process may really use: cgroup quota and affinity, not the host's count."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class CpuBudget:
    """cores: whole cores to compute on, at least one.  reason: what the number comes from."""

    cores: int
    reason: str


def cpu_budget(configured: int | None = None, cgroup_root: Path = CGROUP_ROOT) -> CpuBudget:
    """Derive the cores from the setting, else from the smaller of affinity and cgroup quota."""
    if configured is not None:
        return CpuBudget(configured, f"threads={configured} is configured")
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(cgroup_root)
    if quota is None or quota >= allowed:
        return CpuBudget(allowed, f"{allowed} cores by CPU affinity, no smaller cgroup quota")
    return CpuBudget(max(1, int(quota)), f"cgroup quota of {quota:g} CPUs ({allowed} cores by CPU affinity)")


def cgroup_quota(root: Path = CGROUP_ROOT) -> float | None:
    """CPUs that the cgroup (v2, else v1) lets this container use; None where there is no limit."""
    try:
        if (root / "cpu.max").is_file():
            limit, period = (root / "cpu.max").read_text().split()[:2]
        else:
            limit = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return None if limit in ("max", "-1") else int(limit) / int(period)
    except (OSError, ValueError):
        return None
