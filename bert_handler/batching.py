"""Micro-batches of rows of like length, taken from what is waiting whenever cores are free.

TorchServe's batches, KServe's concurrent requests and bulk scoring all pass through here, so a
request takes one way on every host. Nothing ever waits for a batch to fill: a lone row is computed
at once on all cores, a deep queue on one single-threaded forward per core.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union

from bert_handler.cost import Cost
from bert_handler.errors import DeadlineError, InternalError, QueueFullError, RequestError
from bert_handler.length_queue import LengthQueue
from bert_handler.schema import Row
from bert_handler.tasks.base import Outcome

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)

Run = Callable[[Sequence[Row], int], Sequence[Outcome]]

QUIET_S = 0.01
"""No row may have come for this long before cores are lent."""
SHARE_BESIDE_OTHERS = 0.7
"""Of the rows that wait, so many go into a forward that starts while others run.

What waits is then more, and of more lengths to choose from, when those end."""
MAX_PAUSE_S = 0.5
"""Longest that a lease waits for quiet: a steady load does not stop its holder for ever."""


@dataclass(frozen=True)
class Limits:
    """max_batch_tokens: of one forward, weighed by `cost`.  max_queue_rows: rows that may wait."""

    max_batch_tokens: int
    max_batch_rows: int
    max_queue_rows: int
    cost: Cost


class Ticket:
    """The rows of one submission, complete when each has its outcome.

    deadline: time.monotonic() after which the rows are not computed any more.
    waiter: a future, of asyncio or of threads; cancelling it, or giving it another result, takes the rows
        out of the queue.
    announce: called on the forward's thread with all tickets of the same `announce` that it completes.
    """

    def __init__(self, rows: Sequence[Row], deadline: float | None, waiter: Waiter, announce: Announce) -> None:
        self.rows = rows
        self.deadline = deadline
        self.waiter = waiter
        self.announce = announce
        self.outcomes: list[Any] = [None] * len(rows)
        self.refusal: QueueFullError | None = None
        self._left = len(rows)
        self._lock = threading.Lock()

    def put(self, place: int, outcome: Outcome) -> bool:
        """Keep the outcome of one row, and say whether no other is missing."""
        with self._lock:
            self.outcomes[place] = outcome
            self._left -= 1
            return self._left == 0

    def refuse(self, error: QueueFullError) -> None:
        """Complete it without a forward."""
        self.refusal = error
        self.outcomes = [error] * len(self.rows)


Waiter = Union["Future[Any]", "asyncio.Future[Any]"]
Announce = Callable[[Sequence[Any]], None]


def settle(tickets: Sequence[Ticket]) -> None:
    """Give the outcomes to those who wait for them in other threads."""
    for ticket in tickets:
        try:
            ticket.waiter.set_result(ticket.outcomes)
        except InvalidStateError:
            logger.debug("the caller of a finished submission is gone")


class _Entry(NamedTuple):
    row: Row
    ticket: Ticket
    place: int

    @property
    def cancelled(self) -> bool:
        return self.ticket.waiter.done()


def _deliver(entries: Sequence[_Entry], outcomes: Sequence[Outcome]) -> None:
    """Give rows their outcomes, and announce all tickets that are complete now at once."""
    complete: dict[Announce, list[Ticket]] = {}
    for entry, outcome in zip(entries, outcomes):
        if entry.ticket.put(entry.place, outcome):
            complete.setdefault(entry.ticket.announce, []).append(entry.ticket)
    for announce, tickets in complete.items():
        announce(tickets)


class Scheduler:
    """Runs rows in micro-batches on a fixed budget of cores.

    run: computes rows that share a key on a number of threads; one outcome a row.
    cores: threads that all forwards together may use.
    """

    def __init__(self, run: Run, limits: Limits, cores: int = 1) -> None:
        self._run = run
        self._limits = limits
        self._queue: LengthQueue[_Entry] = LengthQueue(limits.cost)
        self._cores = self._free_cores = cores
        self._reserved_cores = 0
        self._changed = threading.Condition()
        self._closed = False
        self._last_submit = 0.0
        self._rows_per_s = 0.0
        self._workers = [threading.Thread(target=self._work, name=f"forward-{i}", daemon=True) for i in range(cores)]
        for worker in self._workers:
            worker.start()

    def submit(self, rows: Sequence[Row], deadline: float | None = None) -> Future[list[Outcome]]:
        """Queue rows; the future gives each row's outputs or error, in order.

        deadline: time.monotonic() after which the rows are not computed any more.
        Cancelling the future has the same effect at once.
        Raises QueueFullError when too many rows wait already.
        """
        future: Future[list[Outcome]] = Future()
        ticket = Ticket(rows, deadline, future, settle)
        self.enqueue([ticket])
        if ticket.refusal is not None:
            raise ticket.refusal
        return future

    def enqueue(self, tickets: Sequence[Ticket]) -> None:
        """Queue the rows of some tickets; one that finds the queue full is complete with its refusal."""
        with self._changed:
            for ticket in tickets:
                refusal = self._refusal(len(ticket.rows))
                if refusal is not None:
                    ticket.refuse(refusal)
                    continue
                for place, row in enumerate(ticket.rows):
                    self._queue.add(_Entry(row, ticket, place))
                self._last_submit = time.monotonic()
                self._changed.notify(len(ticket.rows))
        for ticket in tickets:
            if ticket.refusal is not None or not ticket.rows:
                ticket.announce([ticket])

    def _refusal(self, n_rows: int) -> QueueFullError | None:
        """Why no rows are taken now, None where they are."""
        if not n_rows:
            return None
        if self._closed:
            return QueueFullError("the model is being unloaded", 1)
        limit = self._limits.max_queue_rows
        if len(self._queue) + n_rows > limit:
            self._queue.drop_cancelled()
        waiting = len(self._queue)
        if not waiting or waiting + n_rows <= limit:
            return None
        return QueueFullError(
            f"{waiting} sequences are waiting already; max_queue_rows is {limit}", self._retry_after_s(waiting)
        )

    def __len__(self) -> int:
        """Rows that wait."""
        return len(self._queue)

    @property
    def quiet(self) -> bool:
        """Whether no row waits, and none has come of late."""
        return not len(self._queue) and time.monotonic() - self._last_submit >= QUIET_S

    def close(self) -> None:
        """Compute what is waiting, take nothing new, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    @contextmanager
    def lend(self) -> Iterator[Lease]:
        """Lend half of the cores, one at least, to work in steps that gives way to rows."""
        lease = Lease(self, max(1, self._cores // 2))
        self._borrow(lease.threads)
        try:
            yield lease
        finally:
            self._give_back(lease.threads)

    def _borrow(self, threads: int) -> None:
        end = time.monotonic() + MAX_PAUSE_S
        with self._changed:
            while not (self.quiet and self._free_cores >= threads) and time.monotonic() < end:
                self._changed.wait(QUIET_S)
            self._reserved_cores += threads
            self._changed.wait_for(lambda: self._free_cores >= threads)
            self._reserved_cores -= threads
            self._free_cores -= threads

    def _give_back(self, threads: int) -> None:
        with self._changed:
            self._free_cores += threads
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (len(self._queue) and self._free_cores > self._reserved_cores):
                    if self._closed and not len(self._queue):
                        return
                    self._changed.wait()
                entries, threads = self._take()
                self._free_cores -= threads
            try:
                self._compute(entries, threads)
            finally:
                self._give_back(threads)

    def _take(self) -> tuple[list[_Entry], int]:
        free = self._free_cores - self._reserved_cores
        shares = min(free, len(self._queue))
        share = SHARE_BESIDE_OTHERS if free < self._cores else 1
        budget = min(self._limits.max_batch_tokens, share * self._queue.cost / shares)
        entries = self._queue.take(budget, self._limits.max_batch_rows)
        return entries, free // shares

    def _compute(self, entries: Sequence[_Entry], threads: int) -> None:
        now = time.monotonic()
        live, late = [], []
        for entry in entries:
            if entry.ticket.deadline is not None and entry.ticket.deadline <= now:
                late.append(entry)
            elif not entry.cancelled:
                live.append(entry)
        _deliver(late, [DeadlineError("the deadline passed before the model was free")] * len(late))
        if live:
            self._forward(live, threads)
            self._measure(len(live) * self._cores / threads, time.monotonic() - now)

    def _forward(self, entries: Sequence[_Entry], threads: int) -> None:
        try:
            outputs = self._run([entry.row for entry in entries], threads)
        except Exception as exc:
            if len(entries) == 1:
                if not isinstance(exc, RequestError):
                    logger.exception("a forward of %d tokens failed", entries[0].row.length)
                    exc = InternalError()
                _deliver(entries, [exc])
                return
            # One row may be to blame, or all of them together need too much memory.
            logger.warning("a forward of %d rows failed (%s); trying halves", len(entries), type(exc).__name__)
            middle = len(entries) // 2
            self._forward(entries[:middle], threads)
            self._forward(entries[middle:], threads)
            return
        _deliver(entries, outputs)

    def _measure(self, n_rows: float, seconds: float) -> None:
        """Learn the rate from a forward; n_rows: had all cores computed its like."""
        rate = n_rows / max(seconds, 1e-6)
        self._rows_per_s = rate if not self._rows_per_s else 0.9 * self._rows_per_s + 0.1 * rate

    def _retry_after_s(self, waiting: int) -> int:
        return max(1, min(60, round(waiting / self._rows_per_s))) if self._rows_per_s else 1


@dataclass(frozen=True)
class Lease:
    """Cores that somebody else computes on, with as many threads, between the rows of a scheduler."""

    scheduler: Scheduler
    threads: int

    def give_way(self) -> None:
        """Let the rows that wait go first; called between two steps."""
        if not self.scheduler.quiet:
            self.scheduler._give_back(self.threads)
            self.scheduler._borrow(self.threads)
