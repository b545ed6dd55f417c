"""How much memory this process may use, and what of it libraries keep and a server does not need."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bert_handler.cpu import CGROUP_OF_PROCESS, CGROUP_ROOT, cgroups

NO_LIMIT = 2**60
"""Version 1 of control groups states a number beyond it where there is none."""
MAPPINGS = Path("/proc/self/maps")
M_MMAP_THRESHOLD = -3
"""malloc.h: the number of mallopt's parameter."""
LARGE_BUFFER = 128 * 1024
MAX_KERNELS = "16"
"""Two forwards of a transformer have no more at a time; 1,024, the default, are 100 to 300 MB."""


def memory_limit(root: Path = CGROUP_ROOT, of_process: Path = CGROUP_OF_PROCESS) -> int | None:
    """Bytes that the cgroups (v2 or v1) of this process allow; None where there is no limit."""
    limits = []
    for directory in cgroups("memory", root, of_process):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limits.append(int((directory / name).read_text(encoding="utf-8")))
    return min((limit for limit in limits if limit < NO_LIMIT), default=None)


def bound_caches() -> None:
    """Let oneDNN, in torch and in OpenVINO, keep few of the kernels that it makes for every shape that it meets.

    And MKL, in torch, no buffers for every thread, which are 20 MB and save no time.  It reads its variable when
    torch is imported, oneDNN when it makes the first kernel; what the environment says already holds.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", MAX_KERNELS)
    os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")


def keep_large_buffers_apart() -> None:
    """Let malloc map each buffer of 128 KiB or more by itself and give it back when it is freed, as it begins with.

    After the first that is freed glibc would keep up to 32 MB in its heaps, where an engine whose buffers grow with
    the longest batch leaves holes: 10 MB.  What the environment says already holds.
    """
    said = os.environ.get("MALLOC_MMAP_THRESHOLD_") or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "")
    libc = ctypes.CDLL(None)
    if not said and hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BUFFER)


def trim_heap() -> None:
    """Give back what is free in malloc's heaps: to load a model takes more than to keep it."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def release_mapped(path: Path) -> None:
    """Take the pages of a file that is mapped for reading out of memory; those that are needed come back.

    An engine reads all weights once, to pack them for its kernels, and then few: rows of the embeddings.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        libc = ctypes.CDLL(None, use_errno=True)
        for start, end in _read_only(path):
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _read_only(path: Path) -> Iterator[tuple[int, int]]:
    """First address and end of each mapping of a file that cannot be written to."""
    file = str(path.resolve())
    for line in MAPPINGS.read_text(encoding="utf-8", errors="replace").splitlines():
        addresses, modes, *_, name = line.split(maxsplit=5)
        if name == file and "w" not in modes:
            start, end = (int(part, 16) for part in addresses.split("-"))
            yield start, end
