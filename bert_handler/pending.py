"""A request whose rows are with the engine, and the response that is made of their outcomes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from bert_handler.errors import InternalError, RequestError
from bert_handler.intake import Slot
from bert_handler.schema import Failure, Prediction, Request, Response
from bert_handler.tasks.base import Outcome, RowOutputs
from bert_handler.tasks.instances import EncodedExample
from bert_handler.tickets import Announce, Ticket, Waiter

if TYPE_CHECKING:
    from bert_handler.predictor import Predictor

logger = logging.getLogger(__name__)


class Pending(Ticket):
    """A request whose rows are with the engine of a predictor."""

    def __init__(
        self,
        predictor: Predictor,
        request: Request,
        slots: Sequence[Slot],
        *,
        deadline: float | None,
        waiter: Waiter,
        announce: Announce,
    ) -> None:
        rows = [row for slot in slots if isinstance(slot, EncodedExample) for row in slot.rows]
        super().__init__(request.trace.queued(rows), deadline, waiter, announce)
        if predictor.task.needs_generation:
            self.rows = [row._replace(given_up=self.given_up) for row in self.rows]
        self.request = request
        self.patient = not request.bounded
        self.caller = request.caller
        self._predictor = predictor
        self._slots = slots

    def wait(self) -> Response:
        """Wait for the rows in this thread, then respond; an interrupt takes those that wait out of the queue."""
        try:
            self.waiter.result()
        except BaseException:
            self.waiter.cancel()
            raise
        return self.response()

    def response(self) -> Response:
        """The response, once every row has its outcome."""
        outcomes = iter(self.outcomes)
        with self.request.trace.measure("postprocess"):
            predictions = [self._finished(slot, outcomes) for slot in self._slots]
        return Response(self.request, predictions, tuple(self.request.outputs or self._predictor.default_outputs))

    def _finished(self, slot: Slot, outcomes: Iterator[Outcome]) -> Prediction | Failure:
        result, metrics = self._decoded(slot, outcomes), self._predictor.metrics
        if isinstance(result, Failure):
            metrics.failed(type(result.error).__name__)
        else:
            metrics.finished(truncated=result.truncated)
        return result

    def _decoded(self, slot: Slot, outcomes: Iterator[Outcome]) -> Prediction | Failure:
        """The prediction of the outcomes of one instance's rows, taken from the front."""
        if isinstance(slot, Failure):
            return slot
        rows: list[RowOutputs] = []
        for outcome in list(islice(outcomes, len(slot.rows))):
            if isinstance(outcome, RequestError):
                return Failure(outcome)
            rows.append(outcome)
        try:
            return self._predictor.task.predict(slot, rows)
        except RequestError as exc:
            return Failure(exc)
        except Exception:
            logger.exception("an answer of %d tokens could not be decoded, request_id=%a", slot.n_tokens, self.caller)
            return Failure(InternalError())
