"""Products of an ONNX graph in int8: how values and weights are scaled, and which operators multiply them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bert_handler.packaging.graph_builder import GraphBuilder

SMOOTHING = 0.8
"""How much of an outlier the weights take over: 0 none, 1 all of it."""
PAIR_MAXIMUM = 127
"""Of two neighbouring weights together, before each is rounded by up to a half."""
ACTIVATION_LEVELS = 255


class Operands(NamedTuple):
    """Names of what an int8 product reads: its input and its weights, each with scale and zero point."""

    values: str
    scale: str
    zero: str
    weights: str
    weight_scales: str
    weight_zeros: str


@dataclass(frozen=True)
class Scaled:
    """An activation's factor of each channel, float32 (K,), and what its quotient by them is quantized with."""

    factors: NDArray[np.float32]
    scale: NDArray[np.float32]
    zero: NDArray[np.uint8]


Form = Callable[[Any, Operands], "list[Any]"]
"""Makes the nodes in the place of a product: from its node and the operands that it reads instead."""


def rewritten(model: Any, scaled: Mapping[str, Scaled], chosen: set[str], form: Form) -> Any:
    """A copy of the graph in which the chosen products, by their outputs, are int8.

    scaled: of the values that they read, by name.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    builder = GraphBuilder(made.graph)
    for node in made.graph.node:
        if not node.output or node.output[0] not in chosen:
            builder.keep(node)
            continue
        name, output = node.input[0], node.output[0]
        operands = Operands(
            *(f"{name}_{part}" for part in ("quantized", "scale", "zero")),
            *(f"{output}_{part}" for part in ("weights", "weight_scales", "weight_zeros")),
        )
        # Once for all products that read it.
        if operands.values not in builder:
            _quantize_values(builder, name, operands, scaled[name])
        weights, scales = weight_scales(builder.index.value(node.input[1]) * scaled[name].factors[:, None])
        builder.constant(operands.weights, weights)
        builder.constant(operands.weight_scales, scales)
        builder.constant(operands.weight_zeros, np.zeros(len(scales), np.int8))
        for product in form(node, operands):
            builder.keep(product)
    builder.finish()
    return made


def _quantize_values(builder: GraphBuilder, name: str, operands: Operands, scaled: Scaled) -> None:
    builder.constant(operands.scale, scaled.scale)
    builder.constant(operands.zero, scaled.zero)
    factors = builder.constant(f"{name}_smoothing", 1 / scaled.factors)
    smoothed = builder.add("Mul", [name, factors], f"{name}_smoothed")
    builder.add("QuantizeLinear", [smoothed, operands.scale, operands.zero], operands.values)


def integer_products(node: Any, operands: Operands) -> list[Any]:
    """ONNX Runtime's own operators, for a fused graph."""
    a, b = operands.scale, operands.weight_scales
    a_zero, b_zero = operands.zero, operands.weight_zeros
    if node.op_type in {"MatMul", "Gemm"}:
        inputs = [operands.values, operands.weights, a, b, a_zero, b_zero, *node.input[2:]]
        return [helper.make_node("MatMulIntegerToFloat", inputs, list(node.output), domain="com.microsoft")]
    inputs = [operands.values, operands.weights, node.input[2], a, b, node.input[3], a_zero, b_zero]
    options = {item.name: helper.get_attribute_value(item) for item in node.attribute if item.name == "num_heads"}
    return [helper.make_node("QAttention", inputs, node.output[:1], domain="com.microsoft", **options)]


def dequantized_products(node: Any, operands: Operands) -> list[Any]:
    """The operator itself on what is quantized and restored, which OpenVINO computes in int8."""
    product = onnx.NodeProto()
    product.CopyFrom(node)
    values, weights = f"{node.output[0]}_restored", f"{operands.weights}_restored"
    product.input[0], product.input[1] = values, weights
    return [
        helper.make_node("DequantizeLinear", [operands.values, operands.scale, operands.zero], [values]),
        helper.make_node(
            "DequantizeLinear", [operands.weights, operands.weight_scales, operands.weight_zeros], [weights], axis=1
        ),
        product,
    ]


def optional(form: Form) -> Form:
    """Products in int8 where an input of the graph says so, else as they were."""

    def either(node: Any, operands: Operands) -> list[Any]:
        branches = {}
        for branch in ("then_branch", "else_branch"):
            product = onnx.NodeProto()
            product.CopyFrom(node)
            product.output[:] = [f"{node.output[0]}_{branch}"]
            nodes = form(product, operands) if branch == "then_branch" else [product]
            output = helper.make_tensor_value_info(product.output[0], onnx.TensorProto.FLOAT, None)
            branches[branch] = helper.make_graph(nodes, product.output[0], [], [output])
        return [helper.make_node("If", [flag(node.output[0])], node.output[:1], **branches)]

    return either


def flag(output: str) -> str:
    """The input that `optional` reads for the product of that output."""
    return f"{output}_is_int8"


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
