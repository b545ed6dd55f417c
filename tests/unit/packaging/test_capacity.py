"""Replicas from measured loads."""

from __future__ import annotations

import json

import pytest

from bert_handler.cli import main
from bert_handler.errors import ConfigError
from bert_handler.packaging.capacity import milliseconds, plan_capacity, read_figures

FIGURES = {
    "cores": 1,
    "tokens": 20,
    "loads": [
        {"clients": 1, "requests_per_s": 50, "p50_ms": 18, "p95_ms": 22},
        {"clients": 4, "requests_per_s": 80, "p50_ms": 45, "p95_ms": 60},
        {"clients": 16, "requests_per_s": 100, "p50_ms": 150, "p95_ms": 200},
    ],
}


@pytest.mark.parametrize(
    ("rps", "p95", "tokens", "cost", "replicas", "concurrency"),
    [
        (100, 200, 20, 1, 2, 16),  # 75 planned a replica
        (100, 100, 20, 1, 2, 4),  # 60 planned, at the load that keeps 100 ms
        (100, 200, 40, 1, 4, 4),  # twice the tokens: 30 planned, p95 120 ms
        (100, 1500, 20, 7.5, 10, 16),  # BERT-base
        (1, 1000, 20, 1, 1, 16),
    ],
)
def test_replicas_keep_the_latency(rps, p95, tokens, cost, replicas, concurrency):
    plan = plan_capacity(FIGURES, rps, p95, tokens, cost)
    assert (plan.replicas, plan.concurrency) == (replicas, concurrency)
    assert plan.p95_ms <= p95
    assert plan.requests_per_s * plan.replicas >= rps


def test_latency_that_cannot_be_kept_says_what_can():
    with pytest.raises(ConfigError, match="44 ms is the least"):
        plan_capacity(FIGURES, 10, 40, 40)


@pytest.mark.parametrize(("text", "value"), [("100ms", 100), ("0.5s", 500), ("80", 80)])
def test_durations(text, value):
    assert milliseconds(text) == value


@pytest.mark.parametrize("text", ["", "fast", "-1ms", "0s", "nan"])
def test_wrong_durations_are_refused(text):
    with pytest.raises(ConfigError, match="is no duration"):
        milliseconds(text)


def test_command_plans_with_the_figures_of_the_package(capsys):
    assert read_figures()["loads"]
    assert main(["size", "--rps", "500", "--p95", "2s", "--tokens", "40"]) == 0
    said = capsys.readouterr().out
    assert "measured: torch engine, demo model (22 M parameters), texts of 15 tokens" in said
    assert "--scale-metric concurrency --scale-target" in said


def test_names_of_figures_are_printed_as_they_are(capsys, tmp_path):
    (tmp_path / "own.json").write_text(json.dumps({**FIGURES, "engine": "[red]", "model": ":cat:"}))
    assert main(["size", "--rps", "1", "--p95", "1s", "--figures", str(tmp_path / "own.json")]) == 0
    words = capsys.readouterr().out.split()
    assert "[red]" in words
    assert ":cat:," in words


def test_wrong_figures_are_refused(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    for name in ("x.json", "missing.json"):
        with pytest.raises(ConfigError, match=name):
            read_figures(tmp_path / name)
