"""What a batch costs: one tokenizer call, and one copy to the device and back for each micro-batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bert_handler import Predictor
from bert_handler.engines.torch_engine import Transfer
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
    monkeypatch.setattr(tokenizer, "_encode_fast", lambda *a, **k: calls.append(len(a[0])) or encode(*a, **k))
    monkeypatch.setattr(engine, "forward", lambda batch, threads: forwards.append(batch) or forward(batch, threads))
    responses = predictor.respond([Request(["the cat sat"] * 5), Request(["a dog ran away from the house"] * 7)])
    assert [len(response.predictions) for response in responses] == [5, 7]
    assert calls == [12]
    assert 1 < len(forwards) < 12
    assert transfer.sent == transfer.fetched == len(forwards)


def test_a_batch_goes_to_a_gpu_as_one_pinned_copy_without_waiting(monkeypatch) -> None:
    """No GPU here: the `meta` device stands in for one, and pinning is recorded instead of done."""
    pinned, copied = [], []
    move = torch.Tensor.to

    def to(self, *args, **kwargs):
        copied.append((args, kwargs))
        return move(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.shape) or self)
    monkeypatch.setattr(torch.Tensor, "to", to)
    sent = Transfer(torch.device("meta")).to_device(np.arange(24, dtype=np.int64))
    assert sent.device.type == "meta"
    assert pinned == [(24,)]
    assert copied == [((torch.device("meta"),), {"non_blocking": True})]
