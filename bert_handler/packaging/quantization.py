"""int8 for a fused ONNX graph: static ranges, smoothed activations, and the worst matrices left in fp32.

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bert_handler.packaging.export import save
from bert_handler.packaging.graph_builder import attribute

SMOOTHING = 0.8
"""How much of an outlier the weights take over: 0 none, 1 all of it."""
PAIR_MAXIMUM = 127
"""Of two neighbouring weights together, before each is rounded by up to a half."""
ACTIVATION_LEVELS = 255
KEPT_SHARE = 0.95
"""Of the error that the matrices cause one by one, so much is avoided by keeping the worst in fp32."""
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


def quantize(source: Path, path: Path, feeds: Feeds) -> list[str]:
    """Write the int8 form of a fused graph, calibrated on `feeds`; return the matrices left in fp32."""
    model = onnx.load(source)
    matrices = _matrices(model)
    ranges = _ranges(model, matrices, feeds)
    kept = _worst(model, matrices, ranges, feeds)
    save(_quantized(model, ranges, {matrix.output for matrix in matrices} - set(kept)), path)
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
        kept = feed["attention_mask"].astype(bool)
        for name, values in zip(names, session.run(names, _taken(session, feed))):
            tokens = values[kept] if values.shape[:2] == kept.shape else values.reshape(-1, values.shape[-1])
            low, high = found.get(name, (np.zeros(1, np.float32), np.zeros(1, np.float32)))
            found[name] = (np.minimum(low, tokens.min(axis=0)), np.maximum(high, tokens.max(axis=0)))
    return found


def _worst(model: Any, matrices: Sequence[Matrix], ranges: Ranges, feeds: Feeds) -> list[str]:
    """Outputs of the matrices that are kept: those that cause most error for their size."""
    shapes = {item.name: item.dims for item in model.graph.initializer}
    feeds = feeds[:: max(1, len(feeds) // MAX_TRIALS)]
    expected = _outputs(model, feeds)
    errors = {}
    for matrix in matrices:
        alone = _outputs(_quantized(model, ranges, {matrix.output}), feeds)
        errors[matrix.output] = sum(float(np.square(a - b).sum()) for a, b in zip(alone, expected))
    sizes = {matrix.output: int(np.prod(shapes[matrix.weights])) for matrix in matrices}
    kept: list[str] = []
    room, left = MAX_KEPT * sum(sizes.values()), (1 - KEPT_SHARE) * sum(errors.values())
    for name in sorted(errors, key=lambda name: -errors[name] / sizes[name]):
        if sum(error for other, error in errors.items() if other not in kept) <= left:
            break
        if sizes[name] <= room:
            kept.append(name)
            room -= sizes[name]
    return kept


def _quantized(model: Any, ranges: Ranges, chosen: set[str]) -> Any:
    """A copy of the graph in which the chosen matrices are int8."""
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    weights = {item.name: item for item in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        if node.output and node.output[0] in chosen:
            array = numpy_helper.to_array(weights[node.input[1]])
            made, constants = _int8_node(node, array, *ranges[node.input[0]])
            nodes += made
            graph.initializer.extend(constants)
        else:
            nodes.append(node)
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    used = {name for node in fresh for name in node.input}
    constants = [item for item in graph.initializer if item.name in used]
    fresh_constants = [onnx.TensorProto.FromString(item.SerializeToString()) for item in constants]
    del graph.node[:]
    del graph.initializer[:]
    graph.node.extend(fresh)
    graph.initializer.extend(fresh_constants)
    return quantized


def _int8_node(node: Any, weights: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> tuple[list[Any], list[Any]]:
    """Smooth, quantize and multiply in place of one MatMul, Gemm or Attention; the nodes and their constants."""
    factors = smoothing_factors(low, high, weights)
    scale, zero = activation_scale(low / factors, high / factors)
    matrix, scales = weight_scales(weights * factors[:, None])
    prefix = node.output[0]
    constants = {
        "smoothing": (1 / factors).astype(np.float32),
        "scale": scale,
        "zero": zero,
        "weights": matrix,
        "weight_scales": scales,
        "weight_zeros": np.zeros(len(scales), np.int8),
    }
    names = {key: f"{prefix}_{key}" for key in constants}
    smoothed, quantized = f"{prefix}_smoothed", f"{prefix}_quantized"
    made = [
        helper.make_node("Mul", [node.input[0], names["smoothing"]], [smoothed]),
        helper.make_node("QuantizeLinear", [smoothed, names["scale"], names["zero"]], [quantized]),
    ]
    a, b, a_zero, b_zero = names["scale"], names["weight_scales"], names["zero"], names["weight_zeros"]
    if node.op_type in {"MatMul", "Gemm"}:
        inputs = [quantized, names["weights"], a, b, a_zero, b_zero, *node.input[2:]]
        made.append(helper.make_node("MatMulIntegerToFloat", inputs, list(node.output), domain="com.microsoft"))
    else:
        inputs = [quantized, names["weights"], node.input[2], a, b, node.input[3], a_zero, b_zero]
        options = {item.name: helper.get_attribute_value(item) for item in node.attribute if item.name == "num_heads"}
        made.append(helper.make_node("QAttention", inputs, node.output[:1], domain="com.microsoft", **options))
    return made, [numpy_helper.from_array(np.asarray(value), names[key]) for key, value in constants.items()]


def smoothing_factors(low: NDArray[Any], high: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float32]:
    """SmoothQuant's factor of each input channel, float32 (K,), with 1 as their geometric mean.

    low, high: (K,), the range of each channel.  weights: (K, N).
    """
    activations = np.maximum(np.maximum(np.abs(low), np.abs(high)), 1e-5)
    rows = np.maximum(np.abs(weights).max(axis=1), 1e-5)
    logs = SMOOTHING * np.log(activations) - (1 - SMOOTHING) * np.log(rows)
    factors: NDArray[np.float32] = np.exp(np.clip(logs - logs.mean(), -7, 7)).astype(np.float32)
    return factors


def activation_scale(low: NDArray[Any], high: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point of the whole tensor; zero itself is exact."""
    least, greatest = min(float(low.min()), 0.0), max(float(high.max()), 1e-6)
    scale = np.float32((greatest - least) / ACTIVATION_LEVELS)
    return np.asarray(scale), np.asarray(np.rint(-least / scale), np.uint8)


def weight_scales(weights: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The weights as int8 (K, N) with the scale of each output channel, float32 (N,)."""
    sizes = np.abs(weights)
    pairs = (sizes[:-1] + sizes[1:]).max(axis=0, initial=0.0)
    scales = (np.maximum(np.maximum(sizes.max(axis=0), pairs), 1e-8) / PAIR_MAXIMUM).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


def _outputs(model: Any, feeds: Feeds) -> list[NDArray[Any]]:
    session = _session(model)
    return [value for feed in feeds for value in session.run(None, _taken(session, feed))]


def _taken(session: Any, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {item.name: feed[item.name] for item in session.get_inputs()}


def _session(model: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
