from __future__ import annotations

import ctypes
import mmap
import os
import re
import subprocess
import sys
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


HEAPS = """
import ctypes
from bert_handler import memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"

class Information(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]

libc.mallinfo2.restype = Information

def mapped():  # buffers that are mapped by themselves
    return libc.mallinfo2().hblks

memory.keep_large_buffers_apart()
libc.free(ctypes.c_void_p(libc.malloc(2**20)))
before = mapped()
libc.malloc(2**20)
print(mapped() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
@pytest.mark.parametrize(
    ("environ", "apart"),
    [
        ({}, "1"),
        ({"MALLOC_MMAP_THRESHOLD_": "33554432"}, "0"),
        ({"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432"}, "0"),
    ],
)
def test_large_buffers_are_given_back_unless_the_environment_says_otherwise(environ, apart):
    run = subprocess.run(
        [sys.executable, "-c", HEAPS], env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == apart, run.stderr


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_what_is_free_in_the_heap_is_given_back():
    status = Path("/proc/self/statm")
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    size, n = 64 * 1024, 400
    blocks = [libc.malloc(size) for _ in range(n)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks[:-1]:  # the last keeps the end of the heap in use
        libc.free(ctypes.c_void_p(block))
    before = int(status.read_text().split()[1])
    memory.trim_heap()
    given_back = (before - int(status.read_text().split()[1])) * mmap.PAGESIZE
    libc.free(ctypes.c_void_p(blocks[-1]))
    assert given_back > size * n // 2


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
