"""What a served model counts, and its Prometheus form.

Recording is a few additions under a lock, once a request, a micro-batch and an instance, never once
a token; prometheus_client is needed only where the figures are collected.  The names are stable.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from bert_handler.schema import NO_ID
from bert_handler.tracing import ID_HEADER, MAX_ID_CHARACTERS

REQUEST_LOGGER = __name__
"""A line a request, of level DEBUG where the server did not fail."""
logger = logging.getLogger(REQUEST_LOGGER)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


Label = tuple[str, str]
Count = tuple[str, tuple[Label, ...]]
"""Name of a counter, and its labels beside the model's, each with its value."""


class Histogram:
    """Counts of values up to each bound, and their sum.  Not thread-safe: its owner's lock guards it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as Prometheus has them."""
        found, total = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts):
            total += count
            found.append((bound, float(total)))
        return found

    def counters(self, name: str, *labels: Label) -> dict[Count, float]:
        """Buckets, sum and count as counters: TorchServe's histograms have bounds of their own."""
        found = {(f"{name}_bucket", (*labels, ("le", bound))): count for bound, count in self.buckets()}
        return {**found, (f"{name}_sum", labels): self.sum, (f"{name}_count", labels): sum(self.counts)}


class ModelMetrics:
    """The figures of one model, from any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.request_seconds = Histogram(SECONDS)
        self.stages = {"tokenize": Histogram(SECONDS), "forward": Histogram(SECONDS)}
        self.batch_rows = Histogram(ROWS)
        self.instances = self.truncations = self.tokens = self.padding_tokens = 0

    def counters(self) -> dict[Count, float]:
        """Every counter's value by its name and labels."""
        with self._lock:
            found: dict[Count, float] = {
                ("bert_handler_requests_total", (("status", s),)): n for s, n in self.requests.items()
            }
            found.update({("bert_handler_errors_total", (("kind", kind),)): n for kind, n in self.errors.items()})
            for field in ("instances", "truncations", "tokens", "padding_tokens"):
                found[f"bert_handler_{field}_total", ()] = getattr(self, field)
            for stage, histogram in self.stages.items():
                found.update(histogram.counters("bert_handler_stage_seconds", ("stage", stage)))
            found.update(self.request_seconds.counters("bert_handler_request_seconds"))
            found.update(self.batch_rows.counters("bert_handler_batch_rows"))
            return found

    def answered(self, status: int, seconds: float) -> None:
        """A request has its answer."""
        with self._lock:
            self.requests[str(status)] += 1
            self.request_seconds.add(seconds)

    def tokenized(self, seconds: float) -> None:
        """The texts of one call were tokenized."""
        with self._lock:
            self.stages["tokenize"].add(seconds)

    def forwarded(self, lengths: Sequence[int], seconds: float) -> None:
        """A micro-batch was computed.  lengths: tokens of each row before padding."""
        n_tokens = sum(lengths)
        with self._lock:
            self.stages["forward"].add(seconds)
            self.batch_rows.add(len(lengths))
            self.tokens += n_tokens
            self.padding_tokens += len(lengths) * max(lengths) - n_tokens

    def finished(self, *, truncated: bool) -> None:
        """An instance has its prediction."""
        with self._lock:
            self.instances += 1
            self.truncations += truncated

    def failed(self, kind: str) -> None:
        """An instance was refused; kind: the class of its error."""
        with self._lock:
            self.instances += 1
            self.errors[kind] += 1


def record(model: str, metrics: ModelMetrics, headers: Mapping[str, str], status: int, seconds: float) -> None:
    """Count an answered request and log its id."""
    metrics.answered(status, seconds)
    log_request(model, caller_of(headers), status, seconds)


def caller_of(headers: Mapping[str, str]) -> str:
    """The id that a request has in the log; headers have lower-case names."""
    return headers.get(ID_HEADER, NO_ID)[:MAX_ID_CHARACTERS]


def log_request(model: str, identifier: str, status: int, seconds: float) -> None:
    """Log an answered or refused request by its id, never its text; failures of the server as warnings."""
    level = logging.WARNING if status >= 500 else logging.DEBUG
    if logger.isEnabledFor(level):
        logger.log(level, "%s request_id=%a status=%d %.1f ms", model, identifier, status, 1000 * seconds)


Source = Callable[[], Mapping[str, Any]]
"""The served models by route; `metrics` of each, and `queue_rows()` and `info()` where it has them."""


class Collector:
    """Gives Prometheus the figures of all served models when it asks."""

    def __init__(self, models: Source) -> None:
        self._models = models

    def describe(self) -> list[Any]:
        """Nothing ahead of time: models come and go."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metric families, in prometheus_client's classes."""
        counted = {name: model for name, model in self._models().items() if hasattr(model, "metrics")}
        yield from _counters(counted)
        yield from _histograms(counted)
        yield from _gauges(counted)


def _counters(models: Mapping[str, Any]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily

    requests = CounterMetricFamily("bert_handler_requests", "Requests by HTTP status.", labels=["model", "status"])
    errors = CounterMetricFamily("bert_handler_errors", "Refused instances by kind.", labels=["model", "kind"])
    single = {
        "instances": CounterMetricFamily("bert_handler_instances", "Texts or records answered.", labels=["model"]),
        "truncations": CounterMetricFamily("bert_handler_truncations", "Instances that were cut.", labels=["model"]),
        "tokens": CounterMetricFamily("bert_handler_tokens", "Tokens computed, without padding.", labels=["model"]),
        "padding_tokens": CounterMetricFamily("bert_handler_padding_tokens", "Padding of batches.", labels=["model"]),
    }
    for name, model in models.items():
        for status, count in list(model.metrics.requests.items()):
            requests.add_metric([name, status], count)
        for kind, count in list(model.metrics.errors.items()):
            errors.add_metric([name, kind], count)
        for field, family in single.items():
            family.add_metric([name], getattr(model.metrics, field))
    yield from (requests, errors, *single.values())


def _histograms(models: Mapping[str, Any]) -> Iterator[Any]:
    from prometheus_client.core import HistogramMetricFamily

    seconds = HistogramMetricFamily("bert_handler_request_seconds", "From body to answer.", labels=["model"])
    stages = HistogramMetricFamily("bert_handler_stage_seconds", "Seconds by stage.", labels=["model", "stage"])
    rows = HistogramMetricFamily("bert_handler_batch_rows", "Rows of a micro-batch.", labels=["model"])
    for name, model in models.items():
        metrics = model.metrics
        seconds.add_metric([name], metrics.request_seconds.buckets(), metrics.request_seconds.sum)
        rows.add_metric([name], metrics.batch_rows.buckets(), metrics.batch_rows.sum)
        for stage, histogram in metrics.stages.items():
            stages.add_metric([name, stage], histogram.buckets(), histogram.sum)
    yield from (seconds, stages, rows)


def _gauges(models: Mapping[str, Any]) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    queue = GaugeMetricFamily("bert_handler_queue_rows", "Rows that wait for a forward.", labels=["model"])
    info = InfoMetricFamily("bert_handler_model", "What is served.", labels=["model"])
    for name, model in models.items():
        if hasattr(model, "queue_rows"):
            queue.add_metric([name], model.queue_rows())
            info.add_metric([name], model.info())
    yield from (queue, info)
