"""A directory for what a process unpacks: gone with the process, and with the next one where it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from bert_handler.locks import hold

PREFIX = "bert_handler_model_"
LOCK, CONTENT = "lock", "model"
KERNEL = Path("/proc/sys/kernel/random/boot_id")


class Scratch:
    """A directory, removed when the last user of it is gone, at the end of the process at the latest.

    A killed process removes nothing, and a container that is started again has the same temporary directory:
    whoever makes one removes those whose lock nobody holds.
    """

    def __init__(self) -> None:
        remove_abandoned()
        home, lock = _locked_home()
        self.path = home / CONTENT
        self._finalizer = weakref.finalize(self, _remove, home, lock)
        self.path.mkdir()


def remove_abandoned() -> None:
    """Remove the user's directories whose processes are gone; what is not plainly one stays."""
    for home in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Others look at them, too, and may be faster.
        with suppress(OSError):
            _remove_if_abandoned(home)


def _remove_if_abandoned(home: Path) -> None:
    state = home.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
        return
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(home / LOCK, flags), "rb") as lock:
        if lock.read(len(_kernel()) + 1) == _kernel():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(home, ignore_errors=True)


def _locked_home() -> tuple[Path, BinaryIO]:
    home = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = hold(home / LOCK)
    # Whoever removes what is abandoned locks nothing that does not tell its kernel yet.
    assert lock is not None
    lock.write(_kernel())
    lock.flush()
    return home, lock


def _remove(home: Path, lock: BinaryIO) -> None:
    shutil.rmtree(home / CONTENT, ignore_errors=True)
    # NFS keeps an open file, and its directory with it.
    lock.close()
    shutil.rmtree(home, ignore_errors=True)


@cache
def _kernel() -> bytes:
    """Which kernel keeps the locks: on a shared file system, those of another machine may not be seen."""
    return KERNEL.read_bytes() if KERNEL.is_file() else os.uname().nodename.encode()
