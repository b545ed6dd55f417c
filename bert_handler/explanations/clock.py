"""When an explanation may compute: before its deadline, and after the predictions that wait."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Callable

from bert_handler.deadlines import never


class OutOfTimeError(Exception):
    """The deadline passed between two forwards, or whoever asked has gone."""


def nothing_waits() -> None:
    """There is nothing to give way to."""


@dataclass(frozen=True)
class Clock:
    """Asked before every forward of an explanation.

    deadline: time.monotonic() by which the answer is due, None for no limit.
    threads: cores that a forward may use.  give_way: lets predictions that wait go first.
    given_up: whether nobody waits for the answer any more, so that not even a late one is of use.
    """

    deadline: float | None = None
    threads: int = 1
    give_way: Callable[[], None] = nothing_waits
    given_up: Callable[[], bool] = never

    def check(self) -> None:
        """Let predictions pass, then raise OutOfTimeError where the deadline has passed or nobody waits."""
        self.give_way()
        if self.given_up() or self.left_s() <= 0:
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
