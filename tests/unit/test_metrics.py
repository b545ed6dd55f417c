"""What a model counts, and what Prometheus and the dashboard see of it."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import prometheus_client
import pytest

from bert_handler.metrics import SECONDS, Collector, Histogram, ModelMetrics, record
from bert_handler.schema import Request

DASHBOARD = Path(__file__).parents[2] / "setup_config" / "grafana" / "bert-handler.json"


def exposed(**models):
    registry = prometheus_client.CollectorRegistry()
    registry.register(Collector(lambda: models))
    return registry


def served(metrics):
    return SimpleNamespace(metrics=metrics, queue_rows=lambda: 3, info=lambda: {"name": "m", "version": "1.0"})


def test_values_fall_into_cumulative_buckets():
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 3, 9):
        histogram.add(value)
    assert histogram.buckets() == [("1", 2.0), ("2", 2.0), ("4", 3.0), ("+Inf", 4.0)]
    assert histogram.sum == 13.5


def test_counts_reach_prometheus_under_stable_names():
    metrics = ModelMetrics()
    metrics.answered(200, 0.02)
    metrics.answered(429, 0.001)
    metrics.forwarded([10, 6], 0.01)
    metrics.finished(truncated=True)
    metrics.failed("InvalidRequestError")
    found = exposed(bert=served(metrics))
    for name, labels, value in [
        ("bert_handler_requests_total", {"status": "429"}, 1),
        ("bert_handler_request_seconds_count", {}, 2),
        ("bert_handler_stage_seconds_sum", {"stage": "forward"}, 0.01),
        ("bert_handler_batch_rows_bucket", {"le": "2.0"}, 1),
        ("bert_handler_tokens_total", {}, 16),
        ("bert_handler_padding_tokens_total", {}, 4),
        ("bert_handler_instances_total", {}, 2),
        ("bert_handler_truncations_total", {}, 1),
        ("bert_handler_errors_total", {"kind": "InvalidRequestError"}, 1),
        ("bert_handler_queue_rows", {}, 3),
        ("bert_handler_model_info", {"name": "m", "version": "1.0"}, 1),
    ]:
        assert found.get_sample_value(name, {"model": "bert", **labels}) == value, name


def test_models_without_metrics_are_left_out():
    assert 'model="bert"' not in prometheus_client.generate_latest(exposed(bert=object())).decode()


def test_predictor_counts_what_it_computes(zoo, load):
    predictor = load(zoo("bert", "sequence_classification"), max_length=8)
    before = (predictor.metrics.instances, predictor.metrics.truncations, predictor.metrics.tokens)
    predictor.respond([Request(["good film", "good " * 30, {"nothing": 1}])])
    metrics = predictor.metrics
    assert (metrics.instances - before[0], metrics.truncations - before[1]) == (3, 1)
    assert metrics.errors["InvalidRequestError"] >= 1
    assert 8 < metrics.tokens - before[2] <= 16
    assert sum(metrics.stages["forward"].counts) >= 1


@pytest.mark.parametrize(("status", "level"), [(200, "DEBUG"), (503, "WARNING")])
def test_request_id_reaches_the_log_in_one_line(caplog, status, level):
    caplog.set_level(logging.DEBUG)
    record("bert", ModelMetrics(), {"x-request-id": "a1\nforged" + "x" * 500}, status, 0.0123)
    (line,) = caplog.records
    assert line.levelname == level
    assert line.getMessage().startswith(r"bert request_id='a1\nforgedx")
    assert line.getMessage().endswith(f"status={status} 12.3 ms")
    assert len(line.getMessage()) < 200


class Frontend(dict):
    """As much of TorchServe's metric cache as a handler uses: increases by name and labels, one set a report."""

    def add_metric_to_cache(self, name, unit, labels, kind):
        def add(value, values):
            self[(name, *zip(labels, values))] = value

        return SimpleNamespace(add_or_update=add)


def reported(metrics):
    """What the TorchServe handler sends of them at its first report, and at its second."""
    handler = pytest.importorskip("bert_handler.handler").TransformerHandler()
    identity = SimpleNamespace(name="bert")
    handler.predictor = SimpleNamespace(metrics=metrics, identity=identity, info=lambda: {"name": "m"})
    handler._statuses, handler._reported = [], {}
    for _ in range(2):
        handler.context, handler._next_report = SimpleNamespace(metrics=Frontend()), 0.0
        handler._count(0, 0.0)
        yield handler.context.metrics


def test_torchserve_is_told_every_bucket_once_and_then_what_grew():
    metrics = ModelMetrics()
    metrics.answered(200, 0.3)
    reports = reported(metrics)
    model = ("model", "bert")
    first = next(reports)
    buckets = {labels[1][1]: n for (name, *labels), n in first.items() if name == "bert_handler_request_seconds_bucket"}
    assert buckets == {**{str(bound): int(bound >= 0.5) for bound in SECONDS}, "+Inf": 1}
    assert first["bert_handler_stage_seconds_bucket", model, ("stage", "forward"), ("le", "0.5")] == 0
    metrics.answered(200, 20.0)
    assert next(reports) == {
        ("bert_handler_requests_total", model, ("status", "200")): 1,
        ("bert_handler_request_seconds_bucket", model, ("le", "30.0")): 1,
        ("bert_handler_request_seconds_bucket", model, ("le", "60.0")): 1,
        ("bert_handler_request_seconds_bucket", model, ("le", "+Inf")): 1,
        ("bert_handler_request_seconds_sum", model): 20.0,
        ("bert_handler_request_seconds_count", model): 1,
        ("bert_handler_model_info", model, ("name", "m")): 1,
    }


def test_dashboard_asks_for_names_that_exist():
    metrics = ModelMetrics()
    metrics.answered(200, 0.02)
    metrics.failed("InvalidRequestError")
    text = prometheus_client.generate_latest(exposed(bert=served(metrics))).decode()
    on_kserve = set(re.findall(r"^(bert_handler_\w+){", text, re.MULTILINE))
    on_torchserve = {name for name, *_ in next(reported(metrics))}
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        known = on_kserve if "KServe" in panel["title"] else on_kserve & on_torchserve
        for target in panel["targets"]:
            asked = set(re.findall(r"bert_handler_\w+", target["expr"]))
            assert asked
            assert asked <= known, panel["title"]
