"""Many deadlines on one timer of an event loop.

Nearly all are taken back before their time: a timer for each was 5 % of the loop's work for a short text.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from itertools import count
from typing import Any, Callable

EARLY_S = 0.001
"""Loops round their timers to milliseconds."""


class Alarms:
    """Calls functions of one loop, each at its time.  Used on the loop's thread alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._set: dict[int, tuple[float, Callable[..., None], tuple[Any, ...]]] = {}
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def set(self, when: float, call: Callable[..., None], *args: Any) -> int:
        """Have `call(*args)` called at `when`, a time.monotonic(); the number is for `clear`."""
        number = next(self._numbers)
        self._set[number] = when, call, args
        if when < self._rings_at:
            self._arm(when)
        return number

    def clear(self, number: int) -> None:
        """Take an alarm back, also one that has rung."""
        self._set.pop(number, None)

    def __len__(self) -> int:
        """Alarms that are set."""
        return len(self._set)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = self.loop.call_later(max(0.0, when - time.monotonic()), self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        now = time.monotonic() + EARLY_S
        try:
            for number in [number for number, (when, _, _) in self._set.items() if when <= now]:
                if number in self._set:  # one that rang before it may have cleared it
                    _, call, args = self._set.pop(number)
                    call(*args)
        finally:
            if self._set:
                self._arm(min(when for when, _, _ in self._set.values()))


_of_thread = threading.local()


def alarms() -> Alarms:
    """Those of the running loop."""
    loop = asyncio.get_running_loop()
    own: Alarms | None = getattr(_of_thread, "alarms", None)
    if own is None or own.loop is not loop:
        own = _of_thread.alarms = Alarms(loop)
    return own
