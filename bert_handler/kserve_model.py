"""The KServe host: kserve.ModelServer with predictors in its own process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import prometheus_client
from starlette.routing import Route

from bert_handler import serving
from bert_handler.addresses import authority
from bert_handler.deadlines import remaining_s
from bert_handler.deferred import IN_SERVERS, deferred
from bert_handler.errors import DeadlineError, RequestError
from bert_handler.generation import TextStream
from bert_handler.metrics import REQUEST_LOGGER, Collector, ModelMetrics, record
from bert_handler.predictor import Predictor
from bert_handler.protocols import Protocol
from bert_handler.schema import Reply, Request
from bert_handler.server import DEFAULT_BODY_BYTES
from bert_handler.server.alarms import alarms
from bert_handler.server.arrivals import Arrivals, tell
from bert_handler.server.asgi import CLIENT_GONE, Application
from bert_handler.server.grpc import Servicer, grpc_server
from bert_handler.server.guard import Guard
from bert_handler.server.one_write import OneWriteProtocol
from bert_handler.server.playground import playground_routes
from bert_handler.server.repository import Repository
from bert_handler.server.routes import Events, Routes, begun
from bert_handler.serving import Answer, Call

with deferred(*IN_SERVERS):
    import kserve
    from kserve.protocol.rest.server import metrics_handler

logger = logging.getLogger(__name__)

LOOP_BYTES = 16 * 1024
"""Bodies up to this size are decoded, tokenized and answered on the event loop: a thread would cost more."""
LOOP_SEQUENCES = 128
"""Nor may they ask for more: each takes the loop some 0.1 ms."""
DRAIN_S = 0.5
"""At least this long after SIGTERM new requests are answered with 503, before connections are refused."""
END_S = 0.5
"""Of the grace, to answer what is cut off with 503; and as much to end."""


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
        if small:
            call = serving.decode(body, headers, protocol, streams=self.streams)
        else:
            call = await asyncio.to_thread(serving.decode, body, headers, protocol, streams=self.streams)
        try:
            if call.request is None:
                answer = Answer(call)
            elif call.kind == "explain":
                answer = await self._explained(call)
            else:
                small = small and self._is_small(call.request)
                answer = await self._arrivals.answer(call, small=small)
        except asyncio.CancelledError:
            serving.ended(self.predictor, call, CLIENT_GONE)
            raise
        if small:
            return self._counted(answer, headers, started)
        return await asyncio.to_thread(self._counted, answer, headers, started)

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
        call = await asyncio.to_thread(serving.decode, body, headers, protocol)
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


class Server(kserve.ModelServer):  # type: ignore[misc, unused-ignore]
    """kserve.ModelServer with the package's routes before the SDK's, on one address."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        http_port: int = 8080,
        grpc_port: int | None = 8081,
        max_body_bytes: int = DEFAULT_BODY_BYTES,
        access_log: bool = False,
        *,
        grace_period_s: int = 25,
        ui: bool = True,
        guard: Guard | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        """tls: files of the certificate and its key, for REST and gRPC."""
        super().__init__(
            http_port=http_port,
            enable_grpc=False,
            enable_latency_logging=False,
            grace_period=grace_period_s,
        )
        self.guard = guard or Guard()
        self._tls = tls
        self._repository: Repository | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._grace_ends: float | None = None
        self._host = host
        self._own_grpc_port = grpc_port
        self._max_body_bytes = max_body_bytes
        self._routes = Routes(self.registered_models.get_models, max_body_bytes).routes()
        self._routes += [Route("/metrics", metrics_handler), *(playground_routes() if ui else [])]
        prometheus_client.REGISTRY.register(Collector(self.registered_models.get_models))
        self._access_log = access_log
        if access_log:
            logging.getLogger(REQUEST_LOGGER).setLevel(logging.DEBUG)
        else:
            logging.getLogger("kserve.trace").setLevel(logging.WARNING)
            _silence(logging.getLogger("uvicorn.access"))

    def enable_repository(self, store: Path, load: Callable[[str, Path], kserve.Model]) -> None:
        """Let clients load, replace and unload the models of a folder."""
        self._repository = Repository(self.registered_models.get_models(), store, load)
        self._routes += self._repository.routes()

    async def _serve(self) -> None:
        config = self._rest_server.config
        config.host, config.server_header = self._host, False
        # A proxy's word for the client's address is of use in the access log alone.
        config.proxy_headers = self._access_log
        config.http = OneWriteProtocol
        if self._tls:
            # Not by the SDK's own options, which it has from 0.21 only.
            config.ssl_certfile, config.ssl_keyfile = map(str, self._tls)
        # Not the SDK's: its routes refuse what clients send, and its middlewares cost half a millisecond.
        config.app = Application(self._routes, self.guard)
        self._drain_on_signals(self._rest_server._server)
        rpc = None
        if self._own_grpc_port is not None:
            servicer = Servicer(self.registered_models.get_models, self._repository)
            address = authority(self._host, self._own_grpc_port)
            rpc = grpc_server(servicer, address, self.guard, self._max_body_bytes, self._tls)
            await rpc.start()
        await asyncio.gather(*self.servers)
        if rpc is not None:
            await rpc.stop(self._grace_left())
        for name in list(self.registered_models.get_models()):
            self.registered_models.unload(name)

    def _drain_on_signals(self, server: Any) -> None:
        """On a signal, answer what was accepted and refuse what comes with 503; then let the server stop.

        Closing the listener at once, as uvicorn does, would reset connections that a balancer still opens.
        """
        loop, at_once = asyncio.get_running_loop(), server.handle_exit

        async def drain() -> None:
            self._grace_ends = time.monotonic() + self.grace_period
            await asyncio.sleep(DRAIN_S)
            while self.guard.n_active and self._grace_left() > 2 * END_S:
                await asyncio.sleep(0.02)
            # It would wait for open connections as long again.
            server.config.timeout_graceful_shutdown = max(0.1, self._grace_left() - END_S)
            server.should_exit = True

        def handle(number: int, frame: Any) -> None:
            if self.guard.draining:
                at_once(number, frame)
                return
            self.guard.draining = True
            loop.call_soon_threadsafe(lambda: self._tasks.append(loop.create_task(drain())))

        server.handle_exit = handle

    def _grace_left(self) -> float:
        """Seconds that are left to answer what was accepted: one period, from the signal on, for both protocols."""
        left = remaining_s(self._grace_ends)
        return float(self.grace_period) if left is None else left

    def setup_event_loop(self) -> None:
        """Run on uvloop where it is installed; the SDK prepares a loop that it then does not run."""
        with suppress(ImportError):
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    def stop(self, sig: int) -> None:
        """Nothing more to do: the HTTP server drains first, then `_serve` ends the rest."""


def _silence(logger: logging.Logger) -> None:
    """Leave a logger without a handler: uvicorn makes no lines then, which it would otherwise do to drop them."""
    logger.handlers.clear()
    logger.propagate = False


def serve(models: Sequence[kserve.Model], server: Server) -> None:
    """Serve models until SIGTERM or SIGINT."""
    serving.freeze_heap()
    server.start(list(models))
