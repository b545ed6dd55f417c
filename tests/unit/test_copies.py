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
    monkeypatch.setattr(tokenizer, "_words", None)
    monkeypatch.setattr(tokenizer, "_encode_fast", lambda *a, **k: calls.append(len(a[0])) or encode(*a, **k))
    monkeypatch.setattr(engine, "forward", lambda batch, threads: forwards.append(batch) or forward(batch, threads))
    responses = predictor.respond([Request(["the cat sat"] * 5), Request(["a dog ran away from the house"] * 7)])
    assert [len(response.predictions) for response in responses] == [5, 7]
    assert calls == [12]
    assert 1 < len(forwards) < 12
    assert transfer.sent == transfer.fetched == len(forwards)


def test_a_batch_goes_to_a_gpu_as_one_copy_from_a_kept_pinned_buffer(monkeypatch) -> None:
    """No GPU here: the `meta` device stands in for one, and pinning is recorded instead of done."""
    pinned, copied = [], []
    move, empty = torch.Tensor.to, torch.empty

    def to(self, *args, **kwargs):
        copied.append((self.tolist(), args, kwargs))
        return move(self, *args, **kwargs)

    def pinned_empty(size, dtype, pin_memory):
        pinned.append((size, pin_memory))
        return empty(size, dtype=dtype)

    monkeypatch.setattr(torch, "empty", pinned_empty)
    monkeypatch.setattr(torch.Tensor, "to", to)
    transfer = Transfer(torch.device("meta"))
    device = ((torch.device("meta"),), {"non_blocking": True})
    for size in (24, 30, 5, 33):
        assert transfer.to_device(np.arange(size, dtype=np.int64)).shape == (size,)
        assert copied.pop() == (list(range(size)), *device)
    assert pinned == [(32, True), (64, True)]
