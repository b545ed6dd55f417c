"""From requests to rows: all requests that come together are checked, tokenized in one call, and bounded."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Union

from bert_handler.deadlines import expired
from bert_handler.errors import (
    ConfigError,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    RequestError,
    RequestTooLargeError,
)
from bert_handler.metrics import ModelMetrics
from bert_handler.protocols.base import check_count
from bert_handler.schema import Failure, Request
from bert_handler.tasks.base import Task
from bert_handler.tasks.instances import EncodedExample, Example
from bert_handler.tasks.size import Size
from bert_handler.tracing import measure_all

logger = logging.getLogger(__name__)

Slot = Union[Failure, EncodedExample]
"""One instance: its rows, or why it has none."""


class Intake:
    """Reads requests for one model; a refused instance is a Failure in its place."""

    def __init__(self, task: Task, metrics: ModelMetrics) -> None:
        self._task = task
        self._metrics = metrics
        self._config = task.model.config

    def slots(self, requests: Sequence[Request]) -> list[list[Slot]]:
        """The instances of each request, at least one, tokenized together."""
        parsed = [self._parse(request) for request in requests]
        examples = [item for items in parsed for item in items if isinstance(item, Example)]
        callers = [it.caller for it, items in zip(requests, parsed) for item in items if isinstance(item, Example)]
        with measure_all([request.trace for request in requests], "tokenize"):
            encoded = iter(self._encode(examples, callers))
        found = []
        for request, items in zip(requests, parsed):
            slots = [next(encoded) if isinstance(item, Example) else item for item in items]
            found.append(self._bounded(slots) if request.bounded else slots)
        return found

    def size(self, request: Request) -> Size | None:
        """How much text is made of a request; None where that is no more than the client has sent."""
        if not self._task.multiplies:
            return None
        return self._task.check_size([item for item in self._parse(request) if isinstance(item, Example)])

    def _parse(self, request: Request) -> Sequence[Example | Failure]:
        try:
            check_count(len(request.instances), self._config.max_instances if request.bounded else None)
            if request.outputs is not None:
                self._task.select_outputs(request.outputs)
            if expired(request.deadline):
                raise DeadlineError("the deadline passed before the request was read")
            base = self._task.parse_parameters(request.parameters, self._config.parameters)
        except (RequestError, ConfigError) as exc:
            error = exc if isinstance(exc, RequestError) else InvalidRequestError(str(exc))
            return [Failure(error)] * max(1, len(request.instances))
        items: list[Example | Failure] = []
        for instance in request.instances:
            try:
                items.append(self._task.parse(instance, base))
            except RequestError as exc:
                items.append(Failure(exc))
        return self._sized(items) if request.bounded and self._task.multiplies else items

    def _sized(self, items: list[Example | Failure]) -> list[Example | Failure]:
        """The instances of one request, all refused where too much would be made of them."""
        try:
            self._task.check_size([item for item in items if isinstance(item, Example)])
        except RequestTooLargeError as exc:
            return [item if isinstance(item, Failure) else Failure(exc) for item in items]
        return items

    def _encode(self, examples: Sequence[Example], callers: Sequence[str]) -> list[Slot]:
        if not examples:
            return []
        started = time.perf_counter()
        try:
            encoded = self._task.encode(examples)
            self._metrics.tokenized(time.perf_counter() - started)
        except Exception:
            if len(examples) > 1:
                return [slot for alone in zip(examples, callers) for slot in self._encode(alone[:1], alone[1:])]
            logger.exception("an instance could not be tokenized, request_id=%a", callers[0])
            return [Failure(InternalError())]
        return [Failure(item) if isinstance(item, RequestError) else item for item in encoded]

    def _bounded(self, slots: list[Slot]) -> list[Slot]:
        """The instances of one request, all refused where they are too much together."""
        total, limit = 0, self._config.max_request_tokens
        for slot in slots:
            if isinstance(slot, EncodedExample):
                for row in slot.rows:
                    total += row.length
        if total <= limit:
            return slots
        error = RequestTooLargeError(f"the request has {total} tokens; max_request_tokens is {limit}")
        return [slot if isinstance(slot, Failure) else Failure(error) for slot in slots]
