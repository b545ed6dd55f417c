"""How the torch engine loads a model, and what it makes of a device that fails."""

from __future__ import annotations

import pytest
import torch

from bert_handler import Predictor
from bert_handler.errors import DeviceLostError, InternalError


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


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="this torch does not tell such errors from others")
@pytest.mark.parametrize(
    ("code", "error", "forwards", "lost"),
    [(710, DeviceLostError, [2], True), (2, InternalError, [2, 1, 1], False)],
    ids=["assertion", "out of memory"],
)
def test_a_device_that_fails_is_lost_unless_it_lacks_memory(zoo, code, error, forwards, lost):
    settings = {"handler": {"device": "cpu", "threads": 1}}
    predictor = Predictor.load(zoo("bert", "sequence_classification"), model_yaml=settings, environ={})
    sizes = []

    def fail(**inputs):
        sizes.append(len(inputs["input_ids"]))
        found = torch.AcceleratorError("CUDA error")
        found.error_code = code
        raise found

    predictor.engine._run = fail
    with pytest.raises(error):
        predictor.predict(["the cat", "the dog"])
    assert sizes == forwards
    assert predictor.engine.lost == lost
    predictor.close()
