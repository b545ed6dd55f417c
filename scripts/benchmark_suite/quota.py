"""A CPU quota for the processes started under it, as a container has one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000


@contextlib.contextmanager
def cpu_quota(cpus: float) -> Iterator[None]:
    """Start processes within: they stay in a fresh control group (v1 or v2) of so many CPUs, this one leaves it.

    The group is removed by `remove_groups` when they have ended.  Raises OSError where no group can be made.
    """
    unified = (ROOT / "cgroup.controllers").is_file()
    parent = ROOT if unified else ROOT / "cpu"
    group = parent / f"bert_handler_{os.getpid()}_{cpus:g}"
    group.mkdir(exist_ok=True)
    if unified:
        (group / "cpu.max").write_text(f"{round(cpus * PERIOD_US)} {PERIOD_US}")
    else:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(round(cpus * PERIOD_US)))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (parent / "cgroup.procs").write_text(str(os.getpid()))


def remove_groups() -> None:
    """Remove what `cpu_quota` has made, once nothing runs there any more."""
    for group in [*ROOT.glob(f"bert_handler_{os.getpid()}_*"), *ROOT.glob(f"cpu/bert_handler_{os.getpid()}_*")]:
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)
