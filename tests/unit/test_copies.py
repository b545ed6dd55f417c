"""What a batch costs: one tokenizer call, and one copy to the device and back for each micro-batch."""

from __future__ import annotations

import copy
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import masking_utils

from bert_handler import Predictor
from bert_handler.engines.base import collate
from bert_handler.engines.torch_engine import Graph, TorchEngine, Transfer
from bert_handler.schema import Request
from tests.zoo import ENCODERS


class RecordingTransfer(Transfer):
    """Counts the copies of a real one."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.sent = self.fetched = 0

    def to_device(self, buffer):
        self.sent += 1
        return super().to_device(buffer)

    def to_host(self, outputs):
        self.fetched += 1
        return super().to_host(outputs)


@pytest.fixture
def predictor(zoo):
    yaml = {"handler": {"device": "cpu", "threads": 1, "max_batch_tokens": 32}}
    loaded = Predictor.load(zoo("bert", "sequence_classification"), model_yaml=yaml, environ={})
    yield loaded
    loaded.close()


def test_requests_together_are_one_tokenizer_call_and_one_copy_a_micro_batch(predictor, monkeypatch) -> None:
    tokenizer, engine = predictor.task.model.tokenizer, predictor.engine
    engine.transfer = transfer = RecordingTransfer(torch.device("cpu"))
    calls, forwards = [], []
    encode, forward = tokenizer._encode_fast, engine.forward
    monkeypatch.setattr(tokenizer, "_words", None)
    monkeypatch.setattr(tokenizer, "_encode_fast", lambda *a, **k: calls.append(len(a[0])) or encode(*a, **k))
    monkeypatch.setattr(engine, "forward", lambda batch, threads: forwards.append(batch) or forward(batch, threads))
    responses = predictor.respond([Request(["the cat sat"] * 5), Request(["a dog ran away from the house"] * 7)])
    assert [len(response.predictions) for response in responses] == [5, 7]
    assert calls == [12]
    assert 1 < len(forwards) < 12
    assert transfer.sent == transfer.fetched == len(forwards)


class PretendedGpu:
    """There is none here: what torch would do there is done in another place, and noted with its thread."""

    type = "cuda"

    def __init__(self, monkeypatch, place="cpu") -> None:
        self.done = []
        empty, to = torch.empty, torch.Tensor.to

        def pinned_empty(*args, pin_memory=False, **kwargs):
            if pin_memory:
                self.note("pin outputs")
            return empty(*args, **kwargs)

        def moved(tensor, *args, **kwargs):
            if self not in args:
                return to(tensor, *args, **kwargs)
            self.note("send", **kwargs)
            return to(tensor, place, **kwargs)

        monkeypatch.setattr(torch, "empty", pinned_empty)
        monkeypatch.setattr(torch.Tensor, "to", moved)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self.note("pin inputs") or tensor.clone())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
        monkeypatch.setattr(torch.cuda, "Event", self.event)

    def note(self, what, **options) -> None:
        thread = threading.current_thread().name.partition("_")[0]
        self.done.append((thread, what, *options.items()))

    def event(self, **options):
        self.note("event", **options)
        return SimpleNamespace(record=lambda device: self.note("record"), synchronize=lambda: self.note("wait"))


@pytest.mark.parametrize(
    ("head", "text"), [("sequence_classification", "the cat sat"), ("fill_mask", "the [MASK] sat")]
)
def test_a_batch_goes_to_a_gpu_and_back_in_one_copy_each_that_one_thread_launches(zoo, load, monkeypatch, head, text):
    predictor = load(zoo("bert", head))
    example = predictor.task.encode([predictor.task.parse(text, predictor.config.parameters)])[0]
    batch = collate(example.rows * 3, {})
    expected = predictor.engine.forward(batch, 1)
    gpu = PretendedGpu(monkeypatch)
    found = TorchEngine(predictor.engine.graph, gpu).forward(batch, 1)
    assert gpu.done == [
        ("launch", "pin inputs"),
        ("launch", "send", ("non_blocking", True)),
        ("launch", "pin outputs"),
        ("launch", "event", ("blocking", True)),
        ("launch", "record"),
        ("MainThread", "wait"),
    ]
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


class Crossings(TorchDispatchMode):
    """Notes what passes between the host and `meta`, on which nothing is computed and no value can be read.

    Single numbers, which DeBERTa makes on the host, do not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        fetched = function is torch.ops.aten.copy_.default and args[1].device.type == "meta" != args[0].device.type
        made = args[0] if fetched else function(*args, **(kwargs or {}))
        tensors = [item for item in tree_leaves((args, kwargs, made)) if isinstance(item, torch.Tensor)]
        if len({item.device.type for item in tensors if item.ndim}) > 1:
            self.found.append(str(function.overloadpacket))
        return made


CROSSED_ONCE = ["aten.to", "aten.copy_"]


def crossings(predictor, texts, monkeypatch):
    """The operators of one forward that touch both the host and the device, and the shapes of its outputs."""
    model = copy.deepcopy(predictor.engine.graph.model).to("meta")
    engine = TorchEngine(Graph(model, predictor.task), PretendedGpu(monkeypatch, "meta"))
    watched, launch = Crossings(), engine._launch

    def launch_watched(batch):
        with watched:
            return launch(batch)

    monkeypatch.setattr(engine, "_launch", launch_watched)
    examples = predictor.task.encode([predictor.task.parse(text, predictor.config.parameters) for text in texts])
    outputs = engine.forward(collate([example.rows[0] for example in examples], {}), 1)
    return watched.found, {name: values.shape for name, values in outputs.items()}


@pytest.mark.parametrize("architecture", ENCODERS)
def test_a_model_needs_nothing_else_of_the_host(zoo, load, monkeypatch, architecture):
    # A compiled graph does not look whether a mask masks anything either.
    monkeypatch.setattr(masking_utils, "is_tracing", lambda *_: True)
    predictor = load(zoo(architecture, "sequence_classification"), dtype="bfloat16")
    found, shapes = crossings(predictor, ["the fox", "the lazy dog jumps over"], monkeypatch)
    assert found == CROSSED_ONCE
    assert shapes == {"logits": (2, 2)}


@pytest.mark.parametrize("architecture", sorted(set(ENCODERS) - {"mpnet"}))
def test_a_batch_without_padding_needs_no_look_at_its_mask(zoo, load, monkeypatch, architecture):
    """Nor does DeBERTa ever look; MPNet's attention is not fused."""
    predictor = load(zoo(architecture, "sequence_classification"), dtype="bfloat16")
    assert crossings(predictor, ["the fox", "the fox"], monkeypatch)[0] == CROSSED_ONCE


@pytest.mark.parametrize("architecture", ENCODERS)
@pytest.mark.parametrize("head", ["sequence_classification", "embedding"])
def test_a_batch_without_padding_is_answered_alike_without_its_mask(zoo, load, architecture, head):
    predictor = load(zoo(architecture, head))
    task, graph = predictor.task, predictor.engine.graph
    rows = [item.rows[0] for item in task.encode([task.parse("the fox", predictor.config.parameters)] * 2)]
    inputs = {name: torch.from_numpy(values) for name, values in collate(rows, {}).arrays().items()}
    with torch.inference_mode():
        found, expected = graph.unmasked(**inputs), graph(**inputs)
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=1e-6)
