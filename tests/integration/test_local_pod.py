"""scripts/local_pod: the deployment's pod and gateway on this machine."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.torchserve
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), reason="nginx is not installed")
def test_the_three_calls_pass_the_gateway(demo_mar, tmp_path):
    command = tmp_path / "bert-handler"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bert_handler "$@"\n')
    command.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [ROOT / "scripts" / "local_pod", "--archive", demo_mar],
        env=environ,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    listed, inferred, explained = answers
    assert listed == {"models": ["bert"]}
    assert inferred["id"] == "d3b15cad-50a2-4eaf-80ce-8b0a428bd298"
    assert inferred["model_name"] == "BERTSeqClassification"
    assert [(tensor["name"], tensor["shape"]) for tensor in inferred["outputs"]] == [("predict", [])]
    assert explained["outputs"]
    assert "the session cookie is missing or has expired" in done.stdout
    assert "404" in done.stdout
    assert "/mnt/models/config/config.properties" in done.stdout
