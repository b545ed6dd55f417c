"""Logits to probabilities, on the host: a few numbers a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis, float32 in and out."""
    # The ufuncs themselves: for a few numbers, max() and sum() spend most of their time on the way to them.
    exponents = np.exp(logits - np.maximum.reduce(logits, axis=-1, keepdims=True))
    normalized: NDArray[np.float32] = np.divide(exponents, np.add.reduce(exponents, axis=-1, keepdims=True))
    return normalized


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logistic function, float32 in and out, without overflow for large negative logits."""
    exponents = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + exponents), exponents / (1 + exponents)).astype(np.float32)


def has_nan(values: NDArray[Any]) -> bool:
    """Whether an output has a NaN: such an instance is refused, since no label or score of it means anything."""
    return values.dtype.kind == "f" and bool(np.isnan(values).any())
