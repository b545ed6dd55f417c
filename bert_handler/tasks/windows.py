"""Windows of a text that is too long for one: which one decides a token, and their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bert_handler.schema import IntArray
from bert_handler.tasks.base import RowOutputs
from bert_handler.tokenization import Encoded


def deciding_windows(sequence: Encoded) -> IntArray:
    """The window in which each token has most context on its nearer side, int64 (n_tokens,); -1 where cut."""
    deciding = np.full(sequence.n_tokens, -1)
    most = np.full(sequence.n_tokens, -1)
    for i, window in enumerate(sequence.windows):
        places = np.arange(len(window))
        context = np.minimum(places, places[::-1])
        better = context > most[window]
        most[window[better]] = context[better]
        deciding[window[better]] = i
    return deciding


def mean_over_windows(rows: Sequence[RowOutputs], name: str) -> NDArray[np.float32]:
    """Average one output over the windows of an instance."""
    if len(rows) == 1:
        return np.asarray(rows[0][name], dtype=np.float32)
    return np.asarray(np.mean([row[name] for row in rows], axis=0), dtype=np.float32)
