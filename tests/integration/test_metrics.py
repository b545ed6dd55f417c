"""/metrics on both hosts' V2 servers."""

from __future__ import annotations

import pytest

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
