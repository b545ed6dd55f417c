"""What is submitted to the scheduler: rows that are answered together, and who waits for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union

from bert_handler.deadlines import expired
from bert_handler.errors import QueueFullError, RequestError
from bert_handler.schema import NO_ID, Row
from bert_handler.tasks.base import Outcome

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)

Waiter = Union["Future[Any]", "asyncio.Future[Any]"]
Announce = Callable[[Sequence[Any]], None]

MAX_RETRY_AFTER_S = 60
UNLOADED = "the model is being unloaded"


def queue_full(message: str, backlog_s: float) -> QueueFullError:
    """The refusal of what finds a queue full, to be sent again when what waits is computed, in `backlog_s` or so."""
    return QueueFullError(message, max(1, min(MAX_RETRY_AFTER_S, round(backlog_s))))


class Ticket:
    """The rows of one submission, complete when each has its outcome.

    deadline: time.monotonic() after which the rows are not computed any more.
    waiter: a future, of asyncio or of threads; cancelling it, or giving it another result, takes the rows
        out of the queue.
    announce: called on the forward's thread with all tickets of the same `announce` that it completes.
    patient: where the queue is full, its rows wait for room instead of being refused.
    caller: the id of its request for the log.
    """

    patient = False
    caller = NO_ID

    def __init__(self, rows: Sequence[Row], deadline: float | None, waiter: Waiter, announce: Announce) -> None:
        self.rows = rows
        self.deadline = deadline
        self.waiter = waiter
        self.announce = announce
        self.outcomes: list[Any] = [None] * len(rows)
        self.refusal: RequestError | None = None
        self._left = len(rows)
        self._lock = threading.Lock()

    def given_up(self) -> bool:
        """Whether nobody waits for the rows any more."""
        return self.waiter.done() or expired(self.deadline)

    def put(self, place: int, outcome: Outcome) -> bool:
        """Keep the outcome of one row, and say whether no other is missing."""
        with self._lock:
            self.outcomes[place] = outcome
            self._left -= 1
            return self._left == 0

    def refuse(self, error: RequestError) -> None:
        """Complete it without a forward."""
        self.refusal = error
        self.outcomes = [error] * len(self.rows)


def resolve_futures(tickets: Sequence[Ticket]) -> None:
    """Give the outcomes to those who wait for them in other threads."""
    for ticket in tickets:
        try:
            ticket.waiter.set_result(ticket.outcomes)
        except InvalidStateError:
            logger.debug("the caller of a finished submission is gone")


class Entry(NamedTuple):
    """One waiting row.  since: the time.monotonic() of its arrival."""

    row: Row
    ticket: Ticket
    place: int
    since: float

    @property
    def cancelled(self) -> bool:
        return self.ticket.waiter.done()


def deliver(entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
    """Give rows their outcomes, and announce all tickets that are complete now at once."""
    complete: dict[Announce, list[Ticket]] = {}
    for entry, outcome in zip(entries, outcomes):
        if entry.ticket.put(entry.place, outcome):
            complete.setdefault(entry.ticket.announce, []).append(entry.ticket)
    for announce, tickets in complete.items():
        announce(tickets)
