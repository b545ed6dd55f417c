"""Limits of CPU and memory for processes, as a container has them: control groups of version 1 or 2."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000


@dataclass(frozen=True)
class Quota:
    """The control groups that a process under the quota is in."""

    groups: Sequence[Path]
    kind = "control group"

    def enter(self) -> None:
        """Put this process under the quota; as `preexec_fn`, one that starts."""
        for group in self.groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """What is started within is under the quota and stays there; this process leaves it."""
        self.enter()
        try:
            yield
        finally:
            for group in self.groups:
                (group.parent / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def quota(cpus: float, memory_bytes: int | None = None) -> Iterator[Quota]:
    """A fresh quota, which is removed when what ran under it has ended.  OSError where none can be made."""
    made: list[Path] = []
    try:
        for group, limits in _limits(cpus, memory_bytes).items():
            group.mkdir(exist_ok=True)
            made.append(group)
            for name, value in limits.items():
                (group / name).write_text(value)
        yield Quota(made)
    finally:
        for group in made:
            _remove(group)


def _limits(cpus: float, memory_bytes: int | None) -> Mapping[Path, Mapping[str, str]]:
    """What is written into the files of each group."""
    name, quota_us = f"bert_handler_{os.getpid()}_{cpus:g}", str(round(cpus * PERIOD_US))
    if (ROOT / "cgroup.controllers").is_file():
        memory = {} if memory_bytes is None else {"memory.max": str(memory_bytes)}
        return {ROOT / name: {"cpu.max": f"{quota_us} {PERIOD_US}", **memory}}
    limits = {ROOT / "cpu" / name: {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": quota_us}}
    if memory_bytes is not None:
        limits[ROOT / "memory" / name] = {"memory.limit_in_bytes": str(memory_bytes)}
    return limits


def _remove(group: Path) -> None:
    # The last process may still be ending.
    for _ in range(50):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)
