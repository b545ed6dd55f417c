"""Order documents by how well they answer a query, with a cross-encoder that reads both at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bert_handler import jsonio
from bert_handler.decisions import Decision, Probe, Target, one_hot
from bert_handler.errors import ConfigError, InvalidRequestError
from bert_handler.parameters import Parameter, describe, whole_number
from bert_handler.schema import FloatArray, OutputSpec, Prediction
from bert_handler.scores import sigmoid
from bert_handler.tasks.base import STRIDE, TRUNCATION, RowOutputs, Task
from bert_handler.tasks.instances import EncodedExample, Example, Model
from bert_handler.tasks.size import Size
from bert_handler.tokenization import Text

MAX_DOCUMENTS = 1024
FUNCTIONS = {"Sigmoid": "sigmoid", "Identity": "none"}


class TextRanking(Task):
    """`predict` has the documents' indices, the best first; `scores` are in the documents' order.

    With `truncation: stride` a document is as good as its best window (MaxP, Dai and Callan 2019).
    """

    name = "text_ranking"
    model_class = "AutoModelForSequenceClassification"
    has_labels = True
    accepts_tokens = False
    shares_text = True
    multiplies = True
    fields = ("query", "documents")
    segments = ("query", "document")
    sample = MappingProxyType({"query": "What jumps?", "documents": ["A fox jumps.", "A dog sleeps."]})
    parameters = (
        Parameter("top_k", int, None, "answer with the k best documents", 1),
        Parameter(
            "function_to_apply",
            str,
            "default",
            "what makes the logit a score; default: the model's own, else sigmoid",
            choices=("default", "sigmoid", "none"),
        ),
        TRUNCATION,
        STRIDE,
    )

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        if len(model.labels) != 1:
            raise ConfigError(f"{self.name} needs a model with one output; this one has {len(model.labels)}")
        self.function = str(model.config.parameters["function_to_apply"])
        if self.function == "default":
            self.function = stated_function(model.model_config, model.directory)

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        return OutputSpec("predict", "BYTES"), OutputSpec("scores", "FP32", (-1,))

    def read_field(self, name: str, value: Any) -> Any:
        if name == "query":
            return self.check_text(name, value)
        return [self.check_text(f"documents[{i}]", document) for i, document in enumerate(documents_of(value))]

    def texts(self, example: Example) -> list[Text]:
        return [(example.fields["query"], document) for document in example.fields["documents"]]

    def size(self, example: Example) -> Size:
        query, documents = example.fields["query"], example.fields["documents"]
        return Size(len(documents), len(documents) * len(query) + sum(map(len, documents)))

    def head(self, output: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"logits": output.logits.float()}

    def decode(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Mapping[str, Any]:
        parameters = encoded.example.parameters
        logits = np.array([row["logits"][0] for row in rows], dtype=np.float32)
        best = np.maximum.reduceat(logits, [own.start for own in encoded.row_ranges])
        scores = self._scored(best, parameters)
        order = np.argsort(-scores, kind="stable")[: parameters["top_k"]]
        return {"predict": order.tolist(), "scores": scores}

    def decision(
        self,
        encoded: EncodedExample,
        rows: Sequence[RowOutputs],
        asked: Sequence[Any],
        references: Sequence[Prediction] = (),
    ) -> Decision:
        logits = np.array([row["logits"][0] for row in rows], dtype=np.float32)
        ranges = encoded.row_ranges
        windows = [logits[own.start : own.stop] for own in ranges]
        scores = self._scored(np.array([own.max() for own in windows], dtype=np.float32), encoded.example.parameters)
        best = int(scores.argmax())
        targets = []
        for index in [self._document(item, encoded.example.fields["documents"]) for item in asked] or [best]:
            row = ranges[index][int(windows[index].argmax())]
            parts = {"": [Probe(row, "logits", one_hot((1,), [0]))]}
            targets.append(Target(str(index), parts, float(scores[index])))
        return Decision(str(best), float(scores[best]), targets)

    def _scored(self, logits: FloatArray, parameters: Mapping[str, Any]) -> FloatArray:
        asked = parameters["function_to_apply"]
        return sigmoid(logits) if (self.function if asked == "default" else asked) == "sigmoid" else logits

    @staticmethod
    def _document(asked: Any, documents: Sequence[str]) -> int:
        index = whole_number(asked) if isinstance(asked, str) else asked
        if isinstance(index, int) and 0 <= index < len(documents):
            return index
        raise InvalidRequestError(f"target: must be the index of a document, from 0 to {len(documents) - 1}")


def documents_of(value: Any) -> list[Any]:
    """The documents of one instance: a list, or its JSON as text where a tensor carries it."""
    documents = value
    if isinstance(value, str):
        try:
            documents = jsonio.loads(value)
        except ValueError:
            documents = value
    if not isinstance(documents, list):
        raise InvalidRequestError(f"documents must be a list of strings, not {describe(value)}")
    if not 1 <= len(documents) <= MAX_DOCUMENTS:
        raise InvalidRequestError(f"documents has {len(documents)} entries; it must be 1 to {MAX_DOCUMENTS}")
    return documents


def stated_function(model_config: Mapping[str, Any], directory: Path | None) -> str:
    """What the model's files say about its score, as sentence-transformers has stored it over time."""
    stated = None
    if directory is not None:
        stated = jsonio.read_file(directory / "config_sentence_transformers.json", dict).get("activation_fn")
    if stated is None:
        stated = (model_config.get("sentence_transformers") or {}).get("activation_fn")
    if stated is None:
        stated = model_config.get("sbert_ce_default_activation_function")
    name = "Sigmoid" if stated is None else str(stated).rpartition(".")[2]
    if name not in FUNCTIONS:
        raise ConfigError(f"the model's activation {stated!r} is not supported; set function_to_apply")
    return FUNCTIONS[name]
