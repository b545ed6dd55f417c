from __future__ import annotations

import json
import logging
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import transformers

from bert_handler import Predictor, warmup
from bert_handler.batching import Limits
from bert_handler.cost import GPU, PADDED
from bert_handler.engines.base import bucket, snug
from bert_handler.engines.torch_engine import TorchEngine
from bert_handler.errors import ConfigError, UnservableError
from bert_handler.schema import Row
from tests import zoo as tiny

SAMPLE = Row({"input_ids": np.array([2, 7, 8, 3]), "attention_mask": np.ones(4, dtype=np.int64)}, 4)


class Computed:
    """Stands for a scheduler, and keeps what it was given."""

    def __init__(self, outcome=None):
        self.batches = []
        self._outcome = outcome or {}

    def submit(self, rows):
        self.batches.append((len(rows), rows[0]))
        return self

    def result(self):
        return [self._outcome]


def shapes(limits, max_length):
    return {bucket(*batch) for batch in warmup.smallest_batches(limits, max_length, bucket)}


@pytest.mark.parametrize(
    ("tokens", "rows", "max_length", "expected"),
    [
        (64, 4, 32, {(1, 16), (2, 16), (3, 16), (4, 16), (1, 32), (2, 32), (3, 32)}),
        (64, 1, 48, {(1, 16), (1, 32), (1, 48)}),
        # Three rows of 33 tokens are more than 64; a lone row is always computed.
        (64, 4, 80, {(1, 16), (2, 16), (3, 16), (4, 16), (1, 32), (2, 32), (3, 32), (1, 48), (1, 64), (1, 80)}),
    ],
)
def test_the_shapes_are_those_that_the_limits_allow(tokens, rows, max_length, expected):
    assert shapes(Limits(tokens, rows, 8192, PADDED), max_length) == expected


