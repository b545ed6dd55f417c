from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

import pytest

from bert_handler import memory

SMAPS = Path("/proc/self/smaps")
SIZE = 2**20


def resident_kb(path: Path) -> int:
    mappings = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", SMAPS.read_text())
    return sum(int(re.search(r"Rss:\s+(\d+)", part)[1]) for part in mappings if str(path) in part.splitlines()[0])


@pytest.mark.skipif(not SMAPS.is_file(), reason="needs Linux")
def test_pages_leave_and_come_back(tmp_path):
    path = tmp_path / "model.onnx.data"
    path.write_bytes(b"x" * SIZE)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:] == b"x" * SIZE
        assert resident_kb(path) == SIZE // 1024
        memory.release_mapped(path)
        assert resident_kb(path) == 0
        assert mapped[:] == b"x" * SIZE


@pytest.mark.skipif(not SMAPS.is_file(), reason="needs Linux")
def test_what_can_be_written_to_stays(tmp_path):
    path = tmp_path / "model.onnx.data"
    path.write_bytes(b"x" * SIZE)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[:4] = b"mine"
        memory.release_mapped(path)
        assert mapped[:4] == b"mine"


def test_a_file_that_nobody_maps_is_no_error(tmp_path):
    memory.release_mapped(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "said", "found"),
    [
        ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None, memory.MAX_KERNELS),
        ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7", "7"),
        ("MKL_DISABLE_FAST_MM", None, "1"),
        ("MKL_DISABLE_FAST_MM", "0", "0"),
    ],
)
def test_the_environment_has_the_last_word_on_caches(monkeypatch, name, said, found):
    monkeypatch.delenv(name, raising=False)
    if said is not None:
        monkeypatch.setenv(name, said)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    memory.bound_caches()
    assert os.environ[name] == found


@pytest.mark.parametrize(
    ("files", "process", "expected"),
    [
        ({"memory.max": "2147483648\n"}, "0::/\n", 2**31),
        ({"memory.max": "max\n"}, "0::/\n", None),
        ({"pod/memory.max": "1000\n", "pod/box/memory.max": "max\n"}, "0::/pod/box\n", 1000),
        ({"memory/a/memory.limit_in_bytes": "1000\n"}, "4:memory:/a\n3:cpu,cpuacct:/b\n", 1000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, "", None),
        ({}, "", None),
    ],
)
def test_the_smallest_limit_above_the_process_counts(tmp_path, files, process, expected):
    for name, content in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(content)
    (tmp_path / "process").write_text(process)
    assert memory.memory_limit(tmp_path / "cgroup", tmp_path / "process") == expected
