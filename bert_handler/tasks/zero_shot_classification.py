"""Label a text with labels that the request brings, by asking an inference model about each.

Every label makes a hypothesis of the template, and the model says how surely the text entails it
(Yin et al. 2019, "Benchmarking Zero-shot Text Classification").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_handler.decisions import Decision, Target, mean_probes, one_hot
from bert_handler.errors import ConfigError, InvalidRequestError
from bert_handler.parameters import Parameter, unknown
from bert_handler.schema import Instance, OutputSpec, Prediction
from bert_handler.scores import softmax
from bert_handler.tasks.base import STRIDE, TRUNCATION, RowOutputs, Task
from bert_handler.tasks.instances import EncodedExample, Example, Model
from bert_handler.tasks.size import Size
from bert_handler.tasks.windows import mean_over_windows
from bert_handler.tokenization import Text, Truncation

MAX_LABELS = 256


class ZeroShotClassification(Task):
    """Labels compete (softmax over them) or, with `multi_label`, each is true or not on its own.

    A text that is too long is cut or windowed, never its hypothesis; logits of windows are averaged.
    """

    name = "zero_shot_classification"
    model_class = "AutoModelForSequenceClassification"
    has_labels = True
    accepts_tokens = False
    shares_text = True
    multiplies = True
    segments = ("text", "hypothesis")
    sample = MappingProxyType({"text": "A quick brown fox.", "candidate_labels": ["animals", "music"]})
    parameters = (
        Parameter(
            "candidate_labels", list, None, "labels to choose from; a list, or a,b,c", 1, MAX_LABELS, commas=True
        ),
        Parameter("hypothesis_template", str, "This example is {}.", "{} stands for the label"),
        Parameter("multi_label", bool, False, "score each label on its own"),
        TRUNCATION,
        STRIDE,
    )

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.entailment, self.contradiction = inference_ids(model.labels.names)

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        labels = self.model.config.parameters.get("candidate_labels")
        shape = (-1 if labels is None else len(labels),)
        return (
            OutputSpec("predict", "BYTES"),
            OutputSpec("score", "FP32"),
            OutputSpec("labels", "BYTES", shape),
            OutputSpec("scores", "FP32", shape),
        )

    def parse(self, instance: Instance, base: Mapping[str, Any]) -> Example:
        example = super().parse(instance, base)
        if example.parameters["candidate_labels"] is None:
            raise InvalidRequestError('candidate_labels is missing; send {"text": ..., "candidate_labels": [...]}')
        return example

    def texts(self, example: Example) -> list[Text]:
        template = example.parameters["hypothesis_template"]
        return [
            (example.fields["text"], template.replace("{}", label)) for label in example.parameters["candidate_labels"]
        ]

    def size(self, example: Example) -> Size:
        labels, template = example.parameters["candidate_labels"], example.parameters["hypothesis_template"]
        n_marks = template.count("{}")
        rest = len(example.fields["text"]) + len(template) - n_marks * len("{}")
        return Size(len(labels), len(labels) * rest + n_marks * sum(map(len, labels)))

    def truncation(self, example: Example) -> Truncation:
        return super().truncation(example)._replace(cut=0)

    def head(self, output: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"logits": output.logits.float()}

    def decode(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Mapping[str, Any]:
        parameters = encoded.example.parameters
        logits = [mean_over_windows(rows[own.start : own.stop], "logits") for own in encoded.row_ranges]
        scores = self._scores(np.stack(logits), multi_label=parameters["multi_label"])
        order = np.argsort(-scores, kind="stable")
        labels = tuple(parameters["candidate_labels"][i] for i in order)
        ordered = scores[order]
        return {"predict": labels[0], "score": ordered[0], "labels": labels, "scores": ordered}

    def decision(
        self,
        encoded: EncodedExample,
        rows: Sequence[RowOutputs],
        asked: Sequence[Any],
        references: Sequence[Prediction] = (),
    ) -> Decision:
        labels = list(encoded.example.parameters["candidate_labels"])
        ordered = self.decode(encoded, rows)
        scores = dict(zip(ordered["labels"], map(float, ordered["scores"])))
        ranges = encoded.row_ranges
        entailed = one_hot((len(self.model.labels),), [self.entailment])
        targets = []
        for label in [self._label(item, labels) for item in asked] or [ordered["predict"]]:
            own = ranges[labels.index(label)]
            targets.append(Target(label, mean_probes(own, "logits", entailed), scores[label]))
        return Decision(ordered["predict"], float(ordered["score"]), targets)

    @staticmethod
    def _label(asked: Any, labels: Sequence[str]) -> str:
        if isinstance(asked, int) and 0 <= asked < len(labels):
            return labels[asked]
        if isinstance(asked, str) and asked in labels:
            return asked
        raise InvalidRequestError(f"target: {unknown(str(asked), labels, 'candidate label')}")

    def _scores(self, logits: NDArray[np.float32], *, multi_label: bool) -> NDArray[np.float32]:
        if multi_label or len(logits) == 1:
            return softmax(logits[:, [self.contradiction, self.entailment]])[:, 1]
        return softmax(logits[:, self.entailment])

    def check_parameters(self, given: Mapping[str, Any], merged: Mapping[str, Any]) -> None:
        template = merged["hypothesis_template"]
        if "{}" not in template:
            raise InvalidRequestError("hypothesis_template must have {} where the label goes")
        self.check_text("hypothesis_template", template)
        for label in merged["candidate_labels"] or ():
            self.check_text("candidate_labels", label)
            if not label.strip():
                raise InvalidRequestError("candidate_labels has an empty label")


def inference_ids(labels: Sequence[str]) -> tuple[int, int]:
    """Find the indices of entailment and contradiction among an inference model's labels.

    Entailment is found by its name; contradiction is the first label, or the last where that is
    entailment.  Raises ConfigError where no label is an entailment: a guess would swap the answers.
    """
    found = next((i for i, label in enumerate(labels) if label.lower().startswith("entail")), None)
    if found is None or len(labels) < 2:
        raise ConfigError(
            "zero_shot_classification needs a model of natural language inference; none of its labels "
            f"({', '.join(labels)}) begins with 'entail': name them in index_to_name.json"
        )
    return found, len(labels) - 1 if found == 0 else 0
