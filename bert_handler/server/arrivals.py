"""Requests on an event loop: those that come in one turn are begun together, those of one forward answered together.

A turn takes one tokenizer call and one lock of the queue, where little text came, a forward wakes the loop once, and
what is done for several requests in a row finds its code in the caches that the forwards beside it wipe.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Union

from bert_handler import serving
from bert_handler.deadlines import sooner
from bert_handler.errors import DeadlineError, InternalError, RequestError
from bert_handler.pending import Pending
from bert_handler.predictor import Predictor
from bert_handler.schema import Request, Response
from bert_handler.server.alarms import alarms
from bert_handler.serving import Answer, Call
from bert_handler.tickets import Announce

if TYPE_CHECKING:
    Waiter = asyncio.Future[Union[Response, RequestError, Pending]]

logger = logging.getLogger(__name__)

MAX_TOGETHER = 32
"""The engine is not to wait until more than these are tokenized."""


class Arrivals:
    """Answers calls on the event loop that asks, with the forwards of one predictor."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived: list[tuple[Request, Waiter]] = []

    async def answer(self, call: Call, *, small: bool) -> Answer:
        """Answer a call that has a request, or refuse it when its deadline passes.

        small: it is tokenized, and its response made, on the loop; else in threads.
        A caller that is cancelled takes its rows out of the queue.
        """
        assert call.request is not None
        own = alarms()
        self._loop = own.loop
        waiter: Waiter = own.loop.create_future()
        deadline = sooner(call.request.deadline, self._predictor.latest())
        request = call.request._replace(deadline=deadline)
        alarm = own.set(deadline, _give_up, waiter)
        try:
            if small:
                self._arrive(request, waiter)
            else:
                await asyncio.to_thread(self._begin, [(request, waiter)], self._hand_over)
            response = await waiter
            if isinstance(response, Pending):
                response = await asyncio.to_thread(_response, response)
        finally:
            own.clear(alarm)
            waiter.cancel()
        if isinstance(response, RequestError):
            return serving.refused(call, response)
        return serving.in_time(call, response, deadline)

    def _arrive(self, request: Request, waiter: Waiter) -> None:
        assert self._loop is not None
        if not self._arrived:
            self._loop.call_soon(self._begin_all)
        self._arrived.append((request, waiter))
        if len(self._arrived) == MAX_TOGETHER:
            self._begin_all()

    def _begin_all(self) -> None:
        arrived, self._arrived = self._arrived, []
        waited_for = [(request, waiter) for request, waiter in arrived if not waiter.done()]
        try:
            self._begin(waited_for, self._announce)
        except Exception:
            logger.exception("%d requests could not be begun together", len(waited_for))
            for request, waiter in waited_for:
                self._begin_alone(request, waiter)

    def _begin_alone(self, request: Request, waiter: Waiter) -> None:
        try:
            self._begin([(request, waiter)], self._announce)
        except Exception:
            logger.exception("a request could not be begun, request_id=%a", request.caller)
            waiter.set_result(InternalError())

    def _begin(self, arrived: Sequence[tuple[Request, Waiter]], announce: Announce) -> None:
        requests, waiters = [request for request, _ in arrived], [waiter for _, waiter in arrived]
        self._predictor.begin(requests, waiters=waiters, announce=announce)

    def _announce(self, pendings: Sequence[Pending]) -> None:
        self._wake(_respond, pendings)

    def _hand_over(self, pendings: Sequence[Pending]) -> None:
        """Have those who wait make the responses."""
        self._wake(_give, pendings)

    def _wake(self, call: Callable[[Sequence[Pending]], None], pendings: Sequence[Pending]) -> None:
        assert self._loop is not None
        tell(self._loop, call, pendings)


def tell(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: Any) -> None:
    """Have the loop call `call(*args)`; from any thread."""
    # A loop that is closed has nobody left who waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


def _respond(pendings: Sequence[Pending]) -> None:
    for pending in pendings:
        if not pending.waiter.done():
            pending.waiter.set_result(_response(pending))


def _give(pendings: Sequence[Pending]) -> None:
    for pending in pendings:
        if not pending.waiter.done():
            pending.waiter.set_result(pending)


def _response(pending: Pending) -> Response | RequestError:
    try:
        return pending.response()
    except Exception:
        logger.exception("an answer could not be made, request_id=%a", pending.caller)
        return InternalError()


def _give_up(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(DeadlineError(serving.LATE))
