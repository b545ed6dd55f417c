"""`archive`: what it reads beside the model."""

from __future__ import annotations

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
