"""Find the answer to a question in a context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bert_handler.decisions import Decision, Probe, Target, one_hot
from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import Parameter
from bert_handler.schema import FloatArray, Instance, IntArray, OutputSpec, Prediction
from bert_handler.scores import softmax
from bert_handler.tasks.base import TRUNCATIONS, RowOutputs, Task
from bert_handler.tasks.instances import EncodedExample, Example
from bert_handler.tokenization import Encoded, Text, Truncation

UNANSWERABLE = "context has no token that could be an answer"


class QuestionAnswering(Task):
    """Spans of the context by the product of their ends' probabilities (Devlin et al. 2019, section 4.2)."""

    name = "question_answering"
    model_class = "AutoModelForQuestionAnswering"
    architectures = ("ForQuestionAnswering",)
    fields = ("question", "context")
    segments = ("question", "context")
    needs_offsets = True
    accepts_tokens = False
    parameters = (
        Parameter("top_k", int, 1, "how many answers `answers` has at most", minimum=1, maximum=100),
        Parameter("handle_impossible_answer", bool, False, "the empty answer competes with the others"),
        Parameter("max_answer_tokens", int, 15, "most tokens of an answer", minimum=1, maximum=512),
        Parameter("truncation", str, "stride", "what happens to a context that is too long", choices=TRUNCATIONS),
        Parameter("stride", int, 128, "tokens that two windows of a context share", minimum=0),
    )
    sample: Instance = MappingProxyType(
        {"question": "What does the fox jump over?", "context": "The fox jumps over the dog."}
    )

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        return OutputSpec("predict", "BYTES"), OutputSpec("score", "FP32"), OutputSpec("answers", "BYTES")

    def read_field(self, name: str, value: Any) -> str:
        text = self.check_text(name, value)
        if not text.strip():
            raise InvalidRequestError(f"{name} is empty; send {self._form()}")
        return text

    def texts(self, example: Example) -> list[Text]:
        return [(example.fields["question"], example.fields["context"])]

    def truncation(self, example: Example) -> Truncation:
        return super().truncation(example)._replace(cut=1)

    def head(self, output: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"start": output.start_logits.float(), "end": output.end_logits.float()}

    def decode(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Mapping[str, Any]:
        best = self._answers(encoded, rows)[: encoded.example.parameters["top_k"]]
        return {"predict": best[0]["answer"], "score": np.float32(best[0]["score"]), "answers": best}

    def _answers(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> list[dict[str, Any]]:
        """The answers that were looked at, the best one first; more than `top_k` where there are more."""
        parameters = encoded.example.parameters
        spans = Spans(encoded.sequences[0], encoded.example.fields["context"])
        for kept, row in zip(encoded.sequences[0].windows, rows):
            start, end = (self.unpadded(row[name], len(kept)) for name in ("start", "end"))
            spans.add(kept, start, end, parameters["top_k"], parameters["max_answer_tokens"])
        answers = list(spans.answers.values())
        if parameters["handle_impossible_answer"]:
            answers.append({"answer": "", "score": spans.null_score, "start": 0, "end": 0})
        if not answers:
            raise InvalidRequestError(UNANSWERABLE)
        return sorted(answers, key=lambda answer: -float(answer["score"]))

    def decision(
        self,
        encoded: EncodedExample,
        rows: Sequence[RowOutputs],
        asked: Sequence[Any],
        references: Sequence[Prediction] = (),
    ) -> Decision:
        """The logits of the answer's first and last token, in the window that has the answer surest.

        Where the model decides that there is none, they are those of the best one beside that.
        """
        context = encoded.example.fields["context"]
        spans = Spans(encoded.sequences[0], context)
        decided = self._answers(encoded, rows)
        given = [answer for answer in decided if answer["answer"]]
        if not given and not asked:
            raise InvalidRequestError(UNANSWERABLE)
        answers = [self._answer_of(item, given, context) for item in asked or [0]]
        targets = [self._target(answer, spans, encoded.sequences[0], rows) for answer in answers]
        return Decision(decided[0]["answer"], float(decided[0]["score"]), targets)

    @staticmethod
    def _answer_of(target: Any, given: Sequence[Mapping[str, Any]], context: str) -> Mapping[str, Any]:
        """The answer of that text, wherever it stands in the context, or of that rank among the model's."""
        if isinstance(target, int):
            if not 0 <= target < len(given):
                raise InvalidRequestError(f"target {target}: the model has {len(given)} answers, the best is target 0")
            return given[target]
        known = next((answer for answer in given if answer["answer"] == target), None)
        if known is not None:
            return known
        start = context.find(target) if target else -1
        if start < 0:
            raise InvalidRequestError("target: must be a text that stands in the context, or the rank of an answer")
        return {"answer": target, "score": None, "start": start, "end": start + len(target)}

    def _target(self, answer: Mapping[str, Any], spans: Spans, sequence: Encoded, rows: Sequence[RowOutputs]) -> Target:
        found = []
        for index, (kept, row) in enumerate(zip(sequence.windows, rows)):
            tokens = spans.tokens(kept, answer["start"], answer["end"])
            if len(tokens):
                start, end = (self.unpadded(row[name], len(kept))[tokens] for name in ("start", "end"))
                first, last = surest(start, end)
                found.append((float(start[first] + end[last]), index, int(tokens[first]), int(tokens[last]), len(kept)))
        if not found:
            raise InvalidRequestError("the answer is in a part of the context that was cut")
        _, index, first, last, length = max(found)
        parts = {
            "start": [Probe(index, "start", one_hot((length,), [first]))],
            "end": [Probe(index, "end", one_hot((length,), [last]))],
        }
        score = None if answer["score"] is None else float(answer["score"])
        return Target(answer["answer"], parts, score, {"start": answer["start"], "end": answer["end"]})


class Spans:
    """The answers that the windows of one context hold.

    answers: by their text in lower case, with characters of the context; one that is found again adds to
        the score.  null_score: that of no answer, the least of all windows.
    """

    def __init__(self, sequence: Encoded, context: str) -> None:
        assert sequence.encoding is not None
        encoding = sequence.encoding
        self.answers: dict[str, dict[str, Any]] = {}
        self.null_score = 1.0
        self._context = context
        self._in_context = np.array([item == 1 for item in encoding.sequence_ids], dtype=bool)
        self._words = np.array([-1 if word is None else word for word in encoding.word_ids])
        self._offsets = encoding.offsets
        # The first special token takes part: its probability is that of no answer.
        self._null = [0] if encoding.special_tokens_mask[0] == 1 else []

    def add(self, window: IntArray, start: FloatArray, end: FloatArray, top_k: int, max_tokens: int) -> None:
        """Add the best answers of one window; start, end: its logits, float32 (L,)."""
        places = np.flatnonzero(self._in_context[window])
        allowed = np.concatenate([np.array(self._null, dtype=np.int64), places])
        if not len(places):
            return
        starts, ends = softmax(start[allowed]), softmax(end[allowed])
        n_null = len(self._null)
        self.null_score = min(self.null_score, float((starts[:n_null] * ends[:n_null]).sum()))
        # Several spans may become one answer, so more of them are looked at.
        for score, first, last in best_spans(starts[n_null:], ends[n_null:], top_k * 2 + 10, max_tokens):
            begin, finish = self._characters(window[places], first, last)
            text = self._context[begin:finish]
            answer = self.answers.setdefault(
                text.lower(), {"answer": text, "score": 0.0, "start": begin, "end": finish}
            )
            answer["score"] += score

    def tokens(self, window: IntArray, start: int, end: int) -> IntArray:
        """Places in a window of the context's tokens between two characters; none where one is missing."""
        inside = self._in_context & np.array([a < end and b > start for a, b in self._offsets])
        places = np.flatnonzero(inside[window])
        whole = len(places) == int(inside.sum())
        return places if whole else places[:0]

    def _characters(self, tokens: IntArray, first: int, last: int) -> tuple[int, int]:
        words = self._words[tokens]
        if words[first] < 0 or words[last] < 0:
            return self._offsets[tokens[first]][0], self._offsets[tokens[last]][1]
        # Whole words, as far as this window has them.
        begin = np.flatnonzero(words == words[first])[0]
        finish = np.flatnonzero(words == words[last])[-1]
        return self._offsets[tokens[begin]][0], self._offsets[tokens[finish]][1]


def surest(start: FloatArray, end: FloatArray) -> tuple[int, int]:
    """The first and last of neighbouring tokens whose logits are highest together, in this order."""
    sums = np.where(np.triu(np.ones((len(start), len(end)), dtype=bool)), start[:, None] + end, -np.inf)
    first, last = divmod(int(sums.argmax()), len(end))
    return first, last


def best_spans(starts: FloatArray, ends: FloatArray, n_spans: int, max_tokens: int) -> list[tuple[float, int, int]]:
    """The best spans of up to `max_tokens` tokens: score, first and last token, the best one first.

    starts, ends: probabilities, float32 (L,).
    """
    if not len(starts):
        return []
    width = min(max_tokens, len(starts))
    # scores[i, n] is that of the n + 1 tokens from token i on; behind the end nothing can be.
    following = np.concatenate([ends, np.full(width - 1, -1, dtype=ends.dtype)])
    scores = (starts[:, None] * sliding_window_view(following, width)).ravel()
    n_spans = min(n_spans, len(scores))
    best = np.argpartition(-scores, n_spans - 1)[:n_spans]
    best = best[np.argsort(-scores[best], kind="stable")]
    spans = ((float(scores[i]), *divmod(int(i), width)) for i in best)
    return [(score, first, first + more) for score, first, more in spans if first + more < len(starts)]
