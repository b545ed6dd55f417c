"""Products behind which OpenVINO fuses nothing but their bias.

It packs the weights of such a product once, for any number of tokens.  One with a scale or an activation behind
it goes to oneDNN, which makes a kernel for each number of tokens and packs the weights anew for ranges of them:
a seventh of a lone text's time, and the same weights up to three times in memory.
"""

from __future__ import annotations

from math import isnan, nan, sqrt
from typing import Any

import numpy as np
from onnx import numpy_helper

from bert_handler.packaging.graph_builder import GraphIndex

MOVES = ("Reshape", "Transpose")
"""Between the product that makes the queries and the one with the keys."""


def leave_products_plain(model: Any) -> None:
    """Move what OpenVINO would fuse behind a graph's products; what it answers stays the same."""
    rewriting = _Rewriting(model.graph)
    for node in list(model.graph.node):
        if node.op_type == "Erf":
            rewriting.spread_gelu(node)
        elif node.op_type in ("Mul", "Div"):
            rewriting.scale_queries(node)


class _Rewriting:
    """Changes of nodes in their places; names keep their shapes."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._index = GraphIndex(graph)
        self._weights = {item.name: item for item in graph.initializer}

    def spread_gelu(self, erf: Any) -> None:
        """Write x * (1 + erf(x / sqrt(2))) * 0.5 as x * 0.5 + x * 0.5 * erf(x / sqrt(2)), which is not fused."""
        ratio = self._index.makers.get(erf.input[0])
        plus = self._only_user(erf, "Add")
        times = self._only_user(plus, "Mul")
        half = self._only_user(times, "Mul")
        if ratio is None or half is None or ratio.op_type != "Div":
            return
        value = ratio.input[0]
        found = (self._factor(ratio, value), self._factor(plus, erf.output[0]), self._factor(half, times.output[0]))
        if value not in times.input or not np.allclose(found, (sqrt(2), 1, 0.5)):
            return
        (halving,) = set(half.input) - {times.output[0]}
        plus.op_type, plus.input[:] = "Mul", [value, halving]
        times.input[:] = [plus.output[0], erf.output[0]]
        half.op_type, half.input[:] = "Add", [plus.output[0], times.output[0]]

    def scale_queries(self, scaling: Any) -> None:
        """Where products of queries and keys are scaled, scale the weights that make the queries."""
        scores = self._index.makers.get(scaling.input[0])
        factor = self._factor(scaling, scaling.input[0])
        if isnan(factor) or scores is None or scores.op_type != "MatMul" or self._only_user(scores) is None:
            return
        maker = scores
        while maker is scores or maker.op_type in MOVES:
            maker = self._index.makers.get(maker.input[0])
            if maker is None or self._only_user(maker) is None:
                return
        weights = self._projection(maker)
        if not weights:
            return
        for name in weights:
            value = numpy_helper.to_array(self._weights[name])
            scaled = value / factor if scaling.op_type == "Div" else value * factor
            self._weights[name].CopyFrom(numpy_helper.from_array(scaled.astype(value.dtype), name))
        for user in self._index.users.get(scaling.output[0], []):
            user.input[:] = [scores.output[0] if name == scaling.output[0] else name for name in user.input]
            self._index.users[scores.output[0]].append(user)
        self._index.users[scores.output[0]].remove(scaling)
        self._graph.node.remove(scaling)

    def _projection(self, maker: Any) -> list[str]:
        """Weights and bias of a product that alone reads them; none where it is another operator."""
        names = []
        if maker.op_type == "Add":
            names = [name for name in maker.input if name in self._weights]
            maker = next((self._index.makers[name] for name in maker.input if name in self._index.makers), None)
            if not names or maker is None or self._only_user(maker) is None:
                return []
        names.append(maker.input[1] if maker.op_type == "MatMul" else "")
        return names if all(name in self._weights and len(self._index.users[name]) == 1 for name in names) else []

    def _only_user(self, node: Any, kind: str | None = None) -> Any:
        """The one node that reads what a node makes, if it is of that kind."""
        users = self._index.users.get(node.output[0], []) if node is not None else []
        return users[0] if len(users) == 1 and kind in (None, users[0].op_type) else None

    def _factor(self, node: Any, value: str) -> float:
        """The single number that a node combines with that value, NaN where it is another tensor."""
        others = [name for name in node.input if name != value]
        if len(others) != 1 or self._index.rank(others[0]) > 1:
            return nan
        constant = self._index.value(others[0])
        return float(constant.item()) if constant.size == 1 else nan
