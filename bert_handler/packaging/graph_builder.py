"""ONNX graphs: what is in one, how another is written node by node, and its files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bert_handler.exported import weights_file

INLINE_BYTES = 1024
"""Larger weights lie in a file beside the graph, which is memory-mapped; no conversion looks at them."""


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


class GraphIndex:
    """What a graph has under which name: constants, the node that makes a value, the nodes that read it.

    It is of the graph as it was then; whoever changes the graph keeps it up.
    """

    def __init__(self, graph: Any) -> None:
        self.constants = {item.name: item for item in graph.initializer}
        self.makers: dict[str, Any] = {}
        self.users: dict[str, list[Any]] = {}
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = attribute(node, "value")
            self.makers.update(dict.fromkeys(node.output, node))
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def rank(self, name: str) -> int:
        """Axes of a constant; many where it is none."""
        return len(self.constants[name].dims) if name in self.constants else 9

    def value(self, name: str) -> NDArray[Any]:
        """The value of a constant."""
        return numpy_helper.to_array(self.constants[name])


class GraphBuilder:
    """Nodes for a graph, in order, and the names that they give.

    index: of the graph as it was, with the constants that are added.
    """

    def __init__(self, graph: Any) -> None:
        self.index = GraphIndex(graph)
        self._graph = graph
        self._nodes: list[Any] = []
        self._present = {item.name for item in graph.input} | set(self.index.constants)

    def __contains__(self, name: str) -> bool:
        """Whether a constant, an input or a node so far has that name."""
        return name in self._present

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node with one output and return its name."""
        self.keep(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def keep(self, node: Any) -> None:
        """Append a node as it is."""
        self._nodes.append(node)
        self._present.update(node.output)

    def constant(self, name: str, value: NDArray[Any] | Iterable[int] | int) -> str:
        """Add a constant, unless there is one of that name; numbers are int64."""
        if name not in self:
            array = value if isinstance(value, np.ndarray) else np.asarray(value, np.int64)
            item = numpy_helper.from_array(np.ascontiguousarray(array), name)
            self._graph.initializer.append(item)
            self.index.constants[name] = item
            self._present.add(name)
        return name

    def finish(self) -> None:
        """Put the new nodes in the place of the graph's own, with the constants that they read."""
        # Copies: what is deleted may not be read afterwards.
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in self._nodes]
        used = set(_read(nodes)).union(item.name for item in self._graph.output)
        constants = [
            TensorProto.FromString(item.SerializeToString()) for item in self._graph.initializer if item.name in used
        ]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(nodes)
        self._graph.initializer.extend(constants)


def save(model: Any, path: Path) -> None:
    """Write a graph and, beside it, one file with its weights; the same model gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = weights_file(path)
    weights.unlink(missing_ok=True)
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=weights.name,
        size_threshold=INLINE_BYTES,
    )


def _read(nodes: Iterable[Any]) -> Iterator[str]:
    """Names that nodes read, and those within their branches."""
    for node in nodes:
        yield from node.input
        for item in node.attribute:
            yield from _read(item.g.node)
