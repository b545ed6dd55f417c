"""`explain`: its options are those of the requests."""

from __future__ import annotations

import json

import pytest

from bert_handler.cli import main

pytest.importorskip("captum")


def test_a_text_is_the_baseline(capsys, zoo):
    model = zoo("bert", "sequence_classification")
    words = ["explain", str(model), "--text", "The film was good.", "--json", "--n-steps", "2"]
    assert main([*words, "--baseline-text", "Nobody laughed."]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "text"
    assert main([*words, "--baseline-text", "Nobody laughed.", "--baseline", "pad"]) == 1
    assert "baseline_text needs baseline: text" in capsys.readouterr().err
