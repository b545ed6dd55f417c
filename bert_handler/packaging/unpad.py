"""Take the padding out of a fused ONNX graph: all but attention computes the real tokens only.

A batch of rows (B, L) becomes one list of its tokens (T,) behind the embeddings.  Attention alone needs
rows, so its queries, keys and values are laid out as rows for it, and its output is a list again.  No
answer changes; rows of different lengths can share a forward at little cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper, version_converter

MASK = "attention_mask"
OPSET = 23
"""The first that has attention as an operator; ONNX Runtime's is faster than its older own."""

TOKEN_WISE = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Relu", "Tanh", "Erf", "Sigmoid", "Sqrt"),
    *("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "LayerNormalization", "SkipLayerNormalization", "MatMul"),
}
"""Operators that compute every token on its own, where their other operands are constants along the tokens."""


def unpad(model: Any) -> Any:
    """The same graph without padding; None where not all of its attention is fused.

    model: a fused graph whose padding is at the right, nodes in topological order.
    """
    attentions = [node for node in model.graph.node if _is_plain_attention(node, model.graph)]
    if not attentions or any(node.op_type == "Softmax" for node in model.graph.node):
        return None
    unpadded = version_converter.convert_version(model, OPSET)
    _Unpadding(unpadded.graph).run()
    return unpadded


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _is_plain_attention(node: Any, graph: Any) -> bool:
    """Whether a node is self-attention over all tokens that the model's mask keeps, and no others."""
    if node.op_type != "Attention" or node.domain != "com.microsoft" or any(node.input[4:]):
        return False
    masks = {item.output[0] for item in graph.node if item.op_type == "Cast" and item.input[0] == MASK}
    constants = {item.name for item in graph.initializer}
    plain = not any(attribute(node, name) for name in ("unidirectional", "qkv_hidden_sizes", "do_rotary"))
    return plain and node.input[3] in masks and set(node.input[1:3]) <= constants


