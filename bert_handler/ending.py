"""What is done before the interpreter ends its threads: one that is ended within an engine aborts the process."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - what is registered later is called earlier
import threading
from typing import Protocol
from weakref import WeakSet

ENDING = threading.Event()
"""Set when the process ends: every text that is being generated ends with its next token."""


class Computing(Protocol):
    """What has threads that compute."""

    def close(self, *, drain: bool) -> None:
        """End the threads when what they compute is computed; drain: also what waits."""


_COMPUTING: WeakSet[Computing] = WeakSet()


def close_at_end(computing: Computing) -> None:
    """Close it when the process ends, if it is there still."""
    _COMPUTING.add(computing)


def _close_all() -> None:
    ENDING.set()
    for computing in list(_COMPUTING):
        computing.close(drain=False)


# Before the standard library's thread pools end, as they do before `atexit`: forwards that run still need theirs.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
