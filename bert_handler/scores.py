"""Logits to probabilities, on the host: a few numbers a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 16
"""Up to so many numbers, Python computes sooner than NumPy begins to."""


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis, float32 in and out."""
    if logits.ndim == 1 and len(logits) <= FEW:
        return _softmax_of_few(logits.tolist())
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normalized: NDArray[np.float32] = exponents / exponents.sum(axis=-1, keepdims=True)
    return normalized


def _softmax_of_few(logits: Sequence[float]) -> NDArray[np.float32]:
    highest = max(logits)
    exponents = [math.exp(logit - highest) for logit in logits]
    total = sum(exponents)
    return np.array([exponent / total for exponent in exponents], dtype=np.float32)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logistic function, float32 in and out, without overflow for large negative logits."""
    exponents = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + exponents), exponents / (1 + exponents)).astype(np.float32)


def is_finite(values: NDArray[Any]) -> bool:
    """Whether an output has no NaN and no infinity: of an instance that has, no label or score means anything."""
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())
