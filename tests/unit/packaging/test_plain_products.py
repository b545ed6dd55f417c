"""Graphs for OpenVINO, with nothing but a bias behind a product: what changes, and what does not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bert_handler.artifact import Artifact
from bert_handler.packaging import export
from bert_handler.packaging.mar import build
from bert_handler.packaging.plain_products import leave_products_plain

GELUS = """
ratio = Div(x, root)
erf = Erf(ratio)
plus = Add(erf, one)
times = Mul(x, plus)
y = Mul(times, half)
"""
ATTENTION = """
product = MatMul(x, weight)
query = Add(bias, product)
turned = Transpose(query)
scores = MatMul(turned, x)
scaled = Div(scores, root)
y = Softmax(scaled)
"""
RANDOM = np.random.default_rng(0)
CONSTANTS = {
    "root": np.float32(2**0.5),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "weight": RANDOM.normal(size=(4, 4)).astype(np.float32),
    "bias": RANDOM.normal(size=4).astype(np.float32),
}


def model(text, **constants):
    """A graph of one line a node, from x to y, both of 4 rows and columns."""
    nodes = []
    for line in text.strip().splitlines():
        output, _, call = line.partition(" = ")
        kind, _, inputs = call.rstrip(")").partition("(")
        nodes.append(helper.make_node(kind, inputs.split(", "), [output]))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in "xy")
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in {**CONSTANTS, **constants}.items()]
    graph = helper.make_graph(nodes, "graph", [x], [y], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.linspace(-3, 3, 16, dtype=np.float32).reshape(4, 4)})[0]


def kinds(model):
    return [node.op_type for node in model.graph.node]


def test_a_gelu_reads_its_product_twice():
    made = model(GELUS)
    expected = answer(made)
    leave_products_plain(made)
    onnx.checker.check_model(made)
    assert kinds(made) == ["Div", "Erf", "Mul", "Mul", "Add"]
    np.testing.assert_allclose(answer(made), expected, atol=1e-6)


@pytest.mark.parametrize(
    "constants", [{"half": np.float32(0.25)}, {"one": np.ones(4, np.float32)}], ids=["half", "one"]
)
def test_what_only_looks_like_a_gelu_is_left(constants):
    made = model(GELUS, **constants)
    before = made.SerializeToString()
    leave_products_plain(made)
    assert made.SerializeToString() == before


@pytest.mark.parametrize("scaling", ["Div(scores, root)", "Mul(scores, half)"])
def test_the_weights_of_queries_take_their_scale(scaling):
    made = model(ATTENTION.replace("Div(scores, root)", scaling))
    expected = answer(made)
    leave_products_plain(made)
    assert kinds(made) == ["MatMul", "Add", "Transpose", "MatMul", "Softmax"]
    np.testing.assert_allclose(answer(made), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("scaled = Div(scores, root)", "scaled = Div(scores, bias)"),
        ("scaled = Div(scores, root)", "scaled = Div(root, scores)"),
        ("y = Softmax(scaled)", "y = Add(scaled, scores)"),
        ("y = Softmax(scaled)", "y = MatMul(scaled, weight)"),
        ("y = Softmax(scaled)", "y = Add(scaled, bias)"),
        ("y = Softmax(scaled)", "y = Add(scaled, query)"),
        ("query = Add(bias, product)", "query = Add(x, product)"),
        ("query = Add(bias, product)", "query = Relu(product)"),
        ("product = MatMul(x, weight)", "product = MatMul(x, x)"),
    ],
)
def test_a_scale_of_anything_else_is_left(line, instead):
    made = model(ATTENTION.replace(line, instead))
    expected, before = answer(made), made.SerializeToString()
    leave_products_plain(made)
    assert made.SerializeToString() == before
    np.testing.assert_array_equal(answer(made), expected)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "mpnet"])
def test_a_models_products_are_plain(name, zoo, archived):
    artifact = Artifact.open(archived(zoo(name, "embedding"), engine="openvino"))
    nodes = onnx.load(artifact.directory / "openvino" / "model.onnx").graph.node
    makers = {output: node for node in nodes for output in node.output}
    users = {name: [node for node in nodes if name in node.input] for name in makers}
    products = [node for node in nodes if node.op_type == "MatMul"]
    assert len(products) > 12
    behind = [user.op_type for node in products for user in users[node.output[0]]]
    assert "Div" not in behind
    assert "Mul" not in behind
    erfs = [node for node in nodes if node.op_type == "Erf"]
    values = [makers[erf.input[0]].input[0] for erf in erfs]
    assert len(erfs) == 2
    assert [len(users[value]) for value in values] == [2, 2]
    assert all(users[erf.output[0]][0].op_type == "Mul" for erf in erfs)


@pytest.mark.usefixtures("no_self_test")
def test_what_is_left_whole_is_a_valid_graph(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "same_answers", lambda *_: False)
    artifact = Artifact.open(
        build(zoo("bert", "sequence_classification"), "m", "1.0", tmp_path, engine="openvino").path
    )
    onnx.checker.check_model(artifact.directory / "openvino" / "model.onnx")
