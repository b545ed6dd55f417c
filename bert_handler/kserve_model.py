"""A model on the KServe host: a predictor in the server's own process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from bert_handler import serving
from bert_handler.deadlines import remaining_s
from bert_handler.deferred import IN_SERVERS, deferred
from bert_handler.errors import DeadlineError, RequestError
from bert_handler.generation import TextStream
from bert_handler.metrics import ModelMetrics, record
from bert_handler.predictor import Predictor
from bert_handler.protocols import Protocol
from bert_handler.schema import Reply, Request
from bert_handler.server.alarms import alarms
from bert_handler.server.arrivals import Arrivals, tell
from bert_handler.server.asgi import CLIENT_GONE
from bert_handler.server.routes import Events, begun
from bert_handler.serving import Answer, Call

with deferred(*IN_SERVERS):
    import kserve

LOOP_BYTES = 16 * 1024
"""Bodies up to this size are decoded, tokenized and answered on the event loop: a thread would cost more."""
LOOP_SEQUENCES = 128
"""Nor may they ask for more: each takes the loop some 0.1 ms."""


class LocalModel(kserve.Model):  # type: ignore[misc, unused-ignore]
    """A predictor under the name that routes call it by."""

    def __init__(self, name: str, predictor: Predictor) -> None:
        super().__init__(name)
        self.predictor = predictor
        self.streams = predictor.task.needs_generation
        self._arrivals = Arrivals(predictor)
        self.ready = True

    @property
    def metrics(self) -> ModelMetrics:
        """What the model has counted."""
        return self.predictor.metrics

    @property
    def lost(self) -> bool:
        """Whether only a new process can serve it."""
        return self.predictor.engine.lost

    async def healthy(self) -> bool:
        """Whether it would answer now."""
        return self.ready and not self.lost

    def queue_rows(self) -> int:
        """Rows that wait for a forward."""
        return len(self.predictor.scheduler)

    def info(self) -> Mapping[str, str]:
        """What is served, for the metrics."""
        return self.predictor.info()

    async def reply(self, body: bytes, headers: Mapping[str, str], protocol: Protocol | None) -> Reply:
        """Answer one body, count it, and log its id.

        The forward runs on the scheduler's threads, never on the event loop.
        """
        started = time.perf_counter()
        small = len(body) <= LOOP_BYTES
        call = Call()
        try:
            if small:
                call = self._decode(body, headers, protocol)
            else:
                call = await asyncio.to_thread(self._decode, body, headers, protocol)
            if call.request is None:
                answer = Answer(call)
            elif call.kind == "explain":
                answer = await self._explained(call)
            else:
                small = small and self._is_small(call.request)
                answer = await self._arrivals.answer(call, small=small)
        except asyncio.CancelledError:
            serving.ended(self.predictor, call, CLIENT_GONE)
            record(self.name, self.metrics, headers, CLIENT_GONE, time.perf_counter() - started)
            raise
        if small:
            return self._counted(answer, headers, started)
        return await asyncio.to_thread(self._counted, answer, headers, started)

    def _decode(self, body: bytes, headers: Mapping[str, str], protocol: Protocol | None) -> Call:
        limit = self.predictor.config.max_instances
        return serving.decode(body, headers, protocol, streams=self.streams, max_instances=limit)

    def _counted(self, answer: Answer, headers: Mapping[str, str], started: float) -> Reply:
        reply = serving.encode(self.predictor, answer)
        record(self.name, self.metrics, headers, reply.status, time.perf_counter() - started)
        return reply

    def _is_small(self, request: Request) -> bool:
        """Whether what a small body asks for is small as well."""
        if len(request.instances) > LOOP_SEQUENCES:
            return False
        size = self.predictor.size(request)
        return size is None or (size.n_sequences <= LOOP_SEQUENCES and size.n_characters <= LOOP_BYTES)

    async def _explained(self, call: Call) -> Answer:
        """Answer behind the other explanations: they have a queue and a thread of their own."""
        assert call.request is not None
        request = self.predictor.explainer.timed(call.request)
        try:
            future = asyncio.wrap_future(self.predictor.explainer.queue.submit(request))
            response = await asyncio.wait_for(future, remaining_s(request.deadline))
        except asyncio.TimeoutError:
            return serving.refused(call, DeadlineError(serving.LATE))
        except RequestError as exc:
            return serving.refused(call, exc)
        return serving.in_time(call, response, request.deadline)

    async def stream(self, body: bytes, headers: Mapping[str, str], protocol: Protocol | None) -> Reply | Events:
        """Answer one body with server-sent events as its text is generated, or refuse it; count it at its end."""
        started = time.perf_counter()
        call = await asyncio.to_thread(self._decode, body, headers, protocol)
        if call.request is None:
            return self._counted(Answer(call), headers, started)
        readable = asyncio.Semaphore(0)
        wake = partial(tell, asyncio.get_running_loop(), readable.release)
        try:
            stream = await asyncio.to_thread(serving.open_stream, self.predictor, call.request, wake)
        except RequestError as exc:
            return self._counted(serving.refused(call, exc), headers, started)
        return await begun(self._events(call, stream, readable, headers, started))

    async def _events(
        self, call: Call, stream: TextStream, readable: asyncio.Semaphore, headers: Mapping[str, str], started: float
    ) -> Events:
        """The events of a stream; readable: released for each step of it that will not block."""
        assert call.request is not None and stream.deadline is not None
        events = serving.events(stream, tuple(call.request.outputs or self.predictor.outputs))
        own = alarms()
        alarm = own.set(stream.deadline, readable.release)
        try:
            yield b""
            while (event := await _next(events, stream, readable)) is not None:
                yield event
        finally:
            own.clear(alarm)
            stream.close()
            serving.ended(self.predictor, call, 200, 1)
            record(self.name, self.metrics, headers, 200, time.perf_counter() - started)

    async def metadata(self) -> Mapping[str, Any]:
        """V2 model metadata."""
        return self.predictor.metadata()

    def stop(self) -> None:
        """Answer what is queued, then end the model's threads."""
        super().stop()
        self.predictor.close()


async def _next(events: Iterator[bytes], stream: TextStream, readable: asyncio.Semaphore) -> bytes | None:
    """The next event, None at the end."""
    if stream.over:
        return next(events, None)
    await readable.acquire()
    if stream.generated:
        return await asyncio.to_thread(next, events, None)
    return next(events, None)