@pytest.mark.parametrize(("longest", "n_shapes"), [(512, 226), (8192, 323)])
def test_all_that_can_be_met_is_found_and_bounded(longest, n_shapes):
    limits = Limits(16384, 256, 8192, GPU)
    met = {bucket(n, length) for length in range(1, longest + 1) for n in range(1, min(256, 16384 // length) + 1)}
    assert shapes(limits, longest) == met
    assert len(met) == n_shapes <= warmup.MAX_SHAPES


def test_rows_are_made_from_the_sample_to_its_last_token():
    computed = Computed()
    warmup.warm_up(computed, SAMPLE, Limits(64, 2, 8192, PADDED), 17, bucket)
    assert [(n, row.length) for n, row in computed.batches] == [(1, 1)] * 2 + [(2, 1)] * 2 + [(1, 17)] * 2 + [
        (2, 17)
    ] * 2
    np.testing.assert_array_equal(computed.batches[4][1].inputs["input_ids"], [2, 7, 8, 3] * 4 + [3])


def test_the_places_of_masks_are_not_stretched_and_lie_within_the_row():
    computed = Computed()
    sample = SAMPLE._replace(inputs={**SAMPLE.inputs, "mask_positions": np.array([2])})
    warmup.warm_up(computed, sample, Limits(64, 1, 8192, PADDED), 17, bucket)
    assert [row.inputs["mask_positions"].tolist() for _, row in computed.batches] == [[0]] * 2 + [[2]] * 2


@pytest.mark.parametrize(
    ("head", "text"),
    [("sequence_classification", "the cat"), ("fill_mask", "the [MASK]"), ("token_classification", "the cat")],
)
def test_traffic_has_no_shape_that_the_load_has_not_had(zoo, monkeypatch, head, text):
    met = set()
    run = TorchEngine.forward

    def forward(self, batch, threads):
        met.add(tuple(batch.shapes.items()))
        return run(self, batch, threads)

    monkeypatch.setattr(TorchEngine, "forward", forward)
    monkeypatch.setattr(TorchEngine, "shape", staticmethod(bucket))
    monkeypatch.setattr(TorchEngine, "compiles_shapes", True)
    settings = {"threads": 1, "max_batch_tokens": 96, "max_batch_rows": 4}
    predictor = Predictor.load(zoo("bert", head), device="cpu", model_yaml={"handler": settings})
    warmed = set(met)
    predictor.predict([" ".join([text] * n) for n in range(1, 16)] * 2)
    predictor.close()
    assert met == warmed


def test_more_shapes_than_the_bound_are_said(caplog, monkeypatch):
    monkeypatch.setattr(warmup, "MAX_SHAPES", 2)
    caplog.set_level(logging.INFO)
    assert warmup.warm_up(Computed(), SAMPLE, Limits(64, 4, 8192, PADDED), 32, bucket) == 2
    assert "compiling 2 shapes of 7: up to 2 rows and 1 tokens" in caplog.text


def test_progress_is_said(caplog, monkeypatch):
    monkeypatch.setattr(warmup, "REPORT_EVERY_S", 0.0)
    caplog.set_level(logging.INFO)
    warmup.warm_up(Computed(), SAMPLE, Limits(64, 4, 8192, PADDED), 32, bucket)
    assert "7 shapes of 7 are compiled after" in caplog.text


def test_a_shape_that_fails_stops_the_load():
    with pytest.raises(ConfigError, match="1 rows of 1 tokens cannot be computed: no memory"):
        warmup.warm_up(Computed(UnservableError("no memory")), SAMPLE, Limits(64, 4, 8192, PADDED), 32, bucket)


@pytest.mark.slow
def test_no_request_waits_for_the_compiler(zoo, monkeypatch):
    """A GPU's way with its shapes, on a CPU: only the CUDA graphs are missing."""
    monkeypatch.setattr(TorchEngine, "shape", staticmethod(bucket))
    met = set()
    run = TorchEngine.forward

    def forward(self, batch, threads):
        if self._run is not self.graph:
            met.add(batch.shapes["input_ids"])
        return run(self, batch, threads)

    monkeypatch.setattr(TorchEngine, "forward", forward)
    monkeypatch.setattr(TorchEngine, "compiles_shapes", True)
    # The mode is the GPU's own. What there is to compile is settled before the backend, which takes its time here.
    compile_graph, ours = torch.compile, {"mode": None, "backend": "aot_eager"}
    monkeypatch.setattr(torch, "compile", lambda graph, **options: compile_graph(graph, **{**options, **ours}))
    torch._dynamo.reset()
    settings = {"compile": True, "threads": 1, "max_length": 48, "max_batch_tokens": 96, "max_batch_rows": 4}
    model = zoo("bert", "sequence_classification", num_hidden_layers=1)
    predictor = Predictor.load(model, device="cpu", model_yaml={"handler": settings})
    warmed, graphs = set(met), torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert warmed == {(1, 16), (2, 16), (3, 16), (4, 16), (1, 32), (2, 32), (3, 32), (4, 32), (1, 48), (2, 48)}
    predictor.predict([" ".join(["cat"] * n) for n in range(1, 46)] * 2)
    predictor.close()
    assert met == warmed
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs > 0


@pytest.mark.parametrize("width", [1, 2, 3, 4, 9])
def test_neighbours_are_seen_in_the_whole_of_an_output_however_wide(width):
    def compute(rows, shape):
        values = np.zeros(width)
        values[-1] = len(rows)
        return [{"logits": values}] * len(rows)

    assert warmup.sees_neighbours(compute, SAMPLE, snug, 0.1)


@pytest.mark.parametrize("shape", [snug, bucket])
def test_what_padding_gives_is_nothing_that_a_row_sees(shape):
    def compute(rows, shape):
        n_rows, width = shape(len(rows), max(row.length for row in rows))
        return [{"logits": np.where(np.arange(width) < row.length, 5.0, float(n_rows))} for row in rows]

    assert not warmup.sees_neighbours(compute, SAMPLE, shape, 0.1)


def test_a_bucket_is_compared_with_no_padding_at_all():
    def compute(rows, shape):
        return [{"logits": np.array([shape(len(rows), max(row.length for row in rows))[1]])}] * len(rows)

    assert bucket(1, 2) == bucket(1, 4)
    assert warmup.sees_neighbours(compute, SAMPLE, bucket, 0.1)


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize(("architecture", "together"), [("bert", True), ("convbert", False), ("fnet", False)])
def test_who_reads_padding_is_computed_alone(tmp_path, architecture, together, warmup, caplog):
    """ConvBERT's convolutions run over padding, and FNet has no mask."""
    _save(architecture, tmp_path)
    texts = ["A bad film.", *["A bad film, it is, and nobody laughed."] * 7]
    settings = {"handler": {"threads": 1, "warmup": warmup}}
    with Predictor.load(tmp_path, device="cpu", model_yaml=settings, environ={}) as predictor:
        alone, beside = (predictor.predict(given)[0]["logits"] for given in (texts[:1], texts))
        assert (predictor.scheduler.limits.max_batch_rows > 1) == together
    np.testing.assert_allclose(beside, alone, atol=1e-5)
    assert ("each is alone" in caplog.text) != together


def test_a_sample_that_fails_stops_no_load_without_a_warmup(zoo, monkeypatch, caplog):
    def refuse(self, batch, threads):
        raise RuntimeError("no such embedding")

    settings = {"handler": {"threads": 1, "warmup": False}}
    monkeypatch.setattr(TorchEngine, "forward", refuse)
    Predictor.load(zoo("bert", "sequence_classification"), device="cpu", model_yaml=settings, environ={}).close()
    assert "the sample fails (no such embedding)" in caplog.text


def test_nothing_is_compiled_without_a_warmup(zoo, monkeypatch):
    monkeypatch.setattr(TorchEngine, "shape", staticmethod(bucket))
    monkeypatch.setattr(TorchEngine, "compiles_shapes", True)
    monkeypatch.setattr(warmup, "warm_up", lambda *given: pytest.fail("shapes were met"))
    settings = {"handler": {"threads": 1, "warmup": False}}
    Predictor.load(zoo("bert", "sequence_classification"), device="cpu", model_yaml=settings, environ={}).close()


@pytest.mark.parametrize(("stated", "longest"), [(48, 48), (None, 512)])
def test_rows_that_are_met_have_a_longest_where_the_model_has_none(zoo, tmp_path, monkeypatch, stated, longest):
    model = tmp_path / "model"
    shutil.copytree(zoo("deberta-v2", "sequence_classification"), model)
    options = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**options, "model_max_length": stated}))
    monkeypatch.setattr(TorchEngine, "shape", staticmethod(bucket))
    monkeypatch.setattr(TorchEngine, "compiles_shapes", True)
    met = []
    monkeypatch.setattr(warmup, "warm_up", lambda scheduler, row, limits, max_length, shape: met.append(max_length))
    settings = {"handler": {"threads": 1, "max_batch_tokens": 16384}}
    Predictor.load(model, device="cpu", model_yaml=settings, environ={}).close()
    assert met == [longest]


