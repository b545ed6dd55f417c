"""The KServe host's process: kserve.ModelServer with the package's routes, from its start until it has drained."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import prometheus_client
from starlette.routing import Route

from bert_handler.addresses import authority
from bert_handler.deadlines import remaining_s
from bert_handler.deferred import IN_SERVERS, deferred
from bert_handler.metrics import REQUEST_LOGGER, Collector
from bert_handler.server import DEFAULT_BODY_BYTES, GRPC_PORT, HTTP_PORT
from bert_handler.server.asgi import Application
from bert_handler.server.grpc import Servicer, grpc_server
from bert_handler.server.guard import Guard
from bert_handler.server.one_write import OneWriteProtocol
from bert_handler.server.playground import playground_routes
from bert_handler.server.repository import Repository
from bert_handler.server.routes import Routes
from bert_handler.serving import freeze_heap

with deferred(*IN_SERVERS):
    import kserve
    from kserve.protocol.rest.server import metrics_handler

DRAIN_S = 0.5
"""At least this long after SIGTERM new requests are answered with 503, before connections are refused."""
END_S = 0.5
"""Of the grace, to answer what is cut off with 503; and as much to end."""


class Server(kserve.ModelServer):  # type: ignore[misc, unused-ignore]
    """kserve.ModelServer with the package's routes before the SDK's, on one address."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        http_port: int = HTTP_PORT,
        grpc_port: int | None = GRPC_PORT,
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
    freeze_heap()
    server.start(list(models))
