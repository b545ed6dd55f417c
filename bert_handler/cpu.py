"""How many cores this process may really use: cgroup quota and affinity, not the host's count."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_OF_PROCESS = Path("/proc/self/cgroup")

CORES_PER_PROCESS = 4
"""A predictor uses its cores by itself; beyond these, its one interpreter becomes the limit."""


@dataclass(frozen=True)
class CpuBudget:
    """cores: whole cores to compute on, at least one.  reason: what the number comes from."""

    cores: int
    reason: str


def usable(threads: int, widths: Sequence[int]) -> int:
    """Of so many threads, those that a forward computes with.  widths: what it can use, 1 among it; empty for any."""
    return max(width for width in widths if width <= threads) if widths else threads


def cpu_budget(
    configured: int | None = None,
    cgroup_root: Path = CGROUP_ROOT,
    cgroup_of_process: Path = CGROUP_OF_PROCESS,
) -> CpuBudget:
    """Derive the cores from the setting, else from the smaller of affinity and cgroup quota.

    A quota is rounded to the nearest core: with 1.5 CPUs, two threads that take turns beat one.
    """
    if configured is not None:
        return CpuBudget(configured, f"threads={configured} is configured")
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(cgroup_root, cgroup_of_process)
    if quota is None or quota >= allowed:
        return CpuBudget(allowed, f"{allowed} cores by CPU affinity, no smaller cgroup quota")
    cores = max(1, round(quota))
    return CpuBudget(cores, f"cgroup quota of {quota:g} CPUs ({allowed} cores by CPU affinity)")


def cgroup_quota(root: Path = CGROUP_ROOT, of_process: Path = CGROUP_OF_PROCESS) -> float | None:
    """CPUs that the cgroups (v2 or v1) of this process allow; None where there is no limit.

    A limit on any cgroup above holds too, so the smallest one counts.  In a container the root that
    is mounted is usually the process's own cgroup, whatever path /proc names.
    """
    limits = [limit for directory in cgroups("cpu", root, of_process) for limit in _limits(directory)]
    return min(limits, default=None)


def cgroups(controller: str, root: Path = CGROUP_ROOT, of_process: Path = CGROUP_OF_PROCESS) -> Iterator[Path]:
    """Directories of the process's cgroups and of those above them, v2, and v1 of `cpu` or `memory`."""
    yield root
    for mount in (controller, "cpu,cpuacct"):
        yield root / mount
    try:
        lines = of_process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        parts = [part for part in PurePosixPath(path).parts if part not in {"/", ".."}]
        mounts = [root] if not controllers else [root / controllers, root / controller]
        if controllers and controller not in controllers.split(","):
            continue
        for depth in range(1, len(parts) + 1):
            for mounted in mounts:
                yield mounted.joinpath(*parts[:depth])


def _limits(directory: Path) -> Iterator[float]:
    try:
        if (directory / "cpu.max").is_file():
            limit, period = (directory / "cpu.max").read_text().split()[:2]
        elif (directory / "cpu.cfs_quota_us").is_file():
            limit = (directory / "cpu.cfs_quota_us").read_text().strip()
            period = (directory / "cpu.cfs_period_us").read_text().strip()
        else:
            return
        if limit not in {"max", "-1"}:
            yield int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return
