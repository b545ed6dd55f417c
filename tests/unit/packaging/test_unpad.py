"""Graphs without padding: which there are, and that nothing but their speed changes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from bert_handler import Predictor
from bert_handler.artifact import Artifact
from bert_handler.engines.base import collate
from bert_handler.packaging.token_vectors import token_vectors
from bert_handler.packaging.unpad import plain_attentions, unpad
from bert_handler.schema import Row

LENGTHS = (3, 24, 9, 1, 16)
RELATIVE_POSITIONS = 16


MODELS = [
    *(("roberta", head) for head in ("sequence_classification", "token_classification", "embedding")),
    *((name, "embedding") for name in ("albert", "mpnet", "deberta-v2", "modernbert")),
]


@pytest.fixture(scope="module", params=MODELS, ids="-".join)
def graph(request, zoo, archived):
    archive = archived(zoo(*request.param), engine="onnx")
    artifact = Artifact.open(archive)
    return onnx.load(artifact.directory / "onnx" / "model.onnx")


def rows(lengths, seed=0):
    numbers = np.random.default_rng(seed)
    made = []
    for length in lengths:
        ids = numbers.integers(5, 300, length)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        made.append(Row(inputs, length))
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
    constants = {item.name for item in model.graph.initializer}
    products = [
        node.output[0] for node in model.graph.node if node.op_type in {"Gemm", "MatMul"} and node.input[1] in constants
    ]
    for name in products:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    found = run(opened(model), collate(rows(LENGTHS), {"input_ids": 1}))[-len(products) :]
    assert len(products) >= 8
    # The last layer of a classifier is computed for the first token of each row only, and DeBERTa's relative
    # positions are the same for all rows.
    assert {int(np.prod(array.shape[:-1])) for array in found} <= {sum(LENGTHS), len(LENGTHS), RELATIVE_POSITIONS}


def test_a_token_hidden_before_the_end_still_has_an_output(zoo, archived):
    archive = archived(zoo("bert", "token_classification"), engine="onnx")
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


def test_a_graph_that_multiplies_no_tokens_stays_as_it_is():
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2, 3]) for name in "xy"]
    mask = onnx.helper.make_tensor_value_info("attention_mask", onnx.TensorProto.INT64, [1, 2])
    node = onnx.helper.make_node("Softmax", ["x"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [values[0], mask], values[1:]))
    assert unpad(model, {"x": 3}) is None


def test_attention_without_a_mask_is_left_alone():
    node = onnx.helper.make_node("Attention", ["x", "x", "x"], ["y"], domain="com.microsoft")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2, 3]) for name in "xy"]
    assert not plain_attentions(onnx.helper.make_graph([node], "g", values[:1], values[1:]))


@pytest.mark.parametrize("scale", ["mask", "of the tokens"])
def test_a_product_with_the_mask_is_no_vector_of_a_token(tmp_path, scale):
    """Padding would come to life in the sum behind it."""
    ids, mask = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["b", "l"])
        for name in ("input_ids", "attention_mask")
    )
    table = onnx.numpy_helper.from_array(np.ones((9, 4), np.float32), "table")
    axes = onnx.numpy_helper.from_array(np.array([2]), "axes")
    nodes = [
        onnx.helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        onnx.helper.make_node("Cast", ["attention_mask" if scale == "mask" else "input_ids"], ["float"], to=1),
        onnx.helper.make_node("Unsqueeze", ["float", "axes"], ["scale"]),
        onnx.helper.make_node("Mul", ["vectors", "scale"], ["y"]),
    ]
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b", "l", 4])
    graph = onnx.helper.make_graph(nodes, "g", [ids, mask], [result], [table, axes])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "g.onnx")
    expected = {"vectors": 4, "y": 4} if scale == "mask" else {"vectors": 4, "scale": 1, "y": 4}
    assert token_vectors(tmp_path / "g.onnx") == expected
