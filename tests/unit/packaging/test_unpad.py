"""Graphs without padding: which there are, and that nothing but their speed changes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from bert_handler import Predictor
from bert_handler.artifact import Artifact
from bert_handler.engines.base import collate
from bert_handler.packaging.mar import build
from bert_handler.packaging.unpad import unpad
from bert_handler.schema import Row

LENGTHS = (3, 24, 9, 1, 16)


@pytest.fixture(scope="module", params=["sequence_classification", "token_classification", "embedding"])
def graph(request, zoo, tmp_path_factory):
    archive = build(zoo("roberta", request.param), "model", "1.0", tmp_path_factory.mktemp("unpad"), engine="onnx").path
    artifact = Artifact.open(archive)
    return onnx.load(artifact.directory / "onnx" / "model.onnx")


def rows(lengths, seed=0):
    numbers = np.random.default_rng(seed)
    made = []
    for length in lengths:
        ids = numbers.integers(5, 300, length)
        made.append(Row({"input_ids": ids, "attention_mask": np.ones(length, np.int64)}, length))
    return made


def run(session, batch):
    arrays = batch.arrays()
    return session.run(None, {item.name: arrays[item.name] for item in session.get_inputs()})


def opened(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("lengths", [LENGTHS, sorted(LENGTHS), (7, 7, 7), (2, 2, 30), (5,)])
def test_a_row_does_not_see_its_neighbours(graph, lengths):
    session = opened(graph)
    several = rows(lengths)
    together = run(session, collate(several, {"input_ids": 1}))
    for i, row in enumerate(several):
        for mixed, alone in zip(together, run(session, collate([row], {"input_ids": 1}))):
            same = mixed[i][: row.length] if mixed[i].ndim > 1 else mixed[i]
            np.testing.assert_allclose(same, alone[0], atol=1e-6)


def test_no_matrix_is_multiplied_with_padding(graph):
    model = onnx.ModelProto.FromString(graph.SerializeToString())
    products = [
        node.output[0]
        for node in model.graph.node
        if node.op_type in {"Gemm", "MatMul"} and "layer" in "".join(node.input)
    ]
    for name in products:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    found = run(opened(model), collate(rows(LENGTHS), {"input_ids": 1}))[-len(products) :]
    assert len(products) >= 8
    # The last layer of a classifier is computed for the first token of each row only.
    assert {int(np.prod(array.shape[:-1])) for array in found} <= {sum(LENGTHS), len(LENGTHS)}


def test_a_token_hidden_before_the_end_still_has_an_output(zoo, tmp_path):
    archive = build(zoo("bert", "token_classification"), "model", "1.0", tmp_path, engine="onnx").path
    long, hidden = rows((24, 9))
    hidden.inputs["attention_mask"][[2, 5]] = 0
    for row in (long, hidden):
        row.inputs["token_type_ids"] = np.zeros(row.length, np.int64)
    batch = collate([long, hidden], {})
    found = {}
    for engine in ("onnx", "torch"):
        predictor = Predictor.load(archive, engine=engine, device="cpu", environ={})
        found[engine] = predictor.engine.forward(batch, 1)
        predictor.close()
    for name, expected in found["torch"].items():
        np.testing.assert_allclose(found["onnx"][name][1][:9], expected[1][:9], atol=1e-4)


def test_normalization_is_spelled_out(graph):
    kinds = [node.op_type for node in graph.graph.node]
    assert "SkipLayerNormalization" not in kinds
    assert kinds.count("LayerNormalization") >= 4


@pytest.mark.parametrize(
    "node",
    [
        onnx.helper.make_node("Softmax", ["x"], ["y"]),
        onnx.helper.make_node("Attention", ["x", "x", "x"], ["y"], domain="com.microsoft"),
    ],
    ids=["none", "without a mask"],
)
def test_a_graph_without_attention_of_a_mask_stays_as_it_is(node):
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy"]
    assert unpad(onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:]))) is None
