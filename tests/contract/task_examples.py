"""One request for each task, on models that the tests make: what the README's table shows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """An instance of a task, its model in the zoo, and the outputs that are asked for.

    real: the real weights that the README shows instead of the zoo's, where there are any.
    """

    task: str
    model: tuple[str, str]
    instance: Any
    outputs: tuple[str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    real: str = ""

    def v2(self) -> bytes:
        """The request as V2 JSON, the instance in one BYTES element."""
        text = self.instance if isinstance(self.instance, str) else json.dumps(self.instance)
        tensor = {"name": "instance", "shape": [1], "datatype": "BYTES", "data": [text]}
        outputs = [{"name": name} for name in self.outputs]
        return json.dumps(
            {"id": self.task, "inputs": [tensor], "outputs": outputs, "parameters": self.parameters}
        ).encode()

    def v1(self) -> bytes:
        """The request as V1 JSON."""
        body = {"instances": [self.instance], "parameters": self.parameters, "outputs": list(self.outputs)}
        return json.dumps(body).encode()


NLI = {
    "id2label": {0: "contradiction", 1: "neutral", 2: "entailment"},
    "label2id": {"contradiction": 0, "neutral": 1, "entailment": 2},
}

EXAMPLES = (
    Example(
        "sequence_classification",
        ("bert", "sequence_classification"),
        "A moving, beautifully acted triumph.",
        ("predict", "score"),
        real="sentiment",
    ),
    Example(
        "token_classification",
        ("distilbert", "token_classification"),
        "Justin Bieber lives in London",
        ("predict",),
        real="ner",
    ),
    Example(
        "question_answering",
        ("roberta", "question_answering"),
        {"question": "Who sat?", "context": "The cat sat on the mat."},
        ("predict", "answers"),
        {"top_k": 2},
    ),
    Example("text_generation", ("gpt2", "generation"), "the dog", ("predict", "finish_reason"), {"max_new_tokens": 8}),
    Example(
        "text_embedding", ("mpnet", "embedding"), "the cat sat", ("embedding",), {"normalize": True}, real="encoder"
    ),
    Example("fill_mask", ("bert", "fill_mask"), "the [MASK] sat", ("predict",), {"top_k": 2}),
    Example(
        "zero_shot_classification",
        ("bert", "sequence_classification"),
        {"text": "the cat sat", "candidate_labels": ["animals", "houses"]},
        ("predict", "labels", "scores"),
        config=NLI,
    ),
    Example(
        "text_ranking",
        ("electra", "sequence_classification"),
        {"query": "cat", "documents": ["a dog ran", "the cat sat"]},
        ("predict", "scores"),
        config={"num_labels": 1},
    ),
)
