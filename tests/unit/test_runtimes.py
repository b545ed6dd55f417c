"""What the libraries that compute would send their makers, in a process that is not known as a test run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ENGINES = {"onnxruntime": "bert_handler.engines.onnx_engine", "openvino": "bert_handler.engines.openvino_engine"}

SWITCHES = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")


def run(code, home, **more):
    """Run Python with an empty home, in which both libraries keep who they are."""
    known = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    environ = {**known, "HOME": str(home), **more}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def traces(home):
    return [path.name for path in home.rglob("*") if path.name in ("onnxruntime.db", "openvino_ga_cid", "stats")]


@pytest.mark.parametrize("module", ENGINES)
def test_an_engine_reports_nothing(module, tmp_path):
    pytest.importorskip(module)
    code = f"import sys, os, {ENGINES[module]}; os.wait() if 'openvino_telemetry' in sys.modules else print('nothing')"
    assert run(code, tmp_path) == "nothing"
    assert traces(tmp_path) == []


def test_a_worker_of_torchserve_imports_no_engine_but_its_own(tmp_path):
    pytest.importorskip("ts")
    code = "import sys, bert_handler.handler; print({'onnxruntime', 'openvino'} & set(sys.modules))"
    assert run(code, tmp_path) == "set()"
    assert traces(tmp_path) == []


def test_archiving_reports_nothing(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    code = "from bert_handler.packaging import export; export.onnx; export._optimized('{}', {{}})"
    graph = tmp_path / "graph.onnx"
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [value])), graph)
    assert run(code.format(graph), tmp_path) == ""
    assert traces(tmp_path) == []


def test_the_library_alone_would_report(tmp_path):
    """Otherwise the tests here look in the wrong place."""
    library = pytest.importorskip("onnxruntime")
    if tuple(map(int, library.__version__.split(".")[:2])) < (1, 29):
        pytest.skip("this onnxruntime reports nothing")
    run("import onnxruntime", tmp_path)
    assert traces(tmp_path) == ["onnxruntime.db"]


def test_who_wants_it_has_it(tmp_path):
    library = pytest.importorskip("onnxruntime")
    if tuple(map(int, library.__version__.split(".")[:2])) < (1, 29):
        pytest.skip("this onnxruntime reports nothing")
    run(f"import {ENGINES['onnxruntime']}", tmp_path, ORT_DISABLE_TELEMETRY="0")
    assert traces(tmp_path) == ["onnxruntime.db"]


def test_the_converter_is_there_when_it_is_called(tmp_path):
    pytest.importorskip("openvino")
    code = (
        "from bert_handler import runtimes; convert = runtimes.openvino().convert_model; import sys;"
        "print('openvino.tools.ovc' in sys.modules);"
        "\ntry: convert('no such file')\nexcept Exception as error: print('openvino.tools.ovc' in sys.modules)"
    )
    assert run(code, tmp_path, CI="true") == "False\nTrue"
