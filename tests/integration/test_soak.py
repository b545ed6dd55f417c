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


def test_the_record_of_ten_minutes_is_what_the_readme_says():
    record = json.loads(RECORD.read_text())
    requests, slope = record["requests"], record["memory_mb"]["slope_per_1000_requests"]
    assert record["seconds"] >= 600
    assert requests["lost_or_wrong"] == 0
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if "mixed traffic for" in line)
    for figure in (f"{requests['sent']:,} requests", f"{requests['cancelled_by_client']:,} of them", f"{slope:+} MB"):
        assert figure in row


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
