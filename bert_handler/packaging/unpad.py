"""Take the padding out of an ONNX graph: all but attention computes the real tokens only.

A batch of rows (B, L) becomes one list of its tokens (T,) behind the embeddings.  What looks at several
tokens, attention, needs rows: its queries, keys and values are laid out as rows for it, and its output is
a list again.  Where attention is fused, it is computed for a group of shorter and one of longer rows.  No
answer changes; rows of different lengths can share a forward at little cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import NodeProto, version_converter
from onnx.defs import onnx_opset_version

from bert_handler.packaging.graph_builder import INLINE_BYTES, GraphBuilder, attribute
from bert_handler.packaging.token_index import GROUPS, MASK, add_groups, add_index

OPSET = 23
"""The first that has attention as an operator; ONNX Runtime's is faster than its older own."""

TOKEN_WISE = {
    *("MatMul", "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "LayerNormalization"),
    *("Gelu", "BiasGelu", "FastGelu", "QuickGelu", "Erf", "Relu", "Tanh", "Sigmoid"),
}
"""Operators that compute every token on its own, where their other operands are the same for every token."""


def unpad(model: Any, widths: Mapping[str, int]) -> Any:
    """The same graph without padding; None where it multiplies no tokens, or onnx has no attention yet.

    model: a graph whose padding is at the right, nodes in topological order, fused or not.
    widths: of the tensors that have a vector for every token.
    """
    unpadded = onnx.ModelProto()
    unpadded.CopyFrom(model)
    if plain_attentions(model.graph):
        if onnx_opset_version() < OPSET:
            return None
        unpadded = _converted(unpadded, {item.name: item for item in model.graph.initializer})
    return unpadded if _Unpadding(unpadded.graph, widths).run() else None


def _converted(model: Any, weights: Mapping[str, Any]) -> Any:
    """The graph in OPSET, with these weights; the model's own are taken out of it.

    The conversion goes through bytes, of which protobuf takes 2 GB at most.
    """
    large = [item for item in model.graph.initializer if len(item.raw_data) > INLINE_BYTES]
    for item in large:
        item.ClearField("raw_data")
        item.dims[:] = [0]
    emptied = {item.name for item in large}
    converted = version_converter.convert_version(model, OPSET)
    for item in converted.graph.initializer:
        if item.name in emptied:
            item.CopyFrom(weights[item.name])
    return converted


def plain_attentions(graph: Any) -> dict[str, Any]:
    """Fused self-attention over all tokens that the model's mask keeps, and no others: nodes by their output."""
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

    def __init__(self, graph: Any, widths: Mapping[str, int]) -> None:
        self._graph = graph
        self._builder = GraphBuilder(graph)
        self._index = self._builder.index
        self._widths = widths
        self._tokens: dict[str, str] = {}
        self._attentions = plain_attentions(graph)
        # Fused embeddings have a name of their own.
        self._rows = set(widths).union(node.input[0] for node in self._attentions.values())

    def run(self) -> bool:
        """Rewrite the graph in place; say whether it multiplies lists of tokens now."""
        add_index(self._builder)
        if self._attentions:
            add_groups(self._builder)
        for node in list(self._graph.node):
            self._rewrite(node)
        for item in self._graph.output:
            self._as_rows(item.name)
        self._builder.finish()
        lists = set(self._tokens.values())
        return any(node.op_type in {"MatMul", "Gemm"} and node.output[0] in lists for node in self._graph.node)

    def _rewrite(self, node: Any) -> None:
        if node.output[0] in self._attentions:
            self._attend(node)
        elif node.op_type == "Shape" and node.input[0] in self._widths:
            width = self._builder.constant(f"unpad_size_{self._widths[node.input[0]]}", [self._widths[node.input[0]]])
            self._builder.add("Concat", ["unpad_shape", width], node.output[0], axis=0)
        elif self._is_token_wise(node) and self._is_worth_it(node):
            self._compute_tokens(node)
        elif self._picks_first(node) and node.input[0] in self._tokens:
            self._builder.add("Gather", [self._tokens[node.input[0]], "unpad_first"], node.output[0], axis=0)
        else:
            self._keep(node)

    def _keep(self, node: Any) -> None:
        for name in node.input:
            self._as_rows(name)
        self._builder.keep(node)
        if self._is_token_wise(node):
            self._rows.update(node.output)
        elif node.op_type in TOKEN_WISE and self._rows.isdisjoint(node.input):
            # What was made for rows is made for their first tokens now.
            self._rows.difference_update(node.output)

    def _attend(self, node: Any) -> None:
        """One product for queries, keys and values of the tokens, then attention over rows.

        Where only a row's first token is read of the output, only its query is made.
        """
        add, output = self._builder.add, node.output[0]
        weights, bias = (self._index.value(name) for name in node.input[1:3])
        width = weights.shape[1] // 3
        heads, scale = attribute(node, "num_heads"), attribute(node, "scale")
        given = {"q_num_heads": heads, "kv_num_heads": heads, **({"scale": scale} if scale else {})}
        tokens = self._as_tokens(node.input[0])
        users = self._index.users.get(output, [])
        if users and all(self._picks_first(user) for user in users):
            first = add("Gather", [tokens, "unpad_firsts"], f"{output}_unpadded_first", axis=0)
            query = self._project(first, f"{output}_unpadded_q", weights[:, :width], bias[:width])
            queries = add("Unsqueeze", [query, "unpad_1"], f"{output}_unpadded_queries")
            projected = self._project(tokens, f"{output}_unpadded_kv", weights[:, width:], bias[width:])
            parts = self._split(projected, width, 2, "unpad_places")
            add("Attention", [queries, *parts, "unpad_mask"], output, **given)
            return
        projected = self._project(tokens, f"{output}_unpadded_qkv", weights, bias)
        groups = []
        for group in GROUPS:
            parts = self._split(projected, width, 3, f"unpad_{group}_places")
            rows = add("Attention", [*parts, f"unpad_{group}_mask"], f"{output}_{group}", **given)
            groups.append(add("GatherND", [rows, f"unpad_{group}_sources"], f"{output}_{group}_tokens"))
        self._tokens[output] = add("Concat", groups, f"{output}_unpadded", axis=0)
        self._rows.add(output)

    def _project(self, tokens: str, name: str, weights: NDArray[Any], bias: NDArray[Any]) -> str:
        constants = [self._builder.constant(f"{name}_weight", weights), self._builder.constant(f"{name}_bias", bias)]
        return self._builder.add("Gemm", [tokens, *constants], name)

    def _split(self, projected: str, width: int, n_parts: int, places: str) -> list[str]:
        """The parts of each token's vector as rows: a view with a part a line, of which each takes its own."""
        size = self._builder.constant(f"unpad_width_{width}", [-1, width])
        lines = f"{projected}_lines"
        if lines not in self._builder:
            self._builder.add("Reshape", [projected, size], lines)
        lined = [self._line(places, n_parts, part) for part in range(n_parts)]
        return [self._builder.add("Gather", [lines, line], f"{projected}_{line}", axis=0) for line in lined]

    def _line(self, places: str, n_parts: int, part: int) -> str:
        """The lines of one part where each token has `n_parts`."""
        name = f"{places}_{part}_of_{n_parts}"
        if name not in self._builder:
            numbers = [self._builder.constant(f"unpad_{number}", [number]) for number in (n_parts, part)]
            self._builder.add("Mul", [places, numbers[0]], f"{name}_start")
            self._builder.add("Add", [f"{name}_start", numbers[1]], name)
        return name

    def _is_token_wise(self, node: Any) -> bool:
        if self._rows.isdisjoint(node.input):
            return False
        if node.op_type in {"Slice", "Split"}:
            return self._cuts_vectors(node)
        if node.op_type not in TOKEN_WISE:
            return False
        if node.op_type == "LayerNormalization" and attribute(node, "axis", -1) != -1:
            return False
        if node.op_type == "MatMul":
            return node.input[0] in self._rows and self._index.rank(node.input[1]) == 2
        # A constant of more axes may differ from token to token.
        return all(self._index.rank(name) <= 1 for name in node.input if name and name not in self._rows)

    def _is_worth_it(self, node: Any) -> bool:
        """Up to the first product all is cheap, and is left as it is."""
        return node.op_type == "MatMul" or not self._tokens.keys().isdisjoint(node.input)

    def _cuts_vectors(self, node: Any) -> bool:
        """Whether it takes parts of every token's vector, of all rows and tokens."""
        if node.op_type == "Split":
            return attribute(node, "axis", 0) in (-1, 2)
        axes = node.input[3] if len(node.input) > 3 else ""
        return self._index.rank(axes) == 1 and self._index.value(axes).tolist() in ([-1], [2])

    def _compute_tokens(self, node: Any) -> None:
        made = NodeProto()
        made.CopyFrom(node)
        made.input[:] = [self._as_tokens(name) if name in self._rows else name for name in node.input]
        made.output[:] = [f"{name}_unpadded" if name else "" for name in node.output]
        if node.op_type == "Slice":
            made.input[3] = self._builder.constant("unpad_flat", [-1])
        elif node.op_type == "Split":
            next(item for item in made.attribute if item.name == "axis").i = -1
        self._builder.keep(made)
        for name, tokens in zip(node.output, made.output):
            if name:
                self._tokens[name] = tokens
                self._rows.add(name)

    def _picks_first(self, node: Any) -> bool:
        if node.op_type != "Gather" or attribute(node, "axis", 0) != 1 or self._index.rank(node.input[1]) != 1:
            return False
        return bool(self._index.value(node.input[1]).tolist() == [0])

    def _as_tokens(self, name: str) -> str:
        """The list of tokens of a tensor of rows."""
        if name not in self._tokens:
            self._tokens[name] = self._builder.add("GatherND", [name, "unpad_sources"], f"{name}_unpadded")
        return self._tokens[name]

    def _as_rows(self, name: str) -> None:
        """Make the rows of what was computed as a list of tokens."""
        if name in self._tokens and name not in self._builder:
            self._builder.add("Gather", [self._tokens[name], "unpad_places"], name, axis=0)
