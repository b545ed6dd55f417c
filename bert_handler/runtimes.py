"""ONNX Runtime and OpenVINO, imported so that they report nothing.

Both send statistics of use to their makers unless told: ONNX Runtime (from 1.29) names and hashes of models
too, from threads of its own and a file in the home directory; OpenVINO when its converter is imported, from a
process that it forks.  Whoever wants that of ONNX Runtime sets ORT_DISABLE_TELEMETRY=0.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bert_handler.deferred import deferred


def onnxruntime() -> Any:
    """The module `onnxruntime`; ImportError where it is not installed."""
    # It looks once, when it is loaded.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def quiet_session(path: Path, *, optimized: bool = True) -> Any:
    """An ONNX Runtime session for work on graphs, on all cores: what it cannot load or run is raised, not logged.

    optimized: else the graph runs as it is written, with each of its values.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def openvino() -> Any:
    """The module `openvino`, whose converter is imported when it is called; ImportError where it is not installed."""
    with deferred("openvino.tools.ovc"):
        import openvino

    return openvino
