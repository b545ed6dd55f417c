"""/metrics on both hosts' V2 servers."""

from __future__ import annotations

import re
import time

import httpx
import pytest

from bert_handler.handler import REPORT_EVERY_S
from bert_handler.metrics import SECONDS

SAMPLE = '{"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["good film", "a bore"]}]}'


@pytest.mark.kserve
def test_kserve_host_exposes_its_figures(kserve_host):
    assert kserve_host.infer("bert", SAMPLE).status_code == 200
    assert kserve_host.infer("bert", "{}").status_code == 400
    text = kserve_host.get("/metrics").text
    for line in (
        'bert_handler_requests_total{model="bert",status="200"}',
        'bert_handler_requests_total{model="bert",status="400"}',
        'bert_handler_stage_seconds_count{model="bert",stage="forward"}',
        'bert_handler_queue_rows{model="bert"} 0.0',
        'name="BERTSeqClassification"',
    ):
        assert line in text
    assert "good film" not in text


@pytest.mark.torchserve
def test_torchserve_exposes_the_same_counters(torchserve_host):
    url = f"http://127.0.0.1:{torchserve_host.ports['metrics-port']}/metrics"
    deadline = time.monotonic() + 4 * REPORT_EVERY_S
    text = ""
    while "bert_handler_model_info{" not in text and time.monotonic() < deadline:
        assert torchserve_host.infer("bert", SAMPLE, content_type="application/json").status_code == 200
        time.sleep(1)
        text = httpx.get(url).text
    # The frontend adds the host's name as a label.
    assert 'bert_handler_requests_total{model="BERTSeqClassification",status="200",' in text
    assert 'bert_handler_stage_seconds_sum{model="BERTSeqClassification",stage="forward",' in text
    buckets = re.findall(r'bert_handler_request_seconds_bucket{model="BERTSeqClassification",le="(.+?)",.*} (.+)', text)
    assert {bound for bound, _ in buckets} == {*map(str, SECONDS), "+Inf"}
    counts = [float(count) for _, count in sorted(buckets, key=lambda bucket: float(bucket[0]))]
    assert counts == sorted(counts)
    assert counts[-1] > 0
    assert 'bert_handler_tokens_total{model="BERTSeqClassification",' in text
    assert 'bert_handler_batch_rows_sum{model="BERTSeqClassification",' in text
    info = next(line for line in text.splitlines() if line.startswith("bert_handler_model_info{"))
    assert 'name="BERTSeqClassification"' in info
    assert 'engine="torch"' in info
