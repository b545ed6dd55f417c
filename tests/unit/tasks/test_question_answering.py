"""Answers, compared with the decoding of Devlin et al. 2019 written out as loops.

transformers 5 has no question-answering pipeline any more; tests/transformers4 compares with the last one.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from bert_handler import Predictor
from bert_handler.errors import InvalidRequestError, RequestTooLargeError, UnservableError
from bert_handler.schema import Tokens
from bert_handler.tasks.question_answering import best_spans
from tests.zoo import CORPUS, ENCODERS

PAIRS = (
    ("Who met Obama?", "Angela Merkel met Barack Obama in Berlin on Monday."),
    ("Where?", "Zürich\r\n東京 Paris"),
    ("What is it?", "It."),
    ("Wer?", "Don't worry, it's only a test 😀."),
)


def spans_by_loops(predictor: Predictor, directory, question: str, context: str) -> tuple[dict[str, float], float]:
    """Score of each answer text in lower case, and of no answer."""
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(directory).eval()
    encoding = predictor.task.model.tokenizer.backend.encode(question, context)
    inputs = {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}
    names = predictor.task.model.tokenizer.spec.input_names
    with torch.no_grad():
        output = model(**{name: torch.tensor([value]) for name, value in inputs.items() if name in names})
    allowed = [0, *(i for i, sequence in enumerate(encoding.sequence_ids) if sequence == 1)]
    starts = output.start_logits[0, allowed].softmax(0).tolist()
    ends = output.end_logits[0, allowed].softmax(0).tolist()
    spans = []
    for i in range(1, len(allowed)):
        for j in range(i, min(i + 15, len(allowed))):
            first = encoding.word_to_chars(encoding.token_to_word(allowed[i]), 1)[0]
            last = encoding.word_to_chars(encoding.token_to_word(allowed[j]), 1)[1]
            spans.append((starts[i] * ends[j], context[first:last].lower()))
    scores: dict[str, float] = {}
    for score, text in sorted(spans, reverse=True)[:20]:
        scores[text] = scores.get(text, 0) + score
    return scores, starts[0] * ends[0]


@pytest.fixture
def predictor(zoo, load) -> Predictor:
    return load(zoo("bert", "question_answering"))


def ask(question: str, context: str, **parameters: object) -> dict[str, object]:
    return {"question": question, "context": context, **parameters}


@pytest.mark.parametrize("architecture", ENCODERS)
def test_equals_the_decoding_by_loops_alone_and_in_a_mixed_batch(architecture, zoo, load):
    directory = zoo(architecture, "question_answering")
    predictor = load(directory)
    batch = predictor.predict([ask(*pair, top_k=5) for pair in PAIRS])
    for pair, found in zip(PAIRS, batch):
        expected, _ = spans_by_loops(predictor, directory, *pair)
        assert {item["answer"].lower() for item in found["answers"]} <= set(expected)
        assert found["answers"][0]["score"] == pytest.approx(max(expected.values()), abs=1e-4)
        for item in found["answers"]:
            assert item["score"] == pytest.approx(expected[item["answer"].lower()], abs=1e-4)
            assert pair[1][item["start"] : item["end"]] == item["answer"]
        assert found["predict"] == found["answers"][0]["answer"]
        assert found["score"] == pytest.approx(found["answers"][0]["score"])
        alone = predictor.predict([ask(*pair, top_k=5)])[0]["answers"]
        assert [item["answer"] for item in alone] == [item["answer"] for item in found["answers"]]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert"])
def test_no_answer_competes_when_it_may(architecture, zoo, load):
    directory = zoo(architecture, "question_answering")
    for pair in PAIRS:
        found = load(directory).predict([ask(*pair, top_k=100, handle_impossible_answer=True)])[0]["answers"]
        null = next(item for item in found if not item["answer"])
        assert null["score"] == pytest.approx(spans_by_loops(load(directory), directory, *pair)[1], abs=1e-4)
        assert (null["start"], null["end"]) == (0, 0)
        assert [item["score"] for item in found] == sorted((item["score"] for item in found), reverse=True)


def test_best_spans_are_short_ordered_and_inside():
    starts = np.array([0.1, 0.6, 0.2, 0.1], dtype=np.float32)
    ends = np.array([0.7, 0.1, 0.1, 0.1], dtype=np.float32)
    assert best_spans(starts, ends, 1, 15)[0][1:] == (0, 0)
    assert best_spans(starts, ends, 3, 1) == [
        (pytest.approx(0.07), 0, 0),
        (pytest.approx(0.06), 1, 1),
        (pytest.approx(0.02), 2, 2),
    ]
    assert len(best_spans(starts, ends, 100, 15)) == 10
    assert best_spans(starts[:0], ends[:0], 5, 15) == []


@pytest.mark.parametrize("max_answer_tokens", [1, 3])
def test_answers_have_no_more_tokens_than_allowed(predictor, max_answer_tokens):
    context = "a b c d e f g h i j k l m n o p"
    found = predictor.predict([ask("q", context, top_k=50, max_answer_tokens=max_answer_tokens)])[0]["answers"]
    assert max(len(item["answer"].split()) for item in found) == max_answer_tokens


@pytest.mark.parametrize("architecture", ENCODERS)
def test_a_long_context_is_windowed(architecture, zoo, load):
    predictor = load(zoo(architecture, "question_answering"))
    context = " ".join(CORPUS[:7])
    found = predictor.predict([ask("Who?", context, top_k=100, stride=8)])[0]
    assert not found.truncated
    assert {item["start"] * 4 // len(context) for item in found["answers"]} == {0, 1, 2, 3}
    for item in found["answers"]:
        assert context[item["start"] : item["end"]] == item["answer"]
    cut = predictor.predict([ask("Who?", context, top_k=100, truncation="truncate")])[0]
    assert cut.truncated
    assert max(item["end"] for item in cut["answers"]) < len(context) / 2


@pytest.mark.parametrize("field", ["question", "context"])
@pytest.mark.parametrize("text", ["", " ", "\r\n"])
def test_an_empty_field_is_refused(predictor, field, text):
    with pytest.raises(InvalidRequestError, match=f"{field} is empty"):
        predictor.predict([{"question": "a", "context": "b", field: text}])


def test_a_context_without_tokens_is_refused_unless_no_answer_is_one(predictor):
    nothing = "\N{ZERO WIDTH SPACE}\x00"
    with pytest.raises(InvalidRequestError, match="no token"):
        predictor.predict([ask("a", nothing)])
    found = predictor.predict([ask("a", nothing, handle_impossible_answer=True)])[0]
    assert found["predict"] == ""


def test_unknown_tokens_are_answers_too(predictor):
    assert predictor.predict([ask("a", "ǂǂ")])[0]["answers"][0]["answer"] == "ǂǂ"


def test_a_hundred_thousand_characters(predictor):
    context = "a " * 50_000
    with pytest.raises(RequestTooLargeError, match="windows"):
        predictor.predict([ask("Where?", context, stride=30)])
    assert predictor.predict([ask("Where?", context[:30_000], stride=0)])[0]["predict"]
    assert predictor.predict([ask("Where?", context, truncation="truncate")])[0].truncated
    with pytest.raises(RequestTooLargeError, match="truncation"):
        predictor.predict([ask("Where?", context, truncation="error")])
    with pytest.raises(RequestTooLargeError, match="no token of context fits beside question"):
        predictor.predict([ask(context, "Berlin")])


def test_a_batch_of_a_thousand(predictor):
    pairs = [ask(CORPUS[i % 24][: 5 + i % 20], CORPUS[i % 23][: 5 + i % 60]) for i in range(1000)]
    found = predictor.predict(pairs)
    for i in (0, 77, 999):
        assert found[i]["answers"][0]["answer"] == predictor.predict([pairs[i]])[0]["answers"][0]["answer"]


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ("a text", "context is missing"),
        ({"question": "a"}, "context is missing"),
        ({"question": "a", "context": 3}, "context must be a string"),
        ({"question": "a", "context": "b", "top_k": 0}, "top_k"),
        ({"question": "a", "context": "b", "max_answer_tokens": 0}, "max_answer_tokens"),
    ],
)
def test_what_cannot_be_asked_is_refused(predictor, instance, message):
    with pytest.raises(InvalidRequestError, match=message):
        predictor.predict([instance])


def test_token_ids_are_refused(predictor):
    with pytest.raises(UnservableError):
        predictor.predict([Tokens({"input_ids": np.array([2, 5, 3])})])
