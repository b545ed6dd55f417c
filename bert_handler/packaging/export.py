"""Export the graph of a task's model to ONNX, and rewrite it for ONNX Runtime and OpenVINO.

The graph is the one that the torch engine runs, head included (`engines.torch_engine.Graph`).
Transformers' eager attention is exported: ONNX Runtime knows how to fuse that, not the SDPA form.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bert_handler import runtimes
from bert_handler.engines.base import Batch
from bert_handler.engines.torch_engine import Graph
from bert_handler.errors import ConfigError, MissingExtraError

try:
    import onnx
except ImportError as exc:
    raise MissingExtraError("onnx", "onnx") from exc
from bert_handler.packaging.first_token import compute_first_token_alone
from bert_handler.packaging.graph_builder import attribute, save
from bert_handler.packaging.parity import Run, run_onnx, run_openvino, same_answers
from bert_handler.packaging.plain_products import leave_products_plain
from bert_handler.packaging.token_vectors import token_vectors
from bert_handler.packaging.unpad import unpad

OPSET = 17


class _Positional(torch.nn.Module):
    """The graph with inputs and outputs in a fixed order, as the exporter wants them."""

    def __init__(self, graph: Graph, names: Sequence[str]) -> None:
        super().__init__()
        self.graph = graph
        self.names = names

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.graph(**dict(zip(self.names, values))).values())


def export(graph: Graph, batch: Batch, path: Path) -> tuple[list[str], list[str]]:
    """Write the graph to `path` with weights beside it; batch: what it is traced with, at least two rows.

    Returns the names of its inputs and outputs; the graph itself answers as before.  Raises ConfigError where the
    model cannot be exported.
    """
    inputs = {name: torch.from_numpy(array.copy()) for name, array in batch.arrays().items()}
    with torch.inference_mode():
        outputs = list(graph(**inputs))
    axes = {name: {0: "batch", 1: f"{name}_length"} for name in inputs}
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The tracing exporter: its operators are those that the fusions know, and it needs no further package.
        with warnings.catch_warnings(), torch.inference_mode(), _eager_attention(graph.model):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Positional(graph, list(inputs)).eval(),
                tuple(inputs.values()),
                str(path),
                input_names=list(inputs),
                output_names=outputs,
                dynamic_axes={**axes, **{name: {0: "batch"} for name in outputs}},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as exc:
        raise ConfigError(f"{type(graph.model).__name__} cannot be exported to ONNX: {exc}") from exc
    model = onnx.load(path)
    # The exporter leaves out inputs that the model does not read.
    read = [item.name for item in model.graph.input]
    save(model, path)
    return read, outputs


def fuse(source: Path, path: Path, model_config: Mapping[str, Any], batch: Batch) -> str:
    """Write a graph for ONNX Runtime: attention, normalization and activations fused, and without padding.

    batch: two rows, the longer first, by which what is written is compared with the source.
    Returns what it still pads: one of cost.COSTS.
    """
    optimizer = _optimized(source, model_config)
    spell_out_normalization(optimizer.model)
    return _write_least(optimizer, source, path, batch, run_onnx)


def standardize(source: Path, path: Path, batch: Batch) -> str:
    """Write a graph of standard operators, which OpenVINO reads, without padding.  batch, returns: as `fuse`."""
    try:
        runtimes.onnxruntime()
        from onnxruntime.transformers.onnx_model import OnnxModel
    except ImportError as exc:
        raise MissingExtraError("onnxruntime", "onnx") from exc
    wrapped = OnnxModel(onnx.load(source))
    leave_products_plain(wrapped.model)
    wrapped.topological_sort()
    return _write_least(wrapped, source, path, batch, run_openvino)


def _write_least(wrapped: Any, source: Path, path: Path, batch: Batch, run: Run) -> str:
    """Write the form of a graph that computes least of those that answer as the source does.

    wrapped: the graph in ONNX Runtime's wrapper.  run: the engine that it is for.
    """
    model = wrapped.model
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    compute_first_token_alone(model)
    wrapped.topological_sort()
    attention = "attention" if any(node.op_type == "Softmax" for node in model.graph.node) else "fused attention"
    # Some graphs have operands without a token axis, which cannot be picked from.
    for padded, candidate in ((attention, unpad(model, token_vectors(source))), ("all", model)):
        if candidate is not None:
            save(candidate, path)
            if same_answers(source, path, batch, [item.name for item in candidate.graph.output], run):
                return padded
    save(whole, path)
    return "all"


def _optimized(source: Path, model_config: Mapping[str, Any]) -> Any:
    """ONNX Runtime's own optimizer, run on a plain graph."""
    try:
        runtimes.onnxruntime()
        from onnxruntime.transformers.fusion_options import FusionOptions
        from onnxruntime.transformers.optimizer import optimize_model
    except ImportError as exc:
        raise MissingExtraError("onnxruntime", "onnx") from exc
    options = FusionOptions("bert")
    # The short form takes the mask for padding at the right; clients may mask any token.
    options.use_raw_attention_mask(True)
    heads = int(model_config.get("num_attention_heads") or model_config.get("n_heads") or 0)
    size = int(model_config.get("hidden_size") or model_config.get("dim") or 0)
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("onnxruntime.transformers", "fusion_", "onnx_model")):
            logging.getLogger(name).setLevel(logging.ERROR)
    optimizer = optimize_model(str(source), "bert", heads, size, opt_level=0, optimization_options=options)
    if not any(item.domain == "com.microsoft" for item in optimizer.model.opset_import):
        optimizer.model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return optimizer


def spell_out_normalization(model: Any) -> None:
    """Put sums and LayerNormalization in the place of SkipLayerNormalization, which is five times slower."""
    nodes = []
    for node in model.graph.node:
        if node.op_type != "SkipLayerNormalization":
            nodes.append(node)
            continue
        value, skip, scale, shift, bias = (*node.input, "")[:5]
        normalized, total = node.output[0], (*node.output, "", "", "")[3] or f"{node.output[0]}_sum"
        if bias:
            nodes.append(onnx.helper.make_node("Add", [value, bias], [f"{normalized}_biased"]))
            value = f"{normalized}_biased"
        nodes.append(onnx.helper.make_node("Add", [value, skip], [total]))
        epsilon = attribute(node, "epsilon", 1e-12)
        inputs = [total, scale, *([shift] if shift else [])]
        nodes.append(onnx.helper.make_node("LayerNormalization", inputs, [normalized], axis=-1, epsilon=epsilon))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@contextmanager
def _eager_attention(model: Any) -> Iterator[None]:
    """Have a model compute attention in the eager form, where its version of transformers can change that."""
    if not hasattr(model, "set_attn_implementation"):
        yield
        return
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
