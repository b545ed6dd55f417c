"""How importances are computed: one row, one number of its outputs, one baseline at a time.

A row is never padded: steps of one row fill a forward, so an instance has the same importances
alone and in any batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bert_handler.decisions import Probe
from bert_handler.engines.base import Engine, collate
from bert_handler.errors import RequestError, UnservableError
from bert_handler.explanations.clock import Clock
from bert_handler.explanations.options import Options
from bert_handler.schema import FloatArray, IntArray, Row
from bert_handler.tasks.base import Task
from bert_handler.tasks.explanation_parameters import FEATURE_ABLATION


@dataclass(frozen=True)
class Question:
    """What to explain of one row.

    baseline: token ids, int64 (L,), special tokens as they are; None for zero embeddings.
    replaced: bool (L,), the tokens that the baseline takes the place of.
    words: places of each word's tokens in the row; one may be empty.
    known: what has been computed for the probes of all targets that read this row, each None until it is.
    """

    row: Row
    probe: Probe
    known: dict[Probe, Sequence[float] | None]
    baseline: IntArray | None
    replaced: NDArray[np.bool_]
    words: Sequence[IntArray]


@dataclass(frozen=True)
class Attribution:
    """What each token adds to the probed number.

    tokens: float32 (L,).  value, baseline_value: the number of the input and of the baseline.
    n_steps: that were computed.  complete: no deadline cut them short.
    """

    tokens: FloatArray
    value: float
    baseline_value: float
    n_steps: int
    complete: bool = True

    @property
    def delta(self) -> float:
        """How far the sum of importances is from what it should be (captum's convergence delta)."""
        return float(self.tokens.sum(dtype=np.float64) - (self.value - self.baseline_value))


class Method(ABC):
    """One way to share a number out to the tokens.

    answers_rows: whether what one probe needs answers all probes of its row.
    """

    answers_rows: ClassVar[bool] = False

    @abstractmethod
    def attribute(self, question: Question, options: Options, clock: Clock) -> Attribution:
        """Compute one attribution; raises OutOfTimeError where there is no answer in time."""


class FeatureAblation(Method):
    """How much the number falls when the baseline takes a word's place; needs no gradients.

    Equals captum.attr.FeatureAblation with one feature a word. A word's value is shared equally by
    its tokens.
    """

    answers_rows = True

    def __init__(self, task: Task, engine: Engine, max_batch_tokens: int) -> None:
        self._task = task
        self._engine = engine
        self._max_batch_tokens = max_batch_tokens

    def attribute(self, question: Question, options: Options, clock: Clock) -> Attribution:
        if question.baseline is None:
            raise UnservableError(f"{FEATURE_ABLATION} cannot use baseline: zero; choose pad, mask or text")
        ids = question.row.inputs["input_ids"]
        baseline = np.where(question.replaced, question.baseline, ids)
        present = [places for places in question.words if len(places)]
        variants = [ids, baseline]
        for places in present:
            without = ids.copy()
            without[places] = baseline[places]
            variants.append(without)
        values = question.known[question.probe]
        if values is None:
            values = self._values(question, variants, options, clock)[question.probe]
        tokens = np.zeros(len(ids), dtype=np.float32)
        for places, value in zip(present, values[2:]):
            tokens[places] = (values[0] - value) / len(places)
        return Attribution(tokens, values[0], values[1], len(present))

    def _values(
        self, question: Question, variants: Sequence[IntArray], options: Options, clock: Clock
    ) -> Mapping[Probe, Sequence[float]]:
        """What each of the row's probes reads of each variant: one forward has the numbers of all."""
        size = step_rows(options, self._max_batch_tokens, question.row.length)
        values: dict[Probe, list[float]] = {probe: [] for probe in question.known}
        for start in range(0, len(variants), size):
            clock.check()
            rows = [
                Row({**question.row.inputs, "input_ids": ids}, question.row.length)
                for ids in variants[start : start + size]
            ]
            outputs = self._task.execute(self._engine, rows, collate(rows, {}), clock.threads)
            for output in outputs:
                if isinstance(output, RequestError):
                    raise output
                for probe, found in values.items():
                    found.append(read(probe, output))
        question.known.update(values)
        return values


def step_rows(options: Options, max_tokens: int, length: int) -> int:
    """Rows of one step: as many as are asked for, where a step may have so many tokens."""
    most = max(1, max_tokens // length)
    return min(options.internal_batch_size or most, most)


def read(probe: Probe, outputs: Mapping[str, NDArray[Any]]) -> float:
    """The probed number of one unpadded row's outputs."""
    output = np.asarray(outputs[probe.output], dtype=np.float32)
    value = float((output * probe.weights).sum(dtype=np.float64))
    return value / max(float(np.linalg.norm(output)), 1e-12) if probe.cosine else value
