"""Requests for explanations on the KServe host: one after another, on a thread of their own."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Callable

from bert_handler.errors import InternalError, NotReadyError
from bert_handler.schema import Request, Response
from bert_handler.tickets import UNLOADED, queue_full

logger = logging.getLogger(__name__)

Respond = Callable[[Request, float, Callable[[], bool]], Response]


class ExplanationQueue:
    """Answers requests in the order in which they come.

    respond: makes the response to one, of its arrival (time.monotonic()) and of what tells whether its caller has gone.
    max_waiting: instances that may wait, the setting max_explanations.
    """

    def __init__(self, respond: Respond, max_waiting: int) -> None:
        self._respond = respond
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._closed = False
        # Requests and their arrival; the thread's own queue would keep those of callers who have gone.
        self._waiting: dict[Future[Response], tuple[Request, float]] = {}
        self._instance_s = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="explain")

    def submit(self, request: Request) -> Future[Response]:
        """Queue a request.

        Cancelling the future takes it out of the queue, or ends its work before the next forward.
        Raises QueueFullError when too many instances wait already, NotReadyError when the model is being unloaded.
        """
        future: Future[Response] = Future()
        with self._lock:
            if self._closed:
                raise NotReadyError(UNLOADED)
            n_waiting = sum(len(waiting.instances) for waiting, _ in self._waiting.values())
            if n_waiting and n_waiting + len(request.instances) > self._max_waiting:
                message = f"{n_waiting} explanations wait already; max_explanations is {self._max_waiting}"
                raise queue_full(message, n_waiting * self._instance_s)
            self._waiting[future] = request, time.monotonic()
            self._executor.submit(self._answer, future)
        future.add_done_callback(self._leave)
        return future

    def close(self) -> None:
        """Answer what waits, take nothing new, and end the thread."""
        with self._lock:
            self._closed = True
        self._executor.shutdown(wait=True)

    def _answer(self, future: Future[Response]) -> None:
        with self._lock:
            waiting = self._waiting.get(future)
        if waiting is None:
            return
        (request, arrived), begun = waiting, time.monotonic()
        try:
            future.set_result(self._respond(request, arrived, future.done))
        except InvalidStateError:
            logger.debug("the caller of an explanation is gone")
        except Exception:
            logger.exception("a request for explanations failed, request_id=%a", request.caller)
            future.set_exception(InternalError())
        else:
            self._measure((time.monotonic() - begun) / max(1, len(request.instances)))

    def _measure(self, instance_s: float) -> None:
        self._instance_s = 0.8 * self._instance_s + 0.2 * instance_s if self._instance_s else instance_s

    def _leave(self, future: Future[Response]) -> None:
        with self._lock:
            del self._waiting[future]
