"""scripts/local_pod: the deployment's pod and gateway on this machine."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests.readme import command_line, run_line


@pytest.mark.torchserve
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), reason="nginx is not installed")
def test_the_readmes_line_archives_serves_and_calls(tmp_path):
    done = run_line(command_line("scripts/local_pod"), tmp_path / "empty", timeout_s=280)
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
