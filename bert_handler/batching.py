"""Micro-batches of rows of like length, taken from what is waiting whenever cores are free.

TorchServe's batches, KServe's concurrent requests and bulk scoring all pass through here, so a
request takes one way on every host. Nothing ever waits for a batch to fill: a lone row is computed
at once on all cores, a deep queue on one single-threaded forward per core.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Callable

from bert_handler.cores import Cores, Lease
from bert_handler.cost import Cost
from bert_handler.cpu import usable
from bert_handler.ending import close_at_end
from bert_handler.errors import DeadlineError, DeviceLostError, InternalError, NotReadyError, RequestError
from bert_handler.length_queue import LengthQueue
from bert_handler.schema import NO_ID, Row
from bert_handler.tasks.base import Outcome
from bert_handler.tickets import UNLOADED, Entry, Ticket, deliver, queue_full, resolve_futures

logger = logging.getLogger(__name__)

Run = Callable[[Sequence[Row], int], Sequence[Outcome]]

PATIENCE_S = 0.05
"""Rows that have waited so long for other models' forwards are computed beside them: the system shares the cores.

One model's long generations would otherwise hold up all others."""
SEARCH_EVERY_S = 0.05
"""A full queue is searched for cancelled rows no more often: under overload a refusal must cost next to nothing."""
SHARE_BESIDE_OTHERS = 0.7
"""Of the rows that wait, so many go into a forward that starts while others run.

What waits is then more, and of more lengths to choose from, when those end."""


@dataclass(frozen=True)
class Limits:
    """max_batch_tokens: of one forward, weighed by `cost`.  max_queue_rows: rows that may wait.

    widths: numbers of threads that one forward can use; none where it uses as many as it is given.
    serial: forwards run one after another, as on a GPU, each with all that fits.  One is made ready while
        another runs only where it is full: what else waits is better computed together.
    """

    max_batch_tokens: int
    max_batch_rows: int
    max_queue_rows: int
    cost: Cost
    widths: tuple[int, ...] = ()
    serial: bool = False


