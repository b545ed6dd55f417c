"""The cores of a process, which the forwards of all its models share, and which are lent between them.

Whose rows have waited longest computes next.  A model whose rows wait while others compute has more of them
in its next forward: with a thread for each model and core, forwards are many and small, and take turns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from bert_handler.deadlines import expired, remaining_s, sooner

QUIET_S = 0.01
"""No row may have come for this long before cores are lent."""
MAX_PAUSE_S = 0.5
"""Longest that a lease waits for quiet: a steady load does not stop its holder for ever."""


class Sharer(Protocol):
    """A model's scheduler, as its cores see it.  ready: notified when its turn may have come; of `Cores.lock`."""

    ready: threading.Condition
    n_cores: int

    def __len__(self) -> int:
        """Rows that wait."""

    @property
    def waits_since(self) -> float | None:
        """The time.monotonic() of its oldest row; None where it has none, or no thread for one more forward."""

    @property
    def backlog_s(self) -> float:
        """Seconds that its waiting rows take on all cores; 0 before its first forward."""


class Cores:
    """As many cores as the model has that may use most.  All but `lend` and `give_way` under `lock`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last_submit = 0.0
        self._sharers: list[Sharer] = []
        self._freed = threading.Condition(self.lock)
        self._used = self._lent = self._reserved = 0

    def join(self, sharer: Sharer) -> None:
        """Share the cores with one more model."""
        self._sharers.append(sharer)

    def leave(self, sharer: Sharer) -> None:
        """The model computes nothing more."""
        if sharer in self._sharers:
            self._sharers.remove(sharer)
            self.wake_next()

    @property
    def free(self) -> int:
        """Cores for the next forward."""
        return self._unused - self._reserved

    @property
    def n_computing(self) -> int:
        """Cores that forwards have; borrowers have others."""
        return self._used - self._lent

    @property
    def _unused(self) -> int:
        return max((sharer.n_cores for sharer in self._sharers), default=0) - self._used

    @property
    def quiet(self) -> bool:
        """Whether no row waits, and none has come of late."""
        return not self.n_waiting() and time.monotonic() - self.last_submit >= QUIET_S

    def n_waiting(self, but: Sharer | None = None) -> int:
        """Rows that wait, of all models but one."""
        return sum(len(sharer) for sharer in self._sharers if sharer is not but)

    @property
    def backlog_s(self) -> float:
        """Seconds until all rows that wait now are computed, of all models."""
        return sum(sharer.backlog_s for sharer in self._sharers)

    def next(self) -> Sharer | None:
        """The model whose row has waited longest."""
        waiting = [(since, i) for i, item in enumerate(self._sharers) if (since := item.waits_since) is not None]
        return self._sharers[min(waiting)[1]] if waiting else None

    def wake_next(self) -> None:
        """Wake a thread of the model whose turn it is, where a core is free."""
        if self.free > 0 and (sharer := self.next()) is not None:
            sharer.ready.notify()

    def take(self, threads: int) -> None:
        """Use cores for a forward; those that are left are for the next model."""
        self._used += threads
        self.wake_next()

    def give_back(self, threads: int) -> None:
        """A forward, or whoever has borrowed them, needs the cores no more."""
        self._used -= threads
        self._freed.notify_all()
        self.wake_next()

    @contextmanager
    def lend(self, threads: int, deadline: float | None = None) -> Iterator[Lease]:
        """Lend cores to work in steps that gives way to rows.

        deadline: time.monotonic() from which none is waited for: the system shares those that there are.
        """
        lease = Lease(self, threads, deadline)
        with self.lock:
            self._borrow(lease)
        try:
            yield lease
        finally:
            with self.lock:
                self._return(lease)

    def give_way(self, lease: Lease) -> None:
        """Let the rows that wait go first, on the cores of a lease too."""
        with self.lock:
            if not self.quiet:
                self._return(lease)
                self._borrow(lease)

    def _borrow(self, lease: Lease) -> None:
        threads, end = lease.threads, sooner(time.monotonic() + MAX_PAUSE_S, lease.deadline)
        while not (self.quiet and self._unused >= threads) and not expired(end):
            self._freed.wait(QUIET_S)
        self._reserved += threads
        self._freed.wait_for(lambda: self._unused >= threads, remaining_s(lease.deadline))
        self._reserved -= threads
        self._used += threads
        self._lent += threads

    def _return(self, lease: Lease) -> None:
        self._lent -= lease.threads
        self.give_back(lease.threads)


@dataclass(frozen=True)
class Lease:
    """Cores that somebody else computes on, with as many threads, between the rows of the models."""

    cores: Cores
    threads: int
    deadline: float | None = None

    def give_way(self) -> None:
        """Let the rows that wait go first; called between two steps."""
        self.cores.give_way(self)


PROCESS_CORES = Cores()
"""Those that all models of this process on a CPU share."""
