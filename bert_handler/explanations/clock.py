"""When an explanation may compute: before its deadline, and while no prediction waits."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Callable

MAX_PAUSE_S = 0.5
PAUSE_S = 0.005


class OutOfTimeError(Exception):
    """The deadline passed between two forwards."""


def never() -> bool:
    """No prediction ever waits."""
    return False


@dataclass(frozen=True)
class Clock:
    """Asked before every forward of an explanation.

    deadline: time.monotonic() by which the answer is due, None for no limit.
    busy: whether predictions wait.  An explanation lets them pass, for half a second at most, so
        that a steady load of predictions does not stop it for ever.
    """

    deadline: float | None = None
    busy: Callable[[], bool] = never

    def check(self) -> None:
        """Let predictions pass, then raise OutOfTimeError where the deadline has passed."""
        started = time.monotonic()
        while self.busy() and time.monotonic() - started < MAX_PAUSE_S:
            time.sleep(PAUSE_S)
        if self.left_s() <= 0:
            raise OutOfTimeError

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()

    def share(self, n_left: int) -> Clock:
        """The clock of the next of `n_left` equal pieces of work."""
        return self if self.deadline is None else replace(self, deadline=time.monotonic() + self.left_s() / n_left)

    def unlimited(self) -> Clock:
        """The same without a deadline: for the least work that gives any answer."""
        return replace(self, deadline=None)
