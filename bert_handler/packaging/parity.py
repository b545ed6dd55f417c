"""Whether a graph that was rewritten still answers as it did."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from bert_handler import runtimes
from bert_handler.engines.base import Batch
from bert_handler.packaging.token_index import MASK
from bert_handler.schema import IntArray

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Greatest difference of an fp32 engine's outputs from torch's."""

Outputs = Mapping[str, "NDArray[Any]"]
Run = Callable[[Path, Mapping[str, IntArray], Sequence[str]], Outputs]
"""Gives the outputs of those names of a graph, on one engine."""


def same_answers(source: Path, path: Path, batch: Batch, names: Sequence[str], run: Run) -> bool:
    """Whether an engine answers with a graph as its source does; not where it cannot load or run it.

    batch: at least two rows, the last one shorter than the longest.
    """
    together = batch.arrays()
    # An output of one vector a row may be as wide as the batch is long, but not as wide as its last row as well.
    feeds = [together, _last_row(together)]
    expected = [run_onnx(source, feed, names) for feed in feeds]
    try:
        found = [run(path, feed, names) for feed in feeds]
    except Exception as exc:  # noqa: BLE001 - the engines' own errors share no other base
        logger.debug("%s is not a valid graph: %s", path.name, type(exc).__name__)
        return False
    return greatest_difference(expected, found, [token_mask(feed) for feed in feeds]) <= TOLERANCE


def _last_row(arrays: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """The last row of a batch alone, without its padding."""
    mask = token_mask(arrays)
    length = int(mask[-1].nonzero()[0][-1]) + 1
    return {name: array[-1:, :length] if array.shape == mask.shape else array[-1:] for name, array in arrays.items()}


def token_mask(arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The attention mask of a batch (B, L): all ones where its tokenizer gives none."""
    return arrays[MASK] if MASK in arrays else np.ones_like(arrays["input_ids"])


def run_onnx(path: Path, feeds: Mapping[str, IntArray], names: Sequence[str]) -> Outputs:
    """Outputs of a graph on ONNX Runtime."""
    session = runtimes.quiet_session(path)
    return dict(zip(names, session.run(names, {item.name: feeds[item.name] for item in session.get_inputs()})))


def run_openvino(path: Path, feeds: Mapping[str, IntArray], names: Sequence[str]) -> Outputs:
    """Outputs of a graph on OpenVINO, in fp32."""
    core = runtimes.openvino().Core()
    model = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = model({item.any_name: feeds[item.any_name] for item in model.inputs})
    return {name: results[name] for name in names}


def greatest_difference(
    expected: Sequence[Outputs],
    actual: Sequence[Outputs],
    masks: Sequence[IntArray],
) -> float:
    """The greatest absolute difference of two engines' outputs, relative where values exceed 1.

    masks: of each batch, (B, L): what an output of every token has at padding is not compared, for nobody reads it.
    """
    # By chance, an output of one vector a row is as wide as one batch is long, but not as all of them.
    of_tokens = {
        name for name in expected[0] if all(batch[name].shape[:2] == mask.shape for batch, mask in zip(expected, masks))
    }
    worst = 0.0
    for left, right, mask in zip(expected, actual, masks):
        for name, values in left.items():
            if values.dtype.kind != "f":
                # Which token is the n-th best says nothing where two are equally good.
                continue
            with np.errstate(invalid="ignore"):
                apart = np.abs(values - right[name]) / np.maximum(1.0, np.abs(values))
            read = apart[mask.astype(bool)] if name in of_tokens else apart
            worst = max(worst, float(np.max(np.nan_to_num(read, nan=np.inf, posinf=np.inf), initial=0.0)))
    return worst
