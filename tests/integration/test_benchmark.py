"""The benchmark's short form, start to end on real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmark_suite import growth

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.kserve]


def test_the_short_form_measures_every_part(tmp_path):
    command = [sys.executable, "-m", "scripts.benchmark_suite", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_bytes())
    for name in ("kserve onnx", "kserve pipeline"):
        for rounds in results["load"][name].values():
            assert all(item["requests"] > 0 and item["errors"] == 0 and item["p50"] <= item["p99"] for item in rounds)
    assert results["offline"]["onnx"][0]["rate"] > results["load"]["kserve pipeline"]["32"][0]["rate"]
    assert {row["what"] for row in results["ratios"]} >= {"KServe host, 32 clients, onnx / its limit"}
    assert results["machine"]["versions"]["onnxruntime"]
    assert all(0 <= item["padding"] < 0.5 for item in results["load"]["kserve onnx"]["32"])
    assert all("padding" not in item for item in results["load"]["kserve pipeline"]["32"]), "it counts no tokens"
    for name in ("rate", "latency", "padding"):
        assert (tmp_path / f"{name}.png").stat().st_size > 0


def test_bodies_have_the_stated_number_of_tokens(demo_dir, tmp_path):
    from bert_handler import Predictor

    files = growth.bodies_by_tokens(demo_dir, tmp_path)
    predictor = Predictor.load(demo_dir, device="cpu", environ={"BERT_HANDLER_MAX_LENGTH": "512"})
    for n, path in files.items():
        text = json.loads(path.read_bytes())["inputs"][0]["data"][0]
        example = predictor.task.parse(text, predictor.config.parameters) if text else None
        assert example is None or predictor.task.encode([example])[0].n_tokens == n
    predictor.close()
