"""OpenTelemetry spans of a request's way, where the OTEL_* environment or the program asks for them.

Otherwise nothing is imported, made or measured.  Attributes are names, numbers and statuses, never texts or tokens.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bert_handler.schema import Row

logger = logging.getLogger(__name__)

ID_HEADER = "x-request-id"
MAX_ID_CHARACTERS = 128
REQUEST_HEADERS = (ID_HEADER, "traceparent", "tracestate", "baggage")
"""Who asks, and within what trace: handed on with a request wherever it goes."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTERS = {
    "otlp": "opentelemetry.exporter.otlp.proto.http.trace_exporter:OTLPSpanExporter",
    "otlp/grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter:OTLPSpanExporter",
    "console": "opentelemetry.sdk.trace.export:ConsoleSpanExporter",
}
_NOTHING = nullcontext()


class Trace:
    """The spans of one request.  This one is of a request that is not traced, and does nothing."""

    def measure(self, stage: str) -> AbstractContextManager[None]:
        """A span of what runs within."""
        return _NOTHING

    def queued(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The request's rows, marked, so that their forwards find the trace."""
        return rows

    def forwarded(self, started_ns: int, n_rows: int, n_batch_rows: int) -> None:
        """Some of the rows were computed, in a micro-batch that others may have shared."""

    def end(self, status: int, **attributes: str | int) -> None:
        """The request has its answer.  status: HTTP."""


UNTRACED = Trace()


class _Recorded(Trace):
    def __init__(self, tracer: Any, headers: Mapping[str, str]) -> None:
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._tracer = tracer
        self._span = tracer.start_span("request", context=extract(headers), kind=SpanKind.SERVER)
        if ID_HEADER in headers:
            self._span.set_attribute("bert_handler.request_id", headers[ID_HEADER][:MAX_ID_CHARACTERS])
        self._context = set_span_in_context(self._span)
        self._queued_ns: list[int] = []

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        started_ns = time.time_ns()
        try:
            yield
        finally:
            self._add(stage, started_ns, time.time_ns())

    def queued(self, rows: Sequence[Row]) -> Sequence[Row]:
        self._queued_ns.append(time.time_ns())
        return [row._replace(trace=self) for row in rows]

    def forwarded(self, started_ns: int, n_rows: int, n_batch_rows: int) -> None:
        # Forwards side by side may both be the first: a pop is atomic.
        while self._queued_ns:
            try:
                self._add("queue", self._queued_ns.pop(), started_ns)
            except IndexError:
                break
        counts = {"bert_handler.rows": n_rows, "bert_handler.batch_rows": n_batch_rows}
        self._add("forward", started_ns, time.time_ns(), counts)

    def end(self, status: int, **attributes: str | int) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attributes({f"bert_handler.{name}": value for name, value in attributes.items()})
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def _add(self, name: str, started_ns: int, ended_ns: int, attributes: Mapping[str, int] | None = None) -> None:
        span = self._tracer.start_span(name, context=self._context, start_time=started_ns, attributes=attributes)
        span.end(ended_ns)


def start(headers: Mapping[str, str]) -> Trace:
    """Begin the trace of a request, as part of the caller's where its W3C `traceparent` says so.

    headers have lower-case names.
    """
    tracer = _tracer()
    return UNTRACED if tracer is None else _Recorded(tracer, headers)


def measure_all(traces: Sequence[Trace], stage: str) -> AbstractContextManager[Any]:
    """A span in each trace of what runs within, once for all."""
    if _tracer() is None:
        return _NOTHING
    stack = ExitStack()
    for trace in traces:
        stack.enter_context(trace.measure(stage))
    return stack


def forwarded(rows: Sequence[Row], started_ns: int) -> None:
    """Tell the traces of a micro-batch's rows that it was computed."""
    if _tracer() is None:
        return
    for trace, n_rows in Counter(row.trace for row in rows).items():
        trace.forwarded(started_ns, n_rows, len(rows))


@cache
def _tracer() -> Any:
    """The tracer of the program's provider, else of one from the environment; None where neither is."""
    loaded = sys.modules.get("opentelemetry.trace")
    if loaded is not None and not isinstance(loaded.get_tracer_provider(), loaded.ProxyTracerProvider):
        return loaded.get_tracer("bert_handler")
    exporters = exporter_names(os.environ)
    if not exporters:
        return None
    try:
        return _provider(exporters).get_tracer("bert_handler")
    except ImportError as exc:
        logger.warning("no spans are sent: %s; install them with: pip install '.[otel]' in a clone", exc)
        return None


def exporter_names(environ: Mapping[str, str]) -> list[str]:
    """Keys of EXPORTERS that the standard environment variables ask for; empty where they ask for nothing."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    default = "otlp" if any(environ.get(name) for name in ENDPOINTS) else ""
    names = [name.strip() for name in (environ.get("OTEL_TRACES_EXPORTER") or default).split(",")]
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    otlp = "otlp/grpc" if protocol == "grpc" else "otlp"
    return [otlp if name == "otlp" else name for name in names if name not in ("", "none")]


def _provider(exporters: Sequence[str]) -> Any:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Service name, sampler and limits are read from the environment there.
    provider = TracerProvider()
    for name in exporters:
        if name not in EXPORTERS:
            raise ImportError(f"OTEL_TRACES_EXPORTER={name} is unknown here; choose from otlp, console, none")
        module, _, attribute = EXPORTERS[name].partition(":")
        provider.add_span_processor(BatchSpanProcessor(getattr(import_module(module), attribute)()))
    trace.set_tracer_provider(provider)
    return provider