class Scheduler:
    """Runs rows in micro-batches on a fixed budget of cores.

    run: computes rows that share a key on a number of threads; one outcome a row.
    n_cores: threads that all its forwards together may use, of `cores`, which it may share with other models.
    """

    def __init__(self, run: Run, limits: Limits, n_cores: int = 1, cores: Cores | None = None) -> None:
        self.n_cores = n_cores
        self.cores = cores or Cores()
        self.ready = threading.Condition(self.cores.lock)
        self._room = threading.Condition(self.cores.lock)
        self._run = run
        self.limits = limits
        self._queue: LengthQueue[Entry] = LengthQueue(limits.cost)
        self._n_used = self._n_idle = 0
        self._closed = False
        self._rows_per_s = 0.0
        self._searched_at = -SEARCH_EVERY_S
        with self.cores.lock:
            self.cores.join(self)
        self._workers = [threading.Thread(target=self._work, name=f"forward-{i}", daemon=True) for i in range(n_cores)]
        for worker in self._workers:
            worker.start()
        close_at_end(self)

    def submit(self, rows: Sequence[Row], deadline: float | None = None, caller: str = NO_ID) -> Future[list[Outcome]]:
        """Queue rows; the future gives each row's outputs or error, in order.

        deadline: time.monotonic() after which the rows are not computed any more.  caller: its id for the log.
        Cancelling the future has the same effect at once.
        Raises QueueFullError when too many rows wait already, NotReadyError when the model is being unloaded.
        """
        future: Future[list[Outcome]] = Future()
        ticket = Ticket(rows, deadline, future, resolve_futures)
        ticket.caller = caller
        self.enqueue([ticket])
        if ticket.refusal is not None:
            raise ticket.refusal
        return future

    def enqueue(self, tickets: Sequence[Ticket]) -> None:
        """Queue the rows of some tickets; one that finds the queue full is complete with its refusal.

        Raises NotReadyError when the model is unloaded while a patient one waits.
        """
        now = time.monotonic()
        with self.cores.lock:
            for ticket in tickets:
                refusal = self._refusal(ticket)
                if refusal is not None:
                    ticket.refuse(refusal)
                    continue
                for place, row in enumerate(ticket.rows):
                    if ticket.patient and len(self._queue) >= self.limits.max_queue_rows:
                        now = self._wait_for_room()
                    self._queue.add(Entry(row, ticket, place, now))
                self.cores.last_submit = now
                if self.cores.free > 0 or not self._n_used:
                    self.ready.notify(len(ticket.rows))
        for ticket in tickets:
            if ticket.refusal is not None or not ticket.rows:
                ticket.announce([ticket])

    def _wait_for_room(self) -> float:
        """The time.monotonic() at which the queue takes one more row."""
        while len(self._queue) >= self.limits.max_queue_rows:
            if self._closed:
                raise NotReadyError(UNLOADED)
            self.ready.notify_all()
            self._room.wait()
        return time.monotonic()

    def _refusal(self, ticket: Ticket) -> RequestError | None:
        """Why no rows are taken now, None where they are."""
        n_rows = len(ticket.rows)
        if not n_rows:
            return None
        if self._closed:
            return NotReadyError(UNLOADED)
        if ticket.patient:
            return None
        limit = self.limits.max_queue_rows
        if len(self._queue) + n_rows > limit:
            self._drop_cancelled()
        waiting = len(self._queue)
        if not waiting or waiting + n_rows <= limit:
            return None
        message = f"{waiting} sequences are waiting already; max_queue_rows is {limit}"
        return queue_full(message, self.cores.backlog_s)

    def _drop_cancelled(self) -> None:
        now = time.monotonic()
        if now >= self._searched_at + SEARCH_EVERY_S:
            self._queue.drop_cancelled()
            self._searched_at = now

    def __len__(self) -> int:
        """Rows that wait."""
        return len(self._queue)

    @property
    def waits_since(self) -> float | None:
        """The time.monotonic() of the oldest row; None where none waits, or no thread for one more forward."""
        may_start = len(self._queue) and self._n_idle and self._n_used < self.n_cores
        return self._queue.oldest.since if may_start else None

    @property
    def backlog_s(self) -> float:
        """Seconds that its waiting rows take on all cores; 0 before its first forward."""
        return len(self._queue) / self._rows_per_s if self._rows_per_s else 0.0

    def close(self, *, drain: bool = True) -> None:
        """Take nothing new, compute what is waiting, and end the threads.

        drain: without it, what waits is dropped, and only the forwards that run are waited for.
        """
        with self.cores.lock:
            self._closed = True
            if not drain:
                self._queue = LengthQueue(self.limits.cost)
            self.ready.notify_all()
            self._room.notify_all()
        for worker in self._workers:
            worker.join()
        with self.cores.lock:
            self.cores.leave(self)

    def compute_rows_alone(self) -> None:
        """Give each row a forward of its own from now on."""
        with self.cores.lock:
            self.limits = replace(self.limits, max_batch_rows=1)

    def lend(self, deadline: float | None = None) -> AbstractContextManager[Lease]:
        """Lend half of the cores, one at least, to work in steps that gives way to rows; see `Cores.lend`."""
        return self.cores.lend(max(1, self.n_cores // 2), deadline)

    def _work(self) -> None:
        while True:
            with self.cores.lock:
                self._n_idle += 1
                while not (free := self._startable()):
                    if self._closed and not len(self._queue):
                        # Whoever waits for a row that this thread has taken would never wake.
                        self.ready.notify_all()
                        return
                    # It may be the turn of another model.
                    self.cores.wake_next()
                    self.ready.wait(self._patience_s())
                self._n_idle -= 1
                entries, threads = self._take(free)
                self._room.notify_all()
                self._n_used += threads
                self.cores.take(threads)
            try:
                self._compute(entries, threads)
            finally:
                with self.cores.lock:
                    self._n_used -= threads
                    self.cores.give_back(threads)

    def _startable(self) -> int:
        """Cores for one more forward, 0 where none may start."""
        since = self.waits_since
        if since is None or (self.limits.serial and self._n_used and not self._is_full):
            return 0
        free = min(self.cores.free, self.n_cores - self._n_used)
        if free > 0 and self.cores.next() is self:
            return free
        return int(self._n_used == 0 < self._n_beside and time.monotonic() >= since + PATIENCE_S)

    @property
    def _is_full(self) -> bool:
        """Whether the rows that wait fill a forward."""
        return self._queue.cost >= self.limits.max_batch_tokens or len(self._queue) >= self.limits.max_batch_rows

    @property
    def _n_beside(self) -> int:
        """Cores that the forwards of other models use."""
        return self.cores.n_computing - self._n_used

    def _patience_s(self) -> float | None:
        """How long to wait for a turn before looking again; None where no row waits for another model."""
        since = self.waits_since
        if since is None or self._n_used:
            return None
        left = since + PATIENCE_S - time.monotonic()
        return left if left > 0 else PATIENCE_S

    def _take(self, free: int) -> tuple[list[Entry], int]:
        if self.limits.serial:
            return self._queue.take(self.limits.max_batch_tokens, self.limits.max_batch_rows), 1
        others = self.cores.n_waiting(but=self)
        shares = min(free, len(self._queue) + others)
        # Where others wait, the next forward is not of this model.
        share = SHARE_BESIDE_OTHERS / shares if free < self.n_cores else 1 / shares
        budget = min(self.limits.max_batch_tokens, self._queue.cost * (1 if others else share))
        entries = self._queue.take(budget, self.limits.max_batch_rows)
        return entries, usable(free // shares, self.limits.widths)

    def _compute(self, entries: Sequence[Entry], threads: int) -> None:
        now = time.monotonic()
        live, late = [], []
        for entry in entries:
            if entry.ticket.deadline is not None and entry.ticket.deadline <= now:
                late.append(entry)
            elif not entry.cancelled:
                live.append(entry)
        deliver(late, [DeadlineError("the deadline passed before the model was free")] * len(late))
        if live:
            self._forward(live, threads)
            self._measure(len(live) * self.n_cores / threads, time.monotonic() - now)

    def _forward(self, entries: Sequence[Entry], threads: int) -> None:
        outcomes = self._attempt(entries, threads)
        if outcomes is not None:
            deliver(entries, outcomes)
            return
        # Not where the exception is handled: its traceback holds what the failed forward has in memory.
        middle = len(entries) // 2
        self._forward(entries[:middle], threads)
        self._forward(entries[middle:], threads)

    def _attempt(self, entries: Sequence[Entry], threads: int) -> Sequence[Outcome] | None:
        """Compute rows together; None where that fails and halves may do better."""
        try:
            return self._run([entry.row for entry in entries], threads)
        except DeviceLostError as exc:
            return [exc] * len(entries)
        except Exception as exc:
            if len(entries) > 1:
                # One row may be to blame, or all of them together need too much memory.
                logger.warning("a forward of %d rows failed (%s); trying halves", len(entries), type(exc).__name__)
                return None
            if isinstance(exc, RequestError):
                return [exc]
            failed = entries[0]
            logger.exception("a forward of %d tokens failed, request_id=%a", failed.row.length, failed.ticket.caller)
            return [InternalError()]

    def _measure(self, n_rows: float, seconds: float) -> None:
        """Learn the rate from a forward; n_rows: had all cores computed its like."""
        rate = n_rows / max(seconds, 1e-6)
        self._rows_per_s = rate if not self._rows_per_s else 0.9 * self._rows_per_s + 0.1 * rate
