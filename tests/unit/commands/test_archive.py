"""`archive`: what it reads beside the model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bert_handler.cli import main
from bert_handler.packaging import mar
from bert_handler.packaging.mar import Built


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_calibration_is_texts_and_instances(tmp_path, monkeypatch, mark):
    path = tmp_path / "texts.txt"
    path.write_text(f'{mark}{{"question": "q", "context": "c"}}\r\n\r\n  a text\n', encoding="utf-8", newline="")
    read = []

    def build(*words, **options):
        read.extend(options["calibration"])
        return Built(tmp_path / "m.mar", 0, "")

    monkeypatch.setattr(mar, "build", build)
    assert main(["archive", "model", "--name", "m", "--calibration", str(path)]) == 0
    assert read == [{"question": "q", "context": "c"}, "  a text"]


def test_what_an_engine_says_is_shown_as_it_says_it(tmp_path, monkeypatch, capsys):
    problem = "RuntimeError: [enforce fail at a.cpp:75] in [/usr/lib]"
    numbers = dict.fromkeys(("difference", "agreement", "rate", "latency_ms"), 0.0)
    measured = SimpleNamespace(engine="onnx", quantization="none", problem=problem, chosen=False, **numbers)
    built = Built(tmp_path / "m.mar", 0, "", [measured])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(mar, "build", lambda *words, **options: built)
    assert main(["archive", "model", "--name", "m"]) == 0
    assert problem in capsys.readouterr().out
