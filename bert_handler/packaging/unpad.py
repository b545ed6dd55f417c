"""Take the padding out of a fused ONNX graph: all but attention computes the real tokens only.

A batch of rows (B, L) becomes one list of its tokens (T,) behind the embeddings.  Attention alone needs
rows, so its queries, keys and values are laid out as rows for it, in a group of shorter and one of longer
rows, and its output is a list again.  No answer changes; rows of different lengths can share a forward at
little cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper, version_converter
from onnx.defs import onnx_opset_version

MASK = "attention_mask"
OPSET = 23
"""The first that has attention as an operator; ONNX Runtime's is faster than its older own."""

FUSED_TOKEN_WISE = {"MatMul", "Add", "BiasGelu", "FastGelu", "Gelu", "LayerNormalization"}
"""Operators of a fused encoder that compute every token on its own."""
TOKEN_WISE = FUSED_TOKEN_WISE | {"Sub", "Mul", "Div", "Pow", "Relu", "Tanh", "Erf", "Sigmoid", "Sqrt", "QuickGelu"}
"""Those that do so where their other operands are the same for every token."""


def unpad(model: Any) -> Any:
    """The same graph without padding; None where not all of its attention is fused, or onnx is older than OPSET.

    model: a fused graph whose padding is at the right, nodes in topological order.
    """
    unfused = any(node.op_type == "Softmax" for node in model.graph.node)
    if unfused or not _plain_attentions(model.graph) or onnx_opset_version() < OPSET:
        return None
    unpadded = version_converter.convert_version(model, OPSET)
    _Unpadding(unpadded.graph).run()
    return unpadded


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _plain_attentions(graph: Any) -> dict[str, Any]:
    """Self-attention over all tokens that the model's mask keeps, and no others: nodes by their output."""
    masks = {node.output[0] for node in graph.node if node.op_type == "Cast" and node.input[0] == MASK}
    constants = {item.name for item in graph.initializer}
    return {
        node.output[0]: node
        for node in graph.node
        if (node.op_type, node.domain) == ("Attention", "com.microsoft")
        and masks.intersection(node.input[3:4])
        and not any(node.input[4:])
        and set(node.input[1:3]) <= constants
        and not any(attribute(node, name) for name in ("unidirectional", "qkv_hidden_sizes", "do_rotary"))
    }


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
        self._attentions = _plain_attentions(graph)
        self._rows: set[str] = {node.input[0] for node in self._attentions.values()}
        self._present = {item.name for item in graph.input} | set(self._values)

    def run(self) -> None:
        """Rewrite the graph in place."""
        nodes = list(self._graph.node)
        self._users: dict[str, list[Any]] = {}
        for node in nodes:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._index()
        for node in nodes:
            if node.output[0] in self._attentions:
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
        for number in (0, 1):
            self._constant(f"unpad_{number}", [number])
            self._constant(f"unpad_scalar_{number}", number)
        self._constant("unpad_flat", [-1])
        self._constant("unpad_end", [np.iinfo(np.int64).max])
        self._constant("unpad_axes", [1, 2])
        self._add("CumSum", [MASK, "unpad_scalar_1"], "unpad_still_to_come", reverse=1)
        self._add("Greater", ["unpad_still_to_come", "unpad_0"], "unpad_is_token")
        self._add("Cast", ["unpad_is_token"], "unpad_ones", to=TensorProto.INT64)
        self._add("Reshape", ["unpad_ones", "unpad_flat"], "unpad_ones_flat")
        self._add("CumSum", ["unpad_ones_flat", "unpad_scalar_0"], "unpad_counts")
        self._add("Sub", ["unpad_counts", "unpad_1"], "unpad_numbers")
        self._add("Shape", [MASK], "unpad_shape")
        # Padding finds the token before it, whose value nobody reads.
        self._add("Reshape", ["unpad_numbers", "unpad_shape"], "unpad_places")
        self._sources("unpad_is_token", "unpad_sources")
        self._add("Gather", ["unpad_places", "unpad_0"], "unpad_first", axis=1)
        self._add("Squeeze", ["unpad_first", "unpad_1"], "unpad_firsts")
        self._add("Cast", [MASK], "unpad_kept", to=TensorProto.BOOL)
        self._add("Unsqueeze", ["unpad_kept", "unpad_axes"], "unpad_mask")
        self._halve()

    def _halve(self) -> None:
        """Cut the batch, whose rows come by length, in two groups with the least padding in both."""
        self._add("ReduceSum", ["unpad_ones", "unpad_1"], "unpad_lengths", keepdims=0)
        self._add("Gather", ["unpad_shape", "unpad_scalar_0"], "unpad_n_rows", axis=0)
        self._add("Gather", ["unpad_shape", "unpad_scalar_1"], "unpad_longest", axis=0)
        self._add("Range", ["unpad_scalar_0", "unpad_n_rows", "unpad_scalar_1"], "unpad_before")
        self._add("Add", ["unpad_before", "unpad_1"], "unpad_short_rows")
        self._add("Sub", ["unpad_n_rows", "unpad_short_rows"], "unpad_long_rows")
        costs = []
        for group, length in (("short", "unpad_lengths"), ("long", "unpad_longest")):
            square = self._add("Mul", [length, length], f"unpad_{group}_square")
            costs.append(self._add("Mul", [f"unpad_{group}_rows", square], f"unpad_{group}_cost"))
        self._add("Add", costs, "unpad_cost")
        self._add("Cast", ["unpad_cost"], "unpad_cost_float", to=TensorProto.FLOAT)
        self._add("ArgMin", ["unpad_cost_float"], "unpad_last_short", axis=0)
        self._add("Add", ["unpad_last_short", "unpad_1"], "unpad_n_short")
        self._add("Slice", ["unpad_lengths", "unpad_0", "unpad_n_short", "unpad_0"], "unpad_short_lengths")
        self._add("ReduceMax", ["unpad_short_lengths", "unpad_0"], "unpad_short_longest")
        # The operator refuses an empty group: where all rows are short, one place of the last row stands in.
        self._add("Sub", ["unpad_n_rows", "unpad_1"], "unpad_last")
        self._add("Min", ["unpad_n_short", "unpad_last"], "unpad_first_long")
        self._add("Sub", ["unpad_n_rows", "unpad_n_short"], "unpad_n_long")
        self._add("Mul", ["unpad_n_long", "unpad_longest"], "unpad_n_long_places")
        self._add("Add", ["unpad_n_long_places", "unpad_1"], "unpad_long_longest")
        for group, first, start, end in (
            ("short", "unpad_0", "unpad_0", "unpad_n_short"),
            ("long", "unpad_first_long", "unpad_n_short", "unpad_end"),
        ):
            for name, begin in (("places", first), ("kept", first), ("is_token", start)):
                rows = self._add("Slice", [f"unpad_{name}", begin, end, "unpad_0"], f"unpad_{group}_{name}_padded")
                self._add("Slice", [rows, "unpad_0", f"unpad_{group}_longest", "unpad_1"], f"unpad_{group}_{name}")
            self._sources(f"unpad_{group}_is_token", f"unpad_{group}_sources")
            self._square(group)

    def _sources(self, is_token: str, name: str) -> None:
        """Row and place in it of each token, in the order of the list."""
        self._add("NonZero", [is_token], f"{name}_found")
        self._add("Transpose", [f"{name}_found"], name, perm=[1, 0])

    def _square(self, group: str) -> None:
        """The mask with an axis for queries, for which the operator does not broadcast it."""
        self._add("Unsqueeze", [f"unpad_{group}_kept", "unpad_axes"], f"unpad_{group}_keys")
        self._add("Shape", [f"unpad_{group}_kept"], f"unpad_{group}_shape")
        self._add("Gather", [f"unpad_{group}_shape", "unpad_1"], f"unpad_{group}_length", axis=0)
        self._constant("unpad_both", [1, 1])
        sizes = ["unpad_both", f"unpad_{group}_length", "unpad_1"]
        self._add("Concat", sizes, f"unpad_{group}_size", axis=0)
        self._add("Expand", [f"unpad_{group}_keys", f"unpad_{group}_size"], f"unpad_{group}_mask")

    def _attend(self, node: Any) -> None:
        """One product for queries, keys and values of the tokens, then attention over rows.

        Where only a row's first token is read of the output, only its query is made.
        """
        output = node.output[0]
        weights, bias = (numpy_helper.to_array(self._values[name]) for name in node.input[1:3])
        width = weights.shape[1] // 3
        heads, scale = attribute(node, "num_heads"), attribute(node, "scale")
        given = {"q_num_heads": heads, "kv_num_heads": heads, **({"scale": scale} if scale else {})}
        tokens = self._as_tokens(node.input[0])
        users = self._users.get(output, [])
        if users and all(self._picks_first(user) for user in users):
            first = self._add("Gather", [tokens, "unpad_firsts"], f"{output}_unpadded_first", axis=0)
            query = self._project(first, f"{output}_unpadded_q", weights[:, :width], bias[:width])
            queries = self._add("Unsqueeze", [query, "unpad_1"], f"{output}_unpadded_queries")
            projected = self._project(tokens, f"{output}_unpadded_kv", weights[:, width:], bias[width:])
            parts = self._split(projected, width, 2, "unpad_places")
            self._add("Attention", [queries, *parts, "unpad_mask"], output, **given)
            return
        projected = self._project(tokens, f"{output}_unpadded_qkv", weights, bias)
        groups = []
        for group in ("short", "long"):
            parts = self._split(projected, width, 3, f"unpad_{group}_places")
            rows = self._add("Attention", [*parts, f"unpad_{group}_mask"], f"{output}_{group}", **given)
            groups.append(self._add("GatherND", [rows, f"unpad_{group}_sources"], f"{output}_{group}_tokens"))
        self._tokens[output] = self._add("Concat", groups, f"{output}_unpadded", axis=0)
        self._rows.add(output)

    def _project(self, tokens: str, name: str, weights: NDArray[Any], bias: NDArray[Any]) -> str:
        self._constant(f"{name}_weight", weights)
        self._constant(f"{name}_bias", bias)
        return self._add("Gemm", [tokens, f"{name}_weight", f"{name}_bias"], name)

    def _split(self, projected: str, width: int, n_parts: int, places: str) -> list[str]:
        """The parts of each token's vector as rows: a view with a part a line, of which each takes its own."""
        size = f"unpad_width_{width}"
        self._constant(size, [-1, width])
        lines = f"{projected}_lines"
        if lines not in self._present:
            self._add("Reshape", [projected, size], lines)
        lined = [self._line(places, n_parts, part) for part in range(n_parts)]
        return [self._add("Gather", [lines, line], f"{projected}_{line}", axis=0) for line in lined]

    def _line(self, places: str, n_parts: int, part: int) -> str:
        """The lines of one part where each token has `n_parts`."""
        name = f"{places}_{part}_of_{n_parts}"
        if name not in self._present:
            self._constant(f"unpad_{n_parts}", [n_parts])
            self._constant(f"unpad_{part}", [part])
            self._add("Mul", [places, f"unpad_{n_parts}"], f"{name}_start")
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