class _Unpadding:
    """One rewriting of a graph, node by node in their order.

    A tensor of rows (B, L, H) keeps its name; its list of tokens (T, H) has a name of its own.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._nodes: list[Any] = []
        self._values = {item.name: item for item in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self._values[node.output[0]] = attribute(node, "value")
        self._tokens: dict[str, str] = {}
        self._rows: set[str] = {node.input[0] for node in graph.node if _is_plain_attention(node, graph)}
        self._present = {item.name for item in graph.input} | set(self._values)
        self._positions: dict[tuple[int, int], str] = {}

    def run(self) -> None:
        """Rewrite the graph in place."""
        nodes = list(self._graph.node)
        self._users: dict[str, list[Any]] = {}
        for node in nodes:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        plain = [_is_plain_attention(node, self._graph) for node in nodes]
        self._index()
        for node, is_attention in zip(nodes, plain):
            if is_attention:
                self._attend(node)
            elif self._is_token_wise(node):
                self._compute_tokens(node)
            elif self._picks_first(node) and node.input[0] in self._tokens:
                self._add("Gather", [self._tokens[node.input[0]], "unpad_first"], node.output[0], axis=0)
            else:
                self._keep(node)
        for item in self._graph.output:
            self._as_rows(item.name)
        self._replace_nodes()

    def _index(self) -> None:
        """Where each token of the list comes from, and where each place of the rows finds its own.

        What follows a row's last token is padding; the mask may also hide tokens before that, which are computed.
        """
        self._constant("unpad_0", [0])
        self._constant("unpad_1", [1])
        self._constant("unpad_flat", [-1])
        self._constant("unpad_axis_0", 0)
        self._constant("unpad_axis_1", 1)
        self._add("CumSum", [MASK, "unpad_axis_1"], "unpad_still_to_come", reverse=1)
        self._add("Greater", ["unpad_still_to_come", "unpad_0"], "unpad_is_token")
        self._add("NonZero", ["unpad_is_token"], "unpad_found")
        self._add("Transpose", ["unpad_found"], "unpad_sources", perm=[1, 0])
        self._add("Cast", ["unpad_is_token"], "unpad_ones", to=TensorProto.INT64)
        self._add("Reshape", ["unpad_ones", "unpad_flat"], "unpad_ones_flat")
        self._add("CumSum", ["unpad_ones_flat", "unpad_axis_0"], "unpad_counts")
        self._add("Sub", ["unpad_counts", "unpad_1"], "unpad_numbers")
        self._add("Shape", [MASK], "unpad_shape")
        # Padding finds the token before it, whose value nobody reads.
        self._add("Reshape", ["unpad_numbers", "unpad_shape"], "unpad_places")
        self._add("Gather", ["unpad_places", "unpad_0"], "unpad_first", axis=1)
        self._add("Squeeze", ["unpad_first", "unpad_1"], "unpad_firsts")
        self._constant("unpad_axes", [1, 2])
        self._constant("unpad_ends", [1, 1])
        self._add("Cast", [MASK], "unpad_kept", to=TensorProto.BOOL)
        self._add("Unsqueeze", ["unpad_kept", "unpad_axes"], "unpad_mask_first")
        self._add("Gather", ["unpad_shape", "unpad_1"], "unpad_length", axis=0)
        self._add("Concat", ["unpad_ends", "unpad_length", "unpad_1"], "unpad_square", axis=0)
        self._add("Expand", ["unpad_mask_first", "unpad_square"], "unpad_mask")

    def _attend(self, node: Any) -> None:
        """One product for queries, keys and values of the tokens, then attention over rows.

        Where only a row's first token is read of the output, only its query is made.
        """
        output = node.output[0]
        weights, bias = (numpy_helper.to_array(self._values[name]) for name in node.input[1:3])
        width = weights.shape[1] // 3
        tokens = self._as_tokens(node.input[0])
        users = self._users.get(output, [])
        if users and all(self._picks_first(user) for user in users):
            first = self._add("Gather", [tokens, "unpad_firsts"], f"{output}_unpadded_first", axis=0)
            query = self._project(first, f"{output}_unpadded_q", weights[:, :width], bias[:width])
            queries = self._add("Unsqueeze", [query, "unpad_1"], f"{output}_unpadded_queries")
            projected = self._project(tokens, f"{output}_unpadded_kv", weights[:, width:], bias[width:])
            inputs = [queries, *self._split(projected, width, 2), "unpad_mask_first"]
        else:
            projected = self._project(tokens, f"{output}_unpadded_qkv", weights, bias)
            inputs = [*self._split(projected, width, 3), "unpad_mask"]
            self._rows.add(output)
        heads, scale = attribute(node, "num_heads"), attribute(node, "scale")
        given = {"scale": scale} if scale else {}
        self._add("Attention", inputs, output, q_num_heads=heads, kv_num_heads=heads, **given)

    def _project(self, tokens: str, name: str, weights: NDArray[Any], bias: NDArray[Any]) -> str:
        self._constant(f"{name}_weight", weights)
        self._constant(f"{name}_bias", bias)
        return self._add("Gemm", [tokens, f"{name}_weight", f"{name}_bias"], name)

    def _split(self, projected: str, width: int, n_parts: int) -> list[str]:
        """The parts of each token's vector as rows: a view with a part a line, of which each takes its own."""
        size = f"unpad_width_{width}"
        self._constant(size, [-1, width])
        lines = self._add("Reshape", [projected, size], f"{projected}_lines")
        parts = range(n_parts)
        return [self._add("Gather", [lines, self._position(n_parts, i)], f"{projected}_{i}", axis=0) for i in parts]

    def _position(self, n_parts: int, part: int) -> str:
        """Places of one part where each token has `n_parts` lines."""
        name = f"unpad_places_{part}_of_{n_parts}"
        if name not in self._present:
            self._constant(f"unpad_{n_parts}", [n_parts])
            self._constant(f"unpad_{part}", [part])
            self._add("Mul", ["unpad_places", f"unpad_{n_parts}"], f"{name}_start")
            self._add("Add", [f"{name}_start", f"unpad_{part}"], name)
        return name

    def _is_token_wise(self, node: Any) -> bool:
        if node.op_type not in TOKEN_WISE:
            return False
        if node.op_type == "LayerNormalization" and attribute(node, "axis", -1) != -1:
            return False
        others = [name for name in node.input if name and name not in self._rows]
        if len(others) == sum(map(bool, node.input)):
            return False
        if node.op_type == "MatMul":
            return node.input[0] in self._rows and self._rank(node.input[1]) == 2
        # A constant of more axes may differ from token to token.
        return all(self._rank(name) <= 1 for name in others)

    def _rank(self, name: str) -> int:
        """Axes of a constant; many where it is none."""
        return len(self._values[name].dims) if name in self._values else 9

    def _compute_tokens(self, node: Any) -> None:
        outputs = [f"{name}_unpadded" if name else "" for name in node.output]
        inputs = [self._as_tokens(name) if name in self._rows else name for name in node.input]
        made = NodeProto()
        made.CopyFrom(node)
        made.input[:], made.output[:] = inputs, outputs
        self._nodes.append(made)
        for name, tokens in zip(node.output, outputs):
            if name:
                self._tokens[name] = tokens
                self._rows.add(name)

    def _picks_first(self, node: Any) -> bool:
        if node.op_type != "Gather" or attribute(node, "axis", 0) != 1 or self._rank(node.input[1]) != 1:
            return False
        return bool(numpy_helper.to_array(self._values[node.input[1]]).tolist() == [0])

    def _keep(self, node: Any) -> None:
        for name in node.input:
            self._as_rows(name)
        self._nodes.append(node)
        self._present.update(node.output)

    def _as_tokens(self, name: str) -> str:
        """The list of tokens of a tensor of rows."""
        if name not in self._tokens:
            self._tokens[name] = self._add("GatherND", [name, "unpad_sources"], f"{name}_unpadded")
        return self._tokens[name]

    def _as_rows(self, name: str) -> None:
        """Make the rows of what was computed as a list of tokens."""
        if name in self._tokens and name not in self._present:
            self._add("Gather", [self._tokens[name], "unpad_places"], name, axis=0)

    def _add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        self._present.add(output)
        return output

    def _constant(self, name: str, value: NDArray[Any] | Iterable[int] | int) -> None:
        if name not in self._present:
            array = value if isinstance(value, np.ndarray) else np.asarray(value, np.int64)
            self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
            self._present.add(name)

    def _replace_nodes(self) -> None:
        # Copies: what is deleted may not be read afterwards.
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in self._nodes]
        used = {name for node in nodes for name in node.input} | {item.name for item in self._graph.output}
        constants = [
            TensorProto.FromString(item.SerializeToString()) for item in self._graph.initializer if item.name in used
        ]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(nodes)
        self._graph.initializer.extend(constants)