@pytest.mark.parametrize(("architecture", "compiles"), [("bert", True), ("convbert", False), ("fnet", False)])
def test_who_reads_padding_is_not_compiled_for_few_shapes(tmp_path, architecture, compiles, monkeypatch):
    _save(architecture, tmp_path)
    monkeypatch.setattr(TorchEngine, "shape", staticmethod(bucket))
    monkeypatch.setattr(TorchEngine, "compiles_shapes", True)
    settings = {"handler": {"threads": 1, "max_length": 16, "max_batch_rows": 1}}
    refused = pytest.raises(ConfigError, match="change with the padding to compiled shapes; leave it out")
    with nullcontext() if compiles else refused:
        Predictor.load(tmp_path, device="cpu", model_yaml=settings, environ={}).close()


def _save(architecture, directory):
    tokenizer = tiny.save_tokenizer("bert", directory)
    sizes = {**tiny._SIZES, **tiny._token_ids(tokenizer), "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(architecture, **sizes)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.copy_(tiny._draw(name, weights))
    model.save_pretrained(directory)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
def test_a_scale_that_is_taken_from_the_batch_keeps_rows_apart(zoo):
    settings = {"handler": {"device": "cpu", "threads": 1, "quantization": "int8"}}
    texts = ["A bad film.", *["The acting was better, and the music was the best of the year."] * 8]
    model = zoo("bert", "sequence_classification")
    with Predictor.load(model, model_yaml=settings, environ={}) as predictor:
        alone, beside = (predictor.predict(given)[0]["logits"] for given in (texts[:1], texts))
    np.testing.assert_array_equal(beside, alone)
