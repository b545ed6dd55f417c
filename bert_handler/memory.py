"""Memory that libraries keep and a server does not need."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

MAPPINGS = Path("/proc/self/maps")
MAX_KERNELS = "16"
"""Two forwards of a transformer have no more at a time; 1,024, the default, are 100 to 300 MB."""


def bound_kernel_cache() -> None:
    """Let oneDNN, in torch and in OpenVINO, keep few of the kernels that it makes for every shape that it meets.

    It reads the variable when it makes the first one, and what the environment says already holds.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", MAX_KERNELS)


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
