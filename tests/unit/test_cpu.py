from __future__ import annotations

import os
from pathlib import Path

import pytest

from bert_handler.cpu import cgroup_quota, cpu_budget


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "process", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"pod/cpu.max": "200000 100000\n", "pod/box/cpu.max": "max 100000\n"}, "0::/pod/box\n", 2.0),
        ({"pod/cpu.max": "200000 100000\n", "pod/box/cpu.max": "50000 100000\n"}, "0::/pod/box\n", 0.5),
        ({"other/cpu.max": "50000 100000\n"}, "0::/pod/box\n", None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", None),
        (
            {"cpu,cpuacct/a/b/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n"},
            "4:memory:/x\n3:cpu,cpuacct:/a/b\n",
            3.0,
        ),
        ({"cpu.max": "nonsense\n"}, "0::/\n", None),
        ({}, "0::/../..\n", None),
    ],
)
def test_the_smallest_quota_above_the_process_counts(tmp_path, files, process, expected):
    root = write(tmp_path / "cgroup", files)
    (tmp_path / "process").write_text(process)
    assert cgroup_quota(root, tmp_path / "process") == expected


@pytest.mark.parametrize(
    ("cpu_max", "affinity", "cores"),
    [("50000", 4, 1), ("100000", 4, 1), ("160000", 4, 2), ("800000", 4, 4), ("max", 3, 3), ("5000", 4, 1)],
)
def test_cores_are_the_smaller_of_quota_and_affinity(tmp_path, monkeypatch, cpu_max, affinity, cores):
    root = write(tmp_path, {"cpu.max": f"{cpu_max} 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    budget = cpu_budget(None, root, tmp_path / "nothing")
    assert budget.cores == cores
    assert ("quota of" in budget.reason) == (cores < affinity)


def test_configured_threads_come_first(tmp_path):
    assert cpu_budget(7, tmp_path).cores == 7
