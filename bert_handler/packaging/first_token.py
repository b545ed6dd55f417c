"""A graph that computes what a head reads of the last layer only: each row's first token."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, helper

from bert_handler.packaging.graph_builder import GraphIndex, attribute
from bert_handler.packaging.unpad import TOKEN_WISE


def compute_first_token_alone(model: Any) -> None:
    """Where a head reads one token only, compute only that token after the last attention.

    The Gather that picks the token moves up through operators that compute every token on its own;
    an eighth of a six-layer classifier's work is saved, and no output changes.
    """
    graph = model.graph
    for gather in [node for node in graph.node if node.op_type == "Gather" and attribute(node, "axis") == 1]:
        index = GraphIndex(graph)
        region = _row_wise_region(graph, gather, index)
        if not region:
            continue
        produced = {node.output[0] for node in region}
        position = f"{gather.output[0]}_position"
        graph.initializer.append(helper.make_tensor(position, TensorProto.INT64, [1], [0]))
        picked: dict[str, str] = {}
        for node in region:
            for i, name in enumerate(node.input):
                if name and name not in index.constants and name not in produced:
                    if name not in picked:
                        picked[name] = f"{name}_first"
                        graph.node.append(helper.make_node("Gather", [name, position], [picked[name]], axis=1))
                    node.input[i] = picked[name]


def _row_wise_region(graph: Any, gather: Any, index: GraphIndex) -> list[Any]:
    """Nodes above a Gather of token 0 that compute every token on its own and feed nothing else."""
    picked = gather.input[1]
    if picked not in index.constants or index.value(picked).tolist() != 0:
        return []
    ends = {item.name for item in graph.output}
    region: dict[str, Any] = {}
    grown = True
    while grown:
        grown = False
        wanted = {gather.input[0]}.union(*(node.input for node in region.values()))
        for node in graph.node:
            name = node.output[0] if node.output else ""
            inside = {*region, gather.output[0]}
            if (
                name in wanted
                and name not in region
                and name not in ends
                and node.op_type in TOKEN_WISE
                and {user.output[0] for user in index.users.get(name, ())} <= inside
                and (node.op_type != "MatMul" or node.input[1] in index.constants)
            ):
                region[name] = node
                grown = True
    return list(region.values())
