"""One CPU and 2 GiB, the limits of KServe's stock runtime: ready, and every request answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts import cpu_timeout

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*words):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "scripts.cpu_timeout", *words, "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "host",
    [pytest.param("kserve", marks=pytest.mark.kserve), pytest.param("torchserve", marks=pytest.mark.torchserve)],
)
def test_service_under_the_stock_limits_answers_everything(host):
    found = run("service", "--host", host, "--requests", "200", "--clients", "8")
    assert (found["requests"], found["clients"], found["succeeded"]) == (200, 8, 200)
    assert found["ready_s"] < 150  # the start-up budget of the manifests


def test_a_host_that_is_none_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(cpu_timeout, "serving", None)
    done = CliRunner().invoke(cpu_timeout.app, ["service", "--host", "kserv"])
    assert done.exit_code == 2
    assert "'kserv' is not one of kserve, torchserve, stock" in done.output


def test_each_cause_costs_time():
    found = run("causes", "--n", "5", "--workers", "2")
    rows = found["rows"]
    assert [row["cause"] for row in rows] == ["", "threads", "padding", "batch delay"]
    assert rows[-1]["request_ms"] < rows[0]["request_ms"] / 5
    assert rows[2]["p50_ms"] < rows[1]["p50_ms"]
    assert found["together_s"] > rows[0]["start_s"]


@pytest.mark.torchserve
def test_the_published_settings_lose_requests():
    found = run("service", "--host", "stock", "--base", "--requests", "8", "--clients", "8", "--timeout", "2")
    assert found["timed_out"] > 0
    assert found["succeeded"] + found["timed_out"] + found["refused"] == 8
