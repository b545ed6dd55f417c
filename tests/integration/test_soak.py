"""A minute of the soak test, as CI has it; ten minutes are in artifacts/soak.json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.traffic import KINDS

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "artifacts" / "soak.json"


@pytest.mark.kserve
@pytest.mark.slow
def test_a_minute_of_mixed_traffic_is_accounted_for(tmp_path):
    summary = tmp_path / "soak.json"
    words = [sys.executable, "-m", "tests.soak", "--seconds", "60", "--summary", str(summary)]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stderr[-6000:]
    figures = json.loads(summary.read_text())
    assert set(figures["outcomes"]) == set(KINDS)
    assert figures["requests"]["sent"] > 500
    assert figures["requests"]["lost_or_wrong"] == 0
