"""Locks on files (flock): held by an open file, gone with the process that had it, however that ended."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import BinaryIO

UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without locks say, some of those on object storage among them."""

logger = logging.getLogger(__name__)


def hold(path: Path) -> BinaryIO | None:
    """Make a file if it is not there, and lock it for as long as the returned one is open.

    None where another one holds it.  Raises FileNotFoundError where its directory is not there (any more).
    """
    while True:
        file = path.open("ab")
        if not _lock(file):
            file.close()
            return None
        if _is_at(file, path):
            return file
        # Whoever held it has removed it since it was opened.
        file.close()


def _lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno not in UNKNOWN:
            file.close()
            raise
        logger.warning("%s: its file system knows no locks; do not use it twice at a time", file.name)
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
