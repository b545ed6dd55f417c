"""The least that a server with this model must do before it is ready: arguments are engine, model directory."""

from __future__ import annotations

import sys
from pathlib import Path

import kserve  # noqa: F401


def load(engine: str, directory: Path) -> None:
    """Import the engine and load the model's weights, and nothing else."""
    if engine == "torch":
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        AutoTokenizer.from_pretrained(directory)
        AutoModelForSequenceClassification.from_pretrained(directory).eval()
        return
    import tokenizers

    tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    if engine == "onnx":
        import onnxruntime

        onnxruntime.InferenceSession(str(next(directory.glob("**/*.onnx"))), providers=["CPUExecutionProvider"])
    else:
        import openvino

        openvino.Core().compile_model(str(next(directory.glob("**/*.onnx"))), "CPU")


if __name__ == "__main__":
    load(sys.argv[1], Path(sys.argv[2]))
