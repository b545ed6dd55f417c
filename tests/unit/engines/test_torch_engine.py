"""How the torch engine loads a model, and what it makes of a device that fails."""

from __future__ import annotations

import pytest
import torch

from bert_handler import Predictor
from bert_handler.errors import ConfigError, DeviceLostError, InternalError


@pytest.mark.parametrize(
    ("architecture", "head", "dtype", "kept"),
    [
        ("modernbert", "sequence_classification", "bfloat16", "inv_freq"),
        ("modernbert", "sequence_classification", "float16", "inv_freq"),
        ("t5", "generation", "float16", "DenseReluDense.wo.weight"),
    ],
)
def test_what_a_model_keeps_in_float32_stays_so(zoo, load, architecture, head, dtype, kept):
    model = load(zoo(architecture, head), dtype=dtype).engine.graph.model
    types = {name: value.dtype for name, value in [*model.named_parameters(), *model.named_buffers()]}
    found = {name for name, value in types.items() if value == torch.float32}
    assert found == {name for name in types if kept in name} != set()
    assert set(types.values()) == {torch.float32, getattr(torch, dtype)}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_not_quantized(zoo, dtype):
    settings = {"handler": {"device": "cpu", "dtype": dtype, "quantization": "int8"}}
    with pytest.raises(ConfigError, match=f"dtype='{dtype}' with quantization='int8'"):
        Predictor.load(zoo("bert", "sequence_classification"), model_yaml=settings, environ={})


CUBLAS_ALLOC_FAILED = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"


@pytest.mark.parametrize(
    ("message", "code", "error", "forwards", "lost"),
    [
        ("CUDA error", 710, DeviceLostError, [2], True),
        ("CUDA error", 2, InternalError, [2, 1, 1], False),
        ("CUDA error: device-side assert triggered", None, DeviceLostError, [2], True),
        ("CUDA error: out of memory", None, InternalError, [2, 1, 1], False),
        ("CUDA out of memory. Tried to allocate 2 GiB", None, InternalError, [2, 1, 1], False),
        (f"{CUBLAS_ALLOC_FAILED} when calling `cublasCreate(handle)`", None, InternalError, [2, 1, 1], False),
        ("shapes differ", None, InternalError, [2, 1, 1], False),
    ],
)
def test_a_device_that_fails_is_lost_unless_it_lacks_memory(zoo, message, code, error, forwards, lost):
    settings = {"handler": {"device": "cpu", "threads": 1}}
    predictor = Predictor.load(zoo("bert", "sequence_classification"), model_yaml=settings, environ={})
    sizes = []

    def fail(**inputs):
        sizes.append(len(inputs["input_ids"]))
        # Before torch 2.8 it is a RuntimeError, without a code.
        found = RuntimeError(message)
        if code is not None:
            found.error_code = code
        raise found

    predictor.engine._run = fail
    with pytest.raises(error):
        predictor.predict(["the cat", "the dog"])
    assert sizes == forwards
    assert predictor.engine.lost == lost
    predictor.close()
