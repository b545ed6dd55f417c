"""int8 for an ONNX graph: static ranges, smoothed activations, and the worst matrices left in fp32.

What it does, and why not the plain dynamic recipe of ONNX Runtime:

- Ranges of activations are calibrated once.  Dynamic ranges are taken over the whole batch, so that a
  text's answer would depend on its neighbours, and they cost a pass over every input.
- Few channels of a transformer's activations are many times larger than the rest and take the range
  for themselves.  SmoothQuant (Xiao et al. 2022) divides each channel by a factor that its weights
  are multiplied with, which changes nothing in exact arithmetic.
- Weights are quantized per output channel.  Processors with AVX2 and without VNNI add the products of
  two neighbours in 16 bits, which saturate at 32767; so a channel's scale leaves no two neighbouring
  weights more than 128 together (255 * 128 < 32767).  That costs less precision than 7 bits for all.
- Each matrix is quantized alone first, and those that move the outputs most stay in fp32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bert_handler import runtimes
from bert_handler.packaging.graph_builder import attribute, save
from bert_handler.packaging.int8 import Form, Scaled, activation_scale, flag, optional, rewritten, smoothing_factors
from bert_handler.packaging.parity import token_mask

KEPT_SHARES = (0.5, 0.95)
"""Of the error that the matrices cause one by one, so much is avoided by keeping the worst in fp32.

The second is for a model whose answers do not survive the first: of the demo's it keeps twice as many
matrices, for a seventh of the throughput and one label in a thousand.
"""
MAX_KEPT = 0.3
"""Of the matrices' elements, at most so many are kept."""

MAX_TRIALS = 6
"""Batches on which each matrix is tried alone."""

Feeds = Sequence[Mapping[str, NDArray[Any]]]
Ranges = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]


@dataclass(frozen=True)
class Matrix:
    """A product with constant weights: the node's output, its input, and the weights' name."""

    output: str
    activation: str
    weights: str


@dataclass(frozen=True)
class Calibrated:
    """A graph whose activations were measured and whose matrices were tried alone; writes its int8 forms.

    scaled: of the values that matrices are multiplied with, by name.  errors: of the outputs, by each matrix's own.
    """

    model: Any
    matrices: Sequence[Matrix]
    scaled: Mapping[str, Scaled]
    errors: Mapping[str, float]
    form: Form

    @classmethod
    def of(cls, source: Path, feeds: Feeds, form: Form) -> Calibrated:
        """Calibrate the graph at `source` on `feeds`; form: of its int8 products."""
        model = onnx.load(source)
        matrices = _matrices(model)
        scaled = _scaled(model, matrices, _ranges(model, matrices, feeds))
        errors = _errors_alone(model, matrices, scaled, feeds[:: max(1, len(feeds) // MAX_TRIALS)], form)
        return cls(model, matrices, scaled, errors, form)

    def write(self, path: Path, kept_share: float) -> list[str]:
        """Write the int8 form; return the matrices left in fp32.

        kept_share: of the error, avoided by those; one of KEPT_SHARES.
        """
        kept = _worst(self.model, self.matrices, self.errors, kept_share)
        chosen = {matrix.output for matrix in self.matrices} - set(kept)
        save(rewritten(self.model, self.scaled, chosen, self.form), path)
        return kept


def _matrices(model: Any) -> list[Matrix]:
    constants = {item.name: item for item in model.graph.initializer}
    return [
        Matrix(node.output[0], node.input[0], node.input[1])
        for node in model.graph.node
        if _is_product(node) and node.input[1] in constants and len(constants[node.input[1]].dims) == 2
    ]


def _is_product(node: Any) -> bool:
    if node.op_type == "Gemm":
        return all(attribute(node, name, 0) == 0 for name in ("transA", "transB")) and len(node.input) == 3
    return node.op_type == "MatMul" or (node.op_type, node.domain) == ("Attention", "com.microsoft")


def _ranges(model: Any, matrices: Sequence[Matrix], feeds: Feeds) -> Ranges:
    """Least and greatest value of each channel of each matrix's input, over the tokens that are no padding."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    names = sorted({matrix.activation for matrix in matrices})
    for name in names:
        observed.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = _session(observed)
    found: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for feed in feeds:
        kept = token_mask(feed).astype(bool)
        for name, values in zip(names, session.run(names, _taken(session, feed))):
            tokens = (
                values[kept]
                if values.ndim == 3 and values.shape[:2] == kept.shape
                else values.reshape(-1, values.shape[-1])
            )
            low, high = found.get(name, (np.zeros(1, np.float32), np.zeros(1, np.float32)))
            found[name] = (np.minimum(low, tokens.min(axis=0)), np.maximum(high, tokens.max(axis=0)))
    return found


def _scaled(model: Any, matrices: Sequence[Matrix], ranges: Ranges) -> dict[str, Scaled]:
    """How each activation is quantized, once for all the matrices that it is multiplied with."""
    weights = {item.name: item for item in model.graph.initializer}
    scaled = {}
    for name, (low, high) in ranges.items():
        readers = [numpy_helper.to_array(weights[item.weights]) for item in matrices if item.activation == name]
        factors = smoothing_factors(low, high, np.concatenate(readers, axis=1))
        scaled[name] = Scaled(factors, *activation_scale(low / factors, high / factors))
    return scaled


def _worst(model: Any, matrices: Sequence[Matrix], errors: Mapping[str, float], kept_share: float) -> list[str]:
    """Outputs of the matrices that are kept: those that cause most error for their size."""
    shapes = {item.name: item.dims for item in model.graph.initializer}
    sizes = {matrix.output: int(np.prod(shapes[matrix.weights])) for matrix in matrices}
    kept: list[str] = []
    room, left = MAX_KEPT * sum(sizes.values()), (1 - kept_share) * sum(errors.values())
    for name in sorted(errors, key=lambda name: -errors[name] / sizes[name]):
        if sum(error for other, error in errors.items() if other not in kept) <= left:
            break
        if sizes[name] <= room:
            kept.append(name)
            room -= sizes[name]
    return kept


def _errors_alone(
    model: Any, matrices: Sequence[Matrix], scaled: Mapping[str, Scaled], feeds: Feeds, form: Form
) -> dict[str, float]:
    """By how much the outputs move, summed squares, where one matrix alone is int8; by its output."""
    names = [matrix.output for matrix in matrices]
    # One session for all trials: to make one takes longer than to run it.
    trial = rewritten(model, scaled, set(names), optional(form))
    trial.graph.input.extend(helper.make_tensor_value_info(flag(name), onnx.TensorProto.BOOL, []) for name in names)
    session = _session(trial)

    def outputs(chosen: str) -> list[NDArray[Any]]:
        flags = {flag(name): np.array(name == chosen) for name in names}
        found = [value for feed in feeds for value in session.run(None, _taken(session, {**feed, **flags}))]
        return [value for value in found if value.dtype.kind == "f"]

    expected = outputs("")
    return {name: sum(float(np.square(a - b).sum()) for a, b in zip(outputs(name), expected)) for name in names}


def _session(model: Any) -> Any:
    """A session for a graph, which loses its weights to a file: protobuf takes 2 GB of bytes at most."""
    with tempfile.TemporaryDirectory(prefix="bert_handler_session_") as directory:
        path = Path(directory) / "model.onnx"
        save(model, path)
        # What a session has opened stays readable to it.
        return runtimes.quiet_session(path)


def _taken(session: Any, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {item.name: feed[item.name] for item in session.get_inputs()}
