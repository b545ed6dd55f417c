"""A server on an exported graph needs neither torch nor transformers, nor the pandas of the KServe SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bert_handler.packaging.mar import build

PROBE = """
import sys
{imports}
from bert_handler import Predictor
predictor = Predictor.load(sys.argv[1])
assert predictor.engine.name == sys.argv[2]
assert predictor.predict(["The film was good."])[0]["predict"]
print([name for name in ("torch", "transformers", "onnx", "pandas") if name in sys.modules])
"""


@pytest.mark.parametrize("imports", ["", "import bert_handler.kserve_model"], ids=["predictor", "kserve host"])
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_serving_imports_neither_torch_nor_transformers(tmp_path, zoo, engine, imports):
    pytest.importorskip("onnxruntime" if engine == "onnx" else "openvino")
    if imports:
        pytest.importorskip("kserve")
    model = zoo("bert", "sequence_classification")
    archive = build(model, "model", "1.0", tmp_path, engine=engine, engine_only=True).path
    code = PROBE.replace("{imports}", imports)
    run = subprocess.run(
        [sys.executable, "-c", code, archive, engine],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1].replace("'", '"')) == []
