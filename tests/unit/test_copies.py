"""What a batch costs: one tokenizer call, and one copy to the device and back for each micro-batch."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bert_handler import Predictor
from bert_handler.engines.base import collate
from bert_handler.engines.torch_engine import TorchEngine, Transfer
from bert_handler.schema import Request


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
    """There is none here: what torch would do there is done on the CPU, and noted with its thread."""

    type = "cuda"

    def __init__(self, monkeypatch) -> None:
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
            return tensor

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
