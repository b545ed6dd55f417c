"""From requests to rows: all requests that come together are checked, tokenized together, and bounded."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar, Union

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
Owner = TypeVar("Owner")

PART_CHARACTERS = 2**18
"""Of texts in one tokenizer call, far more than most requests have: each may take 200 bytes until it is cut."""


class Intake:
    """Reads requests for one model; a refused instance is a Failure in its place."""

    def __init__(self, task: Task, metrics: ModelMetrics) -> None:
        self._task = task
        self._metrics = metrics
        self._config = task.model.config

    def slots(self, requests: Sequence[Request]) -> list[list[Slot]]:
        """The instances of each request, at least one, tokenized together.

        What is left of a request that has too many tokens is not tokenized.
        """
        asked = [_Asked(request, self._parse(request)) for request in requests]
        with measure_all([request.trace for request in requests], "tokenize"):
            for part in parts([(own, item) for own in asked for item in own.items if isinstance(item, Example)]):
                self._encode_part([(own, example) for own, example in part if own.refusal is None])
        return [own.slots() for own in asked]

    def _encode_part(self, part: Sequence[tuple[_Asked, Example]]) -> None:
        callers = [own.request.caller for own, _ in part]
        limit = self._config.max_request_tokens
        for (own, _), slot in zip(part, self._encode([example for _, example in part], callers)):
            own.add(slot, limit)

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


class _Asked:
    """A request, its instances, and those that are tokenized.  refusal: of all, where they are too much together."""

    def __init__(self, request: Request, items: Sequence[Example | Failure]) -> None:
        self.request = request
        self.items = items
        self.refusal: Failure | None = None
        self._encoded: list[Slot] = []
        self._n_tokens = 0

    def add(self, slot: Slot, limit: int) -> None:
        """Add the next that is tokenized; refuse all where they have more than `limit` tokens together."""
        self._encoded.append(slot)
        if isinstance(slot, EncodedExample):
            self._n_tokens += slot.n_kept
            if self._n_tokens > limit and self.request.bounded:
                message = f"the request has more tokens than max_request_tokens, which is {limit}"
                self.refusal = Failure(RequestTooLargeError(message))

    def slots(self) -> list[Slot]:
        """All instances, each in its place."""
        encoded, refusal = iter(self._encoded), self.refusal
        if refusal is None:
            return [next(encoded) if isinstance(item, Example) else item for item in self.items]
        found = [next(encoded, refusal) if isinstance(item, Example) else item for item in self.items]
        return [slot if isinstance(slot, Failure) else refusal for slot in found]


def parts(examples: Sequence[tuple[Owner, Example]]) -> Iterator[Sequence[tuple[Owner, Example]]]:
    """Examples with who asked for them, as many at a time as one tokenizer call takes; one at least."""
    start = n_characters = 0
    for index, (_, example) in enumerate(examples):
        own = example.n_characters
        if index > start and n_characters + own > PART_CHARACTERS:
            yield examples[start:index]
            start, n_characters = index, 0
        n_characters += own
    if examples:
        yield examples[start:]
