"""What counts as the same answers of two graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert_handler.engines.base import collate
from bert_handler.packaging import parity
from bert_handler.packaging.parity import greatest_difference, same_answers
from bert_handler.schema import Row


def row(length):
    return Row({name: np.ones(length, np.int64) for name in ("input_ids", "attention_mask")}, length)


@pytest.fixture
def batch():
    """Of three tokens and two."""
    return collate([row(3), row(2)], {})


def answering(monkeypatch, batch, expected, found):
    """Whether the two functions of a mask (B, L) give the same answers."""
    monkeypatch.setattr(parity, "run_onnx", lambda path, feeds, names: {"y": expected(feeds["attention_mask"])})
    return same_answers(Path(), Path(), batch, ["y"], lambda path, feeds, names: {"y": found(feeds["attention_mask"])})


def test_an_output_as_wide_as_the_batch_is_long_is_compared_whole(monkeypatch, batch):
    def zeros(mask):
        return np.zeros((len(mask), 3), np.float32)

    def apart(mask):
        """One vector a row, wrong where the padding of a token's would be."""
        return np.array([[0, 0, 0], [0, 0, 1]], np.float32)[-len(mask) :]

    assert answering(monkeypatch, batch, zeros, zeros)
    assert not answering(monkeypatch, batch, zeros, apart)


def test_what_an_output_of_tokens_has_at_padding_is_not_compared(monkeypatch, batch):
    def zeros(mask):
        return np.zeros(mask.shape, np.float32)

    def noisy(mask):
        return np.where(mask, 0, 7).astype(np.float32)

    assert answering(monkeypatch, batch, zeros, noisy)
    assert not answering(monkeypatch, batch, zeros, lambda mask: zeros(mask) + 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_no_parity(bad):
    expected, found = {"logits": np.ones((2, 2))}, {"logits": np.array([[1, 1], [1, bad]])}
    mask = np.ones((2, 3), np.int64)
    assert greatest_difference([expected], [expected], [mask]) == 0
    assert greatest_difference([expected], [found], [mask]) == np.inf
    assert greatest_difference([found], [expected], [mask]) == np.inf
