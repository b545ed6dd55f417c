"""What an explanation is about: numbers that are read off the graph's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bert_handler.schema import FloatArray


@dataclass(frozen=True, eq=False)
class Probe:
    """One number of one engine row: sum(weights * outputs[output]), a logit or a mean of logits.

    row: index among the instance's rows.
    weights: float32, in the shape of the row's own output; its first axis may be the row's tokens.
    cosine: the output is divided by its length, so that unit weights give the cosine similarity.
    """

    row: int
    output: str
    weights: FloatArray
    cosine: bool = False


@dataclass(frozen=True)
class Target:
    """One decision to explain; its value is the sum of its parts' probes.

    parts: probes by the part of the decision ("" where there is one; "start" and "end" of an answer).
    score: what the model gives this target, as the task reports scores.
    details: more that the answer says of the target: where an entity stands, for instance.
    """

    name: str
    parts: Mapping[str, Sequence[Probe]]
    score: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What the model decided for one instance, and the targets that were asked for."""

    label: Any
    score: float | None
    targets: Sequence[Target]


def one_hot(shape: Sequence[int], index: Sequence[int]) -> FloatArray:
    """Weights that read one number of an output."""
    weights = np.zeros(tuple(shape), dtype=np.float32)
    weights[tuple(index)] = 1
    return weights


def mean_probes(rows: range, output: str, weights: FloatArray) -> dict[str, Sequence[Probe]]:
    """The mean over an instance's windows of what `weights` read."""
    return {"": [Probe(row, output, (weights / len(rows)).astype(np.float32)) for row in rows]}
