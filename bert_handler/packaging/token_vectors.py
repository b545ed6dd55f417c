"""Which tensors of a graph have one vector for every token of a batch: found by running it, not by its form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference

from bert_handler import runtimes
from bert_handler.packaging.token_index import MASK

SHAPES = ((2, 7), (3, 11))
"""Rows and lengths of two batches: no other size follows both."""


def token_vectors(path: Path) -> Mapping[str, int]:
    """The widths of a plain graph's tensors of shape (rows, length, width), whatever the batch, by their names.

    What is made of the mask alone is not among them: to multiply with it is what keeps padding out of a sum.
    """
    # Without its weights, which stay in the file beside it.
    model = onnx.load(path, load_external_data=False)
    outputs = {item.name for item in model.graph.output}
    inferred = shape_inference.infer_shapes(model).graph.value_info
    floats = [item.name for item in inferred if item.type.tensor_type.elem_type == TensorProto.FLOAT]
    observed = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in floats if name not in outputs]
    model.graph.output.extend(observed)
    file = path.with_name("observed.onnx")
    onnx.save(model, file)
    first, second = (_widths(file, *shape) for shape in SHAPES)
    file.unlink()
    made = _made_of_tokens(model.graph)
    return {name: width for name, width in first.items() if second.get(name) == width and name in made}


def _made_of_tokens(graph: onnx.GraphProto) -> set[str]:
    """What is computed from other inputs than the mask, and not from their shapes."""
    made = {item.name for item in graph.input if item.name != MASK}
    for node in graph.node:
        if node.op_type != "Shape" and not made.isdisjoint(node.input):
            made.update(node.output)
    return made


def _widths(path: Path, rows: int, length: int) -> dict[str, int]:
    """Third sizes of the outputs whose first two are those of the batch."""
    # As it is written: what is fused away has no value.
    session = runtimes.quiet_session(path, optimized=False)
    # The first of all types of token: a model may have no second one.
    feeds = {
        item.name: np.full((rows, length), int(item.name != "token_type_ids"), np.int64)
        for item in session.get_inputs()
    }
    names = [item.name for item in session.get_outputs()]
    return {
        name: value.shape[2]
        for name, value in zip(names, session.run(names, feeds))
        if value.ndim == 3 and value.shape[:2] == (rows, length)
    }
