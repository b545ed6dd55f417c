"""Compiled graphs answer as eager ones do, and what a GPU compiles has few shapes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch._inductor.config import triton

from bert_handler import Predictor
from bert_handler.engines.base import bucket, collate
from bert_handler.engines.torch_engine import TorchEngine
from bert_handler.errors import ConfigError
from bert_handler.schema import Row

TEXTS = ["the cat sat", "the dog ran to the house by the river", "yes", "on the mat the cat sat and sat"]


def row(*ids):
    return Row({"input_ids": np.array(ids), "attention_mask": np.ones(len(ids), dtype=np.int64)}, len(ids))


def test_buckets_are_few_and_no_more_than_half_as_large_again():
    shapes = {bucket(rows, length) for rows in range(1, 65) for length in range(1, 513)}
    assert sorted({rows for rows, _ in shapes}) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    assert len(shapes) == 12 * 16
    for rows, length in [(1, 1), (3, 17), (5, 100), (33, 300), (64, 512)]:
        wide, long = bucket(rows, length)
        assert rows <= wide < 1.5 * rows
        assert 0 <= long - length < max(16, length / 4 + 1)


@pytest.mark.parametrize(
    ("length", "longest", "padded"),
    [(500, None, 512), (500, 512, 512), (500, 510, 510), (510, 510, 510), (100, 510, 112), (600, 510, 640)],
)
def test_a_bucket_is_no_longer_than_the_models_longest_row(length, longest, padded):
    """Further inputs, as candidates for masks, may be more than a row has tokens."""
    assert bucket(1, length, longest) == (1, padded)


def test_a_gpu_compiles_no_positions_that_the_model_has_not(zoo, load, monkeypatch):
    predictor = load(zoo("bert", "sequence_classification", max_position_embeddings=40))
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    engine = TorchEngine(predictor.engine.graph, torch.device("cuda:0"))
    engine.compile(1)
    assert engine.shape(1, 20) == (1, 32)
    assert engine.shape(1, 33) == (1, 40)


@pytest.mark.parametrize(("given", "used"), [(1, 1), (2, 1), (3, 1), (4, 4)])
def test_a_compiled_graph_has_one_core_or_all(zoo, load, monkeypatch, given, used):
    graph = load(zoo("bert", "sequence_classification")).engine.graph
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    engine = TorchEngine(graph, torch.device("cpu"))
    engine.compile(4)
    engine.forward(collate([row(5, 6)], {}), given)
    assert chosen == [used]
    assert engine.widths == (1, 4), "which the scheduler books no more than"


class Recorded:
    """Stands for inductor: counts the graphs, and the sizes for which it would record one as a CUDA graph."""

    def __init__(self):
        self.n_graphs, self.sizes, self.warn_limits = 0, set(), set()

    def __call__(self, module, examples):
        number, self.n_graphs = self.n_graphs, self.n_graphs + 1
        self.warn_limits.add(triton.cudagraph_dynamic_shape_warn_limit)
        inputs = [node.meta["val"] for node in module.graph.nodes if node.op == "placeholder"]
        numbers = [i for i, value in enumerate(inputs) if not isinstance(value, torch.Tensor)]

        def run(*values):
            self.sizes.add((number, *(values[i] for i in numbers)))
            return module(*values)

        return make_boxed_func(run)


@pytest.mark.slow
def test_a_gpu_records_nothing_new_in_traffic_and_warns_of_nothing(zoo, load, monkeypatch):
    """The places of masks are as many as tokens by chance in some shapes, and not in others."""
    settings = {"max_length": 32, "max_batch_tokens": 64, "max_batch_rows": 2}
    loaded = load(zoo("bert", "fill_mask", num_hidden_layers=1), **settings)
    recorded, compile_graph = Recorded(), torch.compile
    backend = aot_autograd(fw_compiler=recorded, inference_compiler=recorded)
    monkeypatch.setattr(
        torch, "compile", lambda graph, dynamic, mode: compile_graph(graph, dynamic=dynamic, backend=backend)
    )
    torch._dynamo.reset()
    engine = TorchEngine(loaded.engine.graph, torch.device("cpu"))
    engine._launcher = ThreadPoolExecutor(1)
    engine.compile(1)
    predictor = Predictor(loaded.task, engine, loaded.identity)
    predictor.self_test()
    predictor.prepare()
    warmed = set(recorded.sizes)
    assert recorded.n_graphs == 2, "one row, and several"
    assert len(warmed) == 4
    predictor.predict(["the [MASK]", "the [MASK] " * 3, "the [MASK] " * 10] * 3)
    predictor.close()
    assert recorded.sizes == warmed
    assert recorded.warn_limits == {None}


def test_a_bucket_is_filled_with_padding_and_with_the_last_row():
    arrays = collate([row(7, 8, 9), row(5), row(4, 6)], {"input_ids": 1}, shape=lambda n, length: (4, 4)).arrays()
    np.testing.assert_array_equal(arrays["input_ids"], [[7, 8, 9, 1], [5, 1, 1, 1], [4, 6, 1, 1], [4, 6, 1, 1]])
    np.testing.assert_array_equal(arrays["attention_mask"].sum(1), [3, 1, 2, 2])


def test_rows_in_buckets_are_answered_alike(zoo):
    directory = zoo("roberta", "sequence_classification")
    plain = Predictor.load(directory, device="cpu")
    expected = plain.predict(TEXTS)
    plain.engine.shape = bucket
    for left, right in zip(plain.predict(TEXTS), expected):
        np.testing.assert_allclose(left["logits"], right["logits"], atol=1e-5)
    plain.close()


def test_explanations_give_no_new_shapes_to_a_graph_that_compiles_each(zoo):
    predictor = Predictor.load(zoo("bert", "sequence_classification"), device="cpu")
    engine, met = predictor.engine, []
    run, engine.shape, engine.compiles_shapes = engine._run, bucket, True

    def compiled(**inputs):
        met.append(tuple(inputs["input_ids"].shape))
        return run(**inputs)

    engine._run = compiled
    explanation = predictor.explain(["the cat sat"], method="feature_ablation")[0]
    predictor.close()
    assert explanation["words"] == ["the", "cat", "sat"]
    assert met == [(1, 16)], "the decision alone"


@pytest.mark.slow
def test_a_compiled_graph_answers_as_an_eager_one(zoo):
    directory = zoo("bert", "sequence_classification", num_hidden_layers=1)
    torch._dynamo.reset()
    eager = Predictor.load(directory, device="cpu")
    compiled = Predictor.load(directory, device="cpu", model_yaml={"handler": {"compile": True, "threads": 2}})
    n_graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert n_graphs > 0
    for left, right in zip(compiled.predict(TEXTS), eager.predict(TEXTS)):
        np.testing.assert_allclose(left["logits"], right["logits"], atol=1e-4)
    compiled.predict([" ".join(["cat"] * n) for n in range(1, 30)] * 3)
    compiled.predict(["the cat"])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == n_graphs, "all is compiled in the self-test"
    for predictor in (eager, compiled):
        predictor.close()


@pytest.mark.parametrize(
    ("task", "head", "engine", "message"),
    [
        ("bert", "sequence_classification", "onnx", "compiles nothing"),
        ("gpt2", "generation", "torch", "of ever new shapes"),
    ],
)
def test_what_cannot_be_compiled_says_so(zoo, task, head, engine, message):
    settings = {"handler": {"compile": True, "engine": engine}}
    with pytest.raises(ConfigError, match=message):
        Predictor.load(zoo(task, head), device="cpu", model_yaml=settings)
