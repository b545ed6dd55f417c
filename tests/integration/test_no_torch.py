"""A server on an exported graph needs neither torch nor transformers, nor the pandas of the KServe SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache

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


@pytest.fixture(scope="module")
def exported(zoo, tmp_path_factory):
    """`exported(engine)`: an archive without torch's weights, which its builder has tested."""

    @cache
    def get(engine):
        model = zoo("bert", "sequence_classification")
        return build(model, "model", "1.0", tmp_path_factory.mktemp(engine), engine=engine, engine_only=True).path

    return get


@pytest.mark.parametrize("imports", ["", "import bert_handler.kserve_model"], ids=["predictor", "kserve host"])
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_serving_imports_neither_torch_nor_transformers(exported, engine, imports):
    pytest.importorskip("onnxruntime" if engine == "onnx" else "openvino")
    if imports:
        pytest.importorskip("kserve")
    code = PROBE.replace("{imports}", imports)
    run = subprocess.run(
        [sys.executable, "-c", code, exported(engine), engine],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1].replace("'", '"')) == []
