"""Label a text or a pair of texts: one label, several labels, or a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from bert_handler.decisions import Decision, Target, mean_probes, one_hot
from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import Parameter
from bert_handler.schema import OutputSpec, Prediction
from bert_handler.scores import sigmoid, softmax
from bert_handler.tasks.base import STRIDE, TRUNCATION, RowOutputs, Task
from bert_handler.tasks.instances import EncodedExample
from bert_handler.tasks.windows import mean_over_windows

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")
SCORE_FUNCTIONS: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "none": lambda logits: logits,
}


class SequenceClassification(Task):
    """`problem_type` of the model decides: softmax over labels, a sigmoid each, or the bare value."""

    name = "sequence_classification"
    model_class = "AutoModelForSequenceClassification"
    architectures = ("ForSequenceClassification",)
    has_labels = True
    optional_fields = ("text_pair",)
    parameters = (
        Parameter("top_k", int, None, "answer with the k best labels instead of one", minimum=1),
        Parameter(
            "function_to_apply",
            str,
            "default",
            "what makes logits probabilities",
            choices=("default", *SCORE_FUNCTIONS),
        ),
        Parameter("threshold", float, None, "answer with every label at least as probable", minimum=0, maximum=1),
        TRUNCATION,
        STRIDE,
    )

    @cached_property
    def problem_type(self) -> str:
        """One of PROBLEM_TYPES."""
        stated = self.model.model_config.get("problem_type")
        return str(stated) if stated else PROBLEM_TYPES[0]

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        n_labels = len(self.model.labels)
        if self.problem_type == "regression":
            own: tuple[int, ...] = () if n_labels == 1 else (n_labels,)
            return (
                OutputSpec("predict", "FP32", own),
                OutputSpec("score", "FP32", own),
                self._vector("logits"),
            )
        defaults = self.model.config.parameters
        if defaults.get("threshold") is not None:
            best = OutputSpec("predict", "BYTES"), OutputSpec("score", "BYTES")
        else:
            k = defaults.get("top_k")
            shape = () if k is None else (min(k, n_labels),)
            best = OutputSpec("predict", "BYTES", shape), OutputSpec("score", "FP32", shape)
        return (*best, self._vector("probabilities"), self._vector("logits"))

    def check_parameters(self, given: Mapping[str, Any], merged: Mapping[str, Any]) -> None:
        """Refuse what chooses among labels where the model has none."""
        for name in ("top_k", "threshold"):
            if self.problem_type == "regression" and given.get(name) is not None:
                raise InvalidRequestError(f"{name} has no effect: this model answers with numbers, not with labels")

    def head(self, output: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"logits": output.logits.float()}

    def decode(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Mapping[str, Any]:
        logits = mean_over_windows(rows, "logits")
        parameters = encoded.example.parameters
        function = self._function(parameters["function_to_apply"])
        scores = SCORE_FUNCTIONS[function](logits)
        if self.problem_type == "regression":
            value = scores[0] if len(scores) == 1 else scores
            return {"predict": value, "score": value, "logits": logits}
        labels, best = self._best(scores, parameters)
        return {"predict": labels, "score": best, "probabilities": scores, "logits": logits}

    def decision(
        self,
        encoded: EncodedExample,
        rows: Sequence[RowOutputs],
        asked: Sequence[Any],
        references: Sequence[Prediction] = (),
    ) -> Decision:
        logits = mean_over_windows(rows, "logits")
        labels = self.model.labels
        scores = SCORE_FUNCTIONS[self._function(encoded.example.parameters["function_to_apply"])](logits)
        best = int(scores.argmax())
        targets = [
            Target(
                labels[index],
                mean_probes(range(len(rows)), "logits", one_hot(logits.shape, [index])),
                float(scores[index]),
            )
            for index in ([labels.index(item) for item in asked] or [best])
        ]
        return Decision(labels[best], float(scores[best]), targets)

    def _best(self, scores: NDArray[np.float32], parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        names = self.model.labels.names
        top_k, threshold = parameters["top_k"], parameters["threshold"]
        if top_k is None and threshold is None:
            index = int(scores.argmax())
            return names[index], scores[index]
        order = np.argsort(-scores, kind="stable")[:top_k]
        if threshold is None:
            return tuple(names[i] for i in order), scores[order]
        order = order[scores[order] >= threshold]
        # How many labels pass differs from text to text: documents, not tensors.
        return [names[i] for i in order], list(scores[order])

    def _function(self, asked: str) -> str:
        if asked != "default":
            return asked
        if self.problem_type == "regression":
            return "none"
        multi = self.problem_type == "multi_label_classification" or len(self.model.labels) == 1
        return "sigmoid" if multi else "softmax"

    def _vector(self, name: str) -> OutputSpec:
        return OutputSpec(name, "FP32", (len(self.model.labels),))
