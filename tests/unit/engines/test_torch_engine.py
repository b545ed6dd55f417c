"""How the torch engine loads a model."""

from __future__ import annotations

import pytest
import torch


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
